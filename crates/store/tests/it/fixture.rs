//! Fresh stores for tests.

use std::path::Path;
use std::sync::Arc;

use bugle_model::PageRef;
use bugle_store::{Config, Handover, Registry, Result, sqlite};
use bugle_testkit::TestClock;

use crate::backend::{Backend, Place};

/// Nobody listens.
pub(crate) struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

/// A registry in a place of its own, which goes with it.
pub(crate) struct Fresh {
    pub(crate) store: Arc<dyn Registry>,
    pub(crate) place: Place,
}

impl Fresh {
    pub(crate) async fn new(backend: Backend) -> Self {
        let place = backend.place();
        Self {
            store: registry(&place).await,
            place,
        }
    }

    /// Closes the store and opens it again.
    pub(crate) async fn reopen(self) -> Self {
        assert_eq!(Arc::strong_count(&self.store), 1, "somebody else has the store");
        drop(self.store);
        Self {
            store: registry(&self.place).await,
            place: self.place,
        }
    }

    /// The store of another process on the same database.
    pub(crate) async fn another(&self) -> Arc<dyn Registry> {
        registry(&self.place).await
    }
}

async fn registry(place: &Place) -> Arc<dyn Registry> {
    let config = Config::default();
    let opened = place.registry(&config, Arc::new(TestClock::new()), Arc::new(Deaf));
    opened.await.unwrap()
}

pub(crate) fn open(dir: &Path) -> Result<Arc<sqlite::Store>> {
    open_with(&Config::default(), dir)
}

pub(crate) fn open_with(config: &Config, dir: &Path) -> Result<Arc<sqlite::Store>> {
    sqlite::open(config, dir, Arc::new(TestClock::new()), Arc::new(Deaf))
}
