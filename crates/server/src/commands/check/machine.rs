//! What the machine gives: a directory, a database, room on the disk.

use std::path::Path;

use bugle_provider::Finding;

use crate::config::Settings;

/// With less free space a broadcast's ledger and the database's log may not fit.
const ENOUGH: u64 = 256 * 1024 * 1024;

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    if settings.store.url.is_postgres() {
        // Nothing is kept on this machine.
        return Vec::new();
    }
    vec![
        directory(&settings.data.dir),
        database(settings),
        disk(&settings.data.dir),
    ]
}

fn directory(dir: &Path) -> Finding {
    const ITEM: &str = "data directory";
    let shown = dir.display();
    let there = existing(dir);
    // A trial is the only test that knows of read-only file systems, quotas and access lists.
    let tried = tempfile::Builder::new().prefix(".bugle-check-").tempfile_in(there);
    match tried {
        Err(error) => Finding::failed(
            ITEM,
            format!("cannot write to {}: {error}", there.display()),
            "set data.dir to a directory that bugle's user may write to, or give it that right",
        ),
        Ok(_) if there == dir => Finding::ok(ITEM, format!("{shown} can be written to")),
        Ok(_) => Finding::ok(ITEM, format!("{shown} is not there yet; `bugle serve` makes it")),
    }
}

/// The directory, or the nearest one above it that is there.
fn existing(dir: &Path) -> &Path {
    let mut ancestors = dir.ancestors().map(|dir| {
        if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        }
    });
    ancestors.find(|dir| dir.exists()).unwrap_or(Path::new("."))
}

fn database(settings: &Settings) -> Finding {
    const ITEM: &str = "database";
    let path = match bugle_store::sqlite::path(&settings.store, &settings.data.dir) {
        Ok(path) => path,
        Err(error) => return Finding::failed(ITEM, error.to_string(), "correct store.url"),
    };
    let shown = path.display();
    if !path.exists() {
        let who = if settings.store.migrate { "serve" } else { "migrate" };
        return Finding::ok(ITEM, format!("{shown} is not there yet; `bugle {who}` makes it"));
    }
    match bugle_store::sqlite::form(&settings.store, &settings.data.dir) {
        Ok((form, known)) if form == known => {
            Finding::ok(ITEM, format!("{shown} has form {form}, as this version writes it"))
        }
        Ok((form, known)) if settings.store.migrate => Finding::ok(
            ITEM,
            format!("{shown} has the older form {form}; `bugle serve` will bring it to {known}: make a backup first"),
        ),
        Ok((form, known)) => Finding::failed(
            ITEM,
            format!("{shown} has the older form {form}, this version needs {known}, and store.migrate is false"),
            "stop the server, make a backup, and run `bugle migrate`",
        ),
        Err(error) => Finding::failed(
            ITEM,
            error.to_string(),
            "see to what is said, or set store.url to another file",
        ),
    }
}

fn disk(dir: &Path) -> Finding {
    const ITEM: &str = "disk";
    let there = existing(dir);
    match rustix::fs::statvfs(there) {
        Err(error) => Finding::skipped(ITEM, format!("{}: {error}", there.display())),
        Ok(system) => {
            let free = system.f_bavail.saturating_mul(system.f_frsize);
            let words = format!("{} MiB free at {}", free / 1024 / 1024, there.display());
            if free >= ENOUGH {
                return Finding::ok(ITEM, words);
            }
            let remedy = format!(
                "make room, at least {} MiB: what cannot be written down is refused",
                ENOUGH / 1024 / 1024
            );
            Finding::failed(ITEM, words, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_yet_is_looked_for_above() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        assert_eq!(existing(&deep), dir.path());
        assert_eq!(existing(Path::new("not-there")), Path::new("."));
        let found = directory(&deep);
        assert!(found.finding.contains("not there yet"), "{found:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }
}
