//! The quotas of providers: in memory, for there is one process, and its own clock tells the time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bugle_model::{AppId, Provider};

use crate::books::quota::Bucket;
use crate::quota::{Draw, Grant};

/// All buckets.
pub(in crate::sqlite) struct Quotas {
    began: Instant,
    buckets: Mutex<HashMap<(AppId, Provider), Bucket>>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            buckets: Mutex::default(),
        }
    }
}

impl Quotas {
    pub(super) fn draw(&self, app: &AppId, provider: Provider, draw: &Draw) -> Grant {
        let now = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        // A bucket is written with one assignment per field, and wrong ones mend themselves.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry((app.clone(), provider)).or_default();
        bucket.draw(now, draw)
    }
}
