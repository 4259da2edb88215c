//! [`Registry`] for `SQLite`: which thread does what.

use std::sync::Arc;

use async_trait::async_trait;
use bugle_model::{
    AppId, Channel, DeviceDetails, DeviceFilter, DeviceId, DeviceKey, DeviceSelector, Listing, Origins, Paging,
    Registration, Subscription, SubscriptionFilter, Timestamp,
};

use super::devices::{self, Entry};
use super::writer::Cost;
use super::{Store, gone, lists, register, rows, subscriptions};
use crate::registry::filter::{REMOVE_STEP, nothing, steps};
use crate::registry::gone::{INACTIVE_STEP, Place};
use crate::registry::record::write_meta;
use crate::{Registered, Registry, Result};

#[async_trait]
impl Registry for Store {
    async fn register(&self, app: &AppId, registration: Registration, now: Timestamp) -> Result<Registered> {
        let declared = [&registration.channels, &registration.topics];
        let cost = Cost::rows(1 + declared.into_iter().flatten().map(Vec::len).sum::<usize>());
        let entry = Entry {
            token_hash: rows::token_hash(registration.token.as_str()),
            meta: write_meta(&registration.meta)?,
            registration,
            now,
        };
        let (apps, app) = (self.apps.clone(), app.clone());
        let job = move |tx: &super::writer::Tx<'_>| {
            let app = apps.intern(tx, &app)?;
            register::register(tx.conn(), app, &entry)
        };
        self.writer.run(false, cost, job).await
    }

    async fn remove(&self, app: &AppId, which: &DeviceSelector) -> Result<u64> {
        let mut removed = 0;
        for filter in steps(which) {
            let filter = Arc::new(filter);
            loop {
                let (apps, app, filter) = (self.apps.clone(), app.clone(), Arc::clone(&filter));
                let job = move |tx: &super::writer::Tx<'_>| {
                    let Some(app) = apps.find(tx.conn(), &app)? else {
                        return Ok(0);
                    };
                    let keys = lists::keys_to_remove(tx.conn(), app, &filter, REMOVE_STEP)?;
                    keys.iter().try_for_each(|key| devices::delete(tx.conn(), *key))?;
                    Ok(keys.len())
                };
                let step = self.writer.run(false, Cost::removals(REMOVE_STEP), job).await?;
                removed += u64::try_from(step).unwrap_or(u64::MAX);
                if step < REMOVE_STEP {
                    break;
                }
            }
        }
        Ok(removed)
    }

    async fn devices(
        &self,
        app: &AppId,
        filter: &DeviceFilter,
        paging: &Paging,
        with_channels: bool,
    ) -> Result<Listing<DeviceDetails>> {
        let (apps, app, filter, paging) = (self.apps.clone(), app.clone(), filter.clone(), paging.clone());
        let job = move |conn: &rusqlite::Connection| match apps.find(conn, &app)? {
            Some(app) => lists::devices(conn, app, &filter, &paging, with_channels, lists::FEW),
            None => Ok(nothing(&paging)),
        };
        self.readers.run(job).await
    }

    async fn subscribe(&self, app: &AppId, device: &DeviceId, channels: &[Channel], _now: Timestamp) -> Result<bool> {
        self.change(app, device, channels, true).await
    }

    async fn unsubscribe(&self, app: &AppId, device: &DeviceId, channels: &[Channel]) -> Result<bool> {
        self.change(app, device, channels, false).await
    }

    async fn subscriptions(
        &self,
        app: &AppId,
        filter: &SubscriptionFilter,
        paging: &Paging,
    ) -> Result<Listing<Subscription>> {
        let (apps, app, filter, paging) = (self.apps.clone(), app.clone(), filter.clone(), paging.clone());
        let job = move |conn: &rusqlite::Connection| match apps.find(conn, &app)? {
            Some(app) => lists::subscriptions(conn, app, &filter, &paging, lists::FEW),
            None => Ok(nothing(&paging)),
        };
        self.readers.run(job).await
    }

    async fn restore(&self, app: &AppId, since: Timestamp) -> Result<u64> {
        let (mut restored, mut from) = (0, Some(Place::START));
        while let Some(place) = from {
            let (apps, app) = (self.apps.clone(), app.clone());
            let job = move |tx: &super::writer::Tx<'_>| match apps.find(tx.conn(), &app)? {
                Some(app) => gone::restore(tx.conn(), app, since, place),
                None => Ok((0, None)),
            };
            let (step, next) = self.writer.run(false, gone::RESTORE_COST, job).await?;
            restored += step;
            from = next;
        }
        Ok(restored)
    }

    async fn remove_inactive(
        &self,
        from: DeviceKey,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<(u64, Option<DeviceKey>)> {
        let read = move |conn: &rusqlite::Connection| gone::find_inactive(conn, from, before);
        let (keys, next) = self.readers.run(read).await?;
        if keys.is_empty() {
            return Ok((0, next));
        }
        let job = move |tx: &super::writer::Tx<'_>| gone::forget_inactive(tx.conn(), &keys, before, now);
        let removed = self.writer.run(false, Cost::removals(INACTIVE_STEP), job).await?;
        Ok((removed, next))
    }

    async fn ping(&self) -> Result<()> {
        let read = |conn: &rusqlite::Connection| {
            conn.prepare_cached("SELECT count(*) FROM apps")?
                .query_row([], |_| Ok(()))
                .map_err(Into::into)
        };
        self.readers.run(read).await?;
        self.writer.run(true, Cost::default(), |_| Ok(())).await
    }
}

impl Store {
    /// Subscribes a device to channels, or takes it from them. `false` = there is no such device.
    async fn change(&self, app: &AppId, device: &DeviceId, channels: &[Channel], add: bool) -> Result<bool> {
        let (apps, app, device, channels) = (self.apps.clone(), app.clone(), device.clone(), channels.to_vec());
        let cost = Cost::rows(channels.len());
        let job = move |tx: &super::writer::Tx<'_>| {
            let Some(app) = apps.find(tx.conn(), &app)? else {
                return Ok(false);
            };
            let Some(stored) = devices::by_id(tx.conn(), app, &device)? else {
                return Ok(false);
            };
            let device = stored.subscriber(app);
            if add {
                subscriptions::add(tx.conn(), &device, &channels, Origins::CHANNEL)?;
            } else {
                subscriptions::remove(tx.conn(), &device, &channels)?;
            }
            Ok(true)
        };
        self.writer.run(false, cost, job).await
    }
}
