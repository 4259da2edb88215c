//! One bugle per database: exclusive locks on files beside it.
//!
//! The operating system gives a lock back when its process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::files;
use crate::{Error, Result};

/// Held as long as it lives.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who is in the way.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = files::private(&mut options)
            .open(path)
            .map_err(|error| files::not_writable(path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Setup(format!(
                "another bugle is running on this data: it holds the lock {}. Stop it first, or give this one a directory of its own ([data] dir)",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(Error::Setup(format!(
                "cannot lock {}: {error}. The data directory must be on a file system with file locks",
                path.display()
            ))),
        }
    }
}
