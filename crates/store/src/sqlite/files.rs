//! Which files a database consists of, and who may read them.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The database's file, by the setting `[store] url`.
pub(super) fn database(url: &str, data_dir: &Path) -> Result<PathBuf> {
    match url.split_once(':') {
        None if url == "sqlite" => Ok(data_dir.join("bugle.db")),
        Some(("sqlite", path)) if !path.is_empty() => Ok(PathBuf::from(path)),
        // The rest of an address may hold a password.
        other => Err(Error::Setup(format!(
            "[store] url: expected sqlite or sqlite:PATH, got {:?}",
            other.map_or(url, |(scheme, _)| scheme)
        ))),
    }
}

/// Creates a directory that only its owner may enter, with those above it. One that exists stays as it is.
pub(super) fn create_dir(dir: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|error| not_writable(dir, &error))
}

/// Creates a file that only its owner may read, if there is none, and returns its path without symbolic links. `SQLite` gives the
/// files beside it the same permissions.
pub(super) fn create_file(path: &Path) -> Result<PathBuf> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    private(&mut options)
        .open(path)
        .and_then(|_| path.canonicalize())
        .map_err(|error| not_writable(path, &error))
}

/// Files made with these options can be read by their owner only.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// What to tell somebody whose directory does not let bugle write.
pub(super) fn not_writable(path: &Path, error: &io::Error) -> Error {
    Error::Setup(format!(
        "cannot write to {}: {error}. bugle keeps its data there: set [data] dir to a directory that it may create or write to",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_names_the_file() {
        let dir = Path::new("/data");
        assert_eq!(database("sqlite", dir).unwrap(), Path::new("/data/bugle.db"));
        assert_eq!(database("sqlite:/x/y.db", dir).unwrap(), Path::new("/x/y.db"));
        for wrong in ["", "sqlite:", "sqlit", "postgres://bugle:geheim@db/bugle"] {
            let error = database(wrong, dir).unwrap_err().to_string();
            assert!(error.starts_with("[store] url: "), "{error}");
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
