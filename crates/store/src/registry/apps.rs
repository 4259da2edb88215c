//! App names and the small integers that stand for them in rows.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

use bugle_model::AppId;

use crate::{Error, Result};

/// Apps that this process has met, with their numbers. There are as many as the configuration names, so all are kept; a number is never given to another app.
pub(crate) struct Names<K>(RwLock<Maps<K>>);

struct Maps<K> {
    keys: HashMap<AppId, K>,
    names: HashMap<K, AppId>,
}

impl<K> Default for Names<K> {
    fn default() -> Self {
        Self(RwLock::new(Maps {
            keys: HashMap::new(),
            names: HashMap::new(),
        }))
    }
}

impl<K: Copy + Eq + Hash> Names<K> {
    /// The app's number, if it is known.
    pub(crate) fn key(&self, app: &AppId) -> Option<K> {
        let maps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        maps.keys.get(app).copied()
    }

    /// The app of a number, if it is known.
    pub(crate) fn name(&self, key: K) -> Option<AppId> {
        let maps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        maps.names.get(&key).cloned()
    }

    /// Only what is committed: a number that is rolled back may be given to another app.
    pub(crate) fn remember(&self, key: K, app: &AppId) {
        let mut maps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        maps.keys.insert(app.clone(), key);
        maps.names.insert(key, app.clone());
    }
}

/// The name that stands in a row.
pub(crate) fn parse(name: &str) -> Result<AppId> {
    AppId::parse(name).map_err(|e| Error::corrupt("apps.name", e.problem))
}
