//! Rows of the table `devices` and how they become values.

use aws_lc_rs::digest::{SHA256, digest};
use bugle_model::{Device, DeviceKey, Platform, Route, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::Result;
use crate::registry::record::{self, read_meta};

/// A device with what only the database knows of it.
pub(super) struct Stored {
    pub(super) key: DeviceKey,
    pub(super) app: i32,
    pub(super) platform: Platform,
    pub(super) device: Device,
}

impl Stored {
    /// Reads `key, app, id, provider, platform, platform_word, token, user_id, meta, timezone, locale, created_at, updated_at`, in this order. Statements name them
    /// one by one: a prepared `SELECT *` fails when a newer bugle adds a column.
    pub(super) fn read(row: &PgRow) -> Result<Self> {
        let text = |column: usize| -> Result<&str> { Ok(row.try_get(column)?) };
        let device = Device {
            id: record::device_id(text(2)?)?,
            provider: record::provider(small(row.try_get(3)?))?,
            platform: text(5)?.to_owned(),
            token: record::token(text(6)?)?,
            user: text(7)?.to_owned(),
            meta: read_meta(text(8)?)?,
            timezone: text(9)?.to_owned(),
            locale: text(10)?.to_owned(),
            created_at: Timestamp(row.try_get(11)?),
            updated_at: Timestamp(row.try_get(12)?),
        };
        Ok(Self {
            key: DeviceKey(row.try_get(0)?),
            app: row.try_get(1)?,
            platform: record::platform(small(row.try_get(4)?))?,
            device,
        })
    }

    /// The route of its subscriptions.
    pub(super) fn route(&self) -> Route {
        Route::of(self.device.provider, self.platform)
    }
}

/// What tells tokens apart: the first 128 bits of the SHA-256. Nobody finds two tokens that share them.
pub(super) type TokenHash = [u8; 16];

pub(super) fn token_hash(token: &str) -> TokenHash {
    let hash = digest(&SHA256, token.as_bytes());
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

/// A small number out of a row; one that does not fit is none of ours.
pub(super) fn small(number: i16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
