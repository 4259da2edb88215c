//! Fresh stores for tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::PageRef;
use bugle_store::{Config, Error, Handover, Result, Store, sqlite};
use bugle_testkit::TestClock;

use crate::backend::{Backend, Place};

/// Nobody listens.
pub(crate) struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

/// A store in a place of its own, which goes with it.
pub(crate) struct Fresh {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) place: Place,
}

impl Fresh {
    pub(crate) async fn new(backend: Backend) -> Self {
        let place = backend.place();
        Self {
            store: opened(&place).await,
            place,
        }
    }

    /// Closes the store and opens it again.
    pub(crate) async fn reopen(self) -> Self {
        assert_eq!(Arc::strong_count(&self.store), 1, "somebody else has the store");
        drop(self.store);
        Self {
            store: opened(&self.place).await,
            place: self.place,
        }
    }

    /// The stores of as many processes as there may be: two on PostgreSQL.
    pub(crate) async fn processes(&self) -> Vec<Arc<dyn Store>> {
        let mut stores = vec![Arc::clone(&self.store)];
        if matches!(self.place, Place::Postgres(_)) {
            stores.push(opened(&self.place).await);
        }
        stores
    }
}

async fn opened(place: &Place) -> Arc<dyn Store> {
    let config = Config::default();
    // Another test may be starting a program: for a moment its child has a copy of the file that SQLite's lock is on.
    for _ in 0..200 {
        match place.open(&config, Arc::new(TestClock::new()), Arc::new(Deaf)).await {
            Err(Error::Setup(text)) if text.contains("another bugle") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            store => return store.unwrap(),
        }
    }
    panic!("the store does not open")
}

pub(crate) fn open(dir: &Path) -> Result<Arc<sqlite::Store>> {
    open_with(&Config::default(), dir)
}

pub(crate) fn open_with(config: &Config, dir: &Path) -> Result<Arc<sqlite::Store>> {
    sqlite::open(config, dir, Arc::new(TestClock::new()), Arc::new(Deaf))
}
