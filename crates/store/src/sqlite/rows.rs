//! Rows of the table `devices` and how they become values.

use aws_lc_rs::digest::{SHA256, digest};
use bugle_model::{Device, DeviceKey, Platform, Route, Timestamp};
use rusqlite::Row;

use super::subscriptions::Subscriber;
use crate::Result;
use crate::registry::record::{self, read_meta};

/// A device with what only the database knows of it.
pub(super) struct Stored {
    pub(super) key: DeviceKey,
    pub(super) platform: Platform,
    pub(super) device: Device,
}

impl Stored {
    /// Reads what `SELECT * FROM devices` gives. Migrations add columns at the end only.
    pub(super) fn read(row: &Row<'_>) -> Result<Self> {
        let text = |column| -> Result<&str> { Ok(row.get_ref(column)?.as_str()?) };
        let device = Device {
            id: record::device_id(text(2)?)?,
            provider: record::provider(row.get(3)?)?,
            platform: text(5)?.to_owned(),
            token: record::token(text(6)?)?,
            user: text(8)?.to_owned(),
            meta: read_meta(text(9)?)?,
            timezone: text(10)?.to_owned(),
            locale: text(11)?.to_owned(),
            created_at: Timestamp(row.get(12)?),
            updated_at: Timestamp(row.get(13)?),
        };
        Ok(Self {
            key: DeviceKey(row.get(0)?),
            platform: record::platform(row.get(4)?)?,
            device,
        })
    }

    pub(super) fn route(&self) -> Route {
        Route::of(self.device.provider, self.platform)
    }

    /// What its subscriptions repeat of it.
    pub(super) fn subscriber(&self, app: i64) -> Subscriber<'_> {
        Subscriber {
            app,
            key: self.key,
            route: self.route(),
            token: &self.device.token,
        }
    }
}

/// What the look-up index has of a token: the first 64 bits of its SHA-256. Not unique.
pub(super) fn token_hash(token: &str) -> i64 {
    let hash = digest(&SHA256, token.as_bytes());
    hash.as_ref()
        .first_chunk()
        .map_or(0, |bytes| i64::from_be_bytes(*bytes))
}
