//! Who else may read what is secret.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bugle_provider::Finding;

use crate::config::Settings;

/// Read, write or enter, for everybody else.
const OTHERS: u32 = 0o007;

pub(super) fn check(settings: &Settings, config: Option<&Path>) -> Vec<Finding> {
    let mut found = Vec::new();
    let alone = !settings.store.url.is_postgres();
    let key = alone.then(|| settings.data.dir.join("api-key"));
    let database = bugle_store::sqlite::path(&settings.store, &settings.data.dir).ok();
    // In a directory that only its owner may enter it does not matter what a file in it allows.
    let guarded = mode(&settings.data.dir).is_ok_and(|mode| mode & OTHERS == 0);
    let mut files: Vec<(&str, PathBuf, bool)> = Vec::new();
    files.extend(key.map(|path| ("API key file", path, guarded)));
    if let Some(path) = database.filter(|_| alone) {
        let inside = guarded && path.starts_with(&settings.data.dir);
        files.push(("database file", path, inside));
    }
    if settings.fcm.is_on() {
        files.push((
            "FCM credentials file",
            PathBuf::from(&settings.fcm.credentials_file),
            false,
        ));
    }
    // What comes from the environment is not in the file; whoever has both is warned in vain.
    let holds_secrets = !settings.api.keys.is_empty() || !alone;
    if let Some(path) = config.filter(|_| holds_secrets) {
        files.push(("configuration file", path.to_owned(), false));
    }
    found.extend(
        files
            .into_iter()
            .filter_map(|(item, path, guarded)| readers(item, &path, guarded)),
    );
    found.push(keys(settings));
    found
}

/// `None` if there is no such file: nothing is to be kept then.
fn readers(item: &str, path: &Path, guarded: bool) -> Option<Finding> {
    let shown = path.display();
    match mode(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(Finding::failed(
            item,
            format!("{shown}: {error}"),
            "let bugle's user read it",
        )),
        Ok(mode) if mode & OTHERS == 0 || guarded => Some(Finding::ok(item, format!("{shown}: mode {mode:o}"))),
        Ok(mode) => Some(Finding::failed(
            item,
            format!("{shown}: mode {mode:o} lets every user of this machine at it"),
            format!("chmod o= {shown}"),
        )),
    }
}

fn mode(path: &Path) -> std::io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

fn keys(settings: &Settings) -> Finding {
    const ITEM: &str = "API keys";
    if let Some(problem) = settings.missing_keys() {
        return Finding::failed(ITEM, problem, "set api.keys, the same for all processes");
    }
    if settings.api.insecure {
        return Finding::skipped(ITEM, "api.insecure is on: whoever reaches the API may use it");
    }
    match settings.api.keys.len() {
        0 if settings.data.dir.join("api-key").exists() => Finding::ok(ITEM, "the one in the data directory"),
        0 => Finding::ok(ITEM, "none yet; `bugle serve` makes one and prints it"),
        number => Finding::ok(ITEM, format!("{number} in the configuration")),
    }
}

#[cfg(test)]
mod tests {
    use bugle_provider::State;

    use super::*;

    #[test]
    fn what_everybody_may_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert_eq!(readers("x", &path, false), None);
        std::fs::write(&path, "s").unwrap();
        let with = |mode, guarded| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            readers("x", &path, guarded).unwrap().state
        };
        assert_eq!(with(0o600, false), State::Ok);
        assert_eq!(with(0o640, false), State::Ok);
        assert_eq!(with(0o644, false), State::Failed);
        assert_eq!(with(0o644, true), State::Ok);
    }
}
