//! Fresh stores for tests.

use std::path::Path;
use std::sync::Arc;

use bugle_model::PageRef;
use bugle_store::{Config, Handover, Result, sqlite};
use bugle_testkit::TestClock;
use tempfile::TempDir;

/// Nobody listens.
pub(crate) struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

/// A store on a directory of its own, which goes with it.
pub(crate) struct Fresh {
    pub(crate) store: Arc<sqlite::Store>,
    pub(crate) dir: TempDir,
}

impl Fresh {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            store: open(dir.path()).unwrap(),
            dir,
        }
    }

    /// Closes the store and opens it again.
    pub(crate) fn reopen(self) -> Self {
        drop(Arc::into_inner(self.store).expect("nobody else has the store"));
        Self {
            store: open(self.dir.path()).unwrap(),
            dir: self.dir,
        }
    }
}

pub(crate) fn open(dir: &Path) -> Result<Arc<sqlite::Store>> {
    open_with(&Config::default(), dir)
}

pub(crate) fn open_with(config: &Config, dir: &Path) -> Result<Arc<sqlite::Store>> {
    sqlite::open(config, dir, Arc::new(TestClock::new()), Arc::new(Deaf))
}
