//! [`Registry`] for PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use bugle_model::{
    AppId, Channel, DeviceDetails, DeviceFilter, DeviceId, DeviceKey, DeviceSelector, Listing, Paging, Registration,
    Subscription, SubscriptionFilter, Timestamp,
};

use super::register::{self, Entry};
use super::{Store, devices, gone, lists, subscriptions};
use crate::registry::filter::{REMOVE_STEP, nothing, steps};
use crate::registry::gone::Place;
use crate::{Error, Registered, Registry, Result};

#[async_trait]
impl Registry for Store {
    async fn register(&self, app: &AppId, registration: Registration, now: Timestamp) -> Result<Registered> {
        let (shared, registrar, app) = (Arc::clone(&self.shared), Arc::clone(&self.registrar), app.clone());
        self.run(async move {
            let app = shared.apps.intern(&shared, &app).await?;
            register::register(&registrar, &shared, Entry::new(app, registration, now)?).await
        })
        .await
    }

    async fn remove(&self, app: &AppId, which: &DeviceSelector) -> Result<u64> {
        let (shared, app, steps) = (Arc::clone(&self.shared), app.clone(), steps(which));
        self.run(async move {
            let Some(app) = shared.apps.existing(&shared, &app).await? else {
                return Ok(0);
            };
            let mut removed = 0;
            for filter in steps {
                let filter = Arc::new(filter);
                loop {
                    let filter = Arc::clone(&filter);
                    let step = shared.write(move |tx| {
                        let filter = Arc::clone(&filter);
                        Box::pin(async move {
                            let keys = lists::lock_to_remove(tx.conn(), app, &filter, REMOVE_STEP).await?;
                            devices::delete(tx.conn(), &keys).await?;
                            Ok(keys.len())
                        })
                    });
                    let step = step.await?;
                    removed += step as u64;
                    if step < REMOVE_STEP {
                        break;
                    }
                }
            }
            Ok(removed)
        })
        .await
    }

    async fn devices(
        &self,
        app: &AppId,
        filter: &DeviceFilter,
        paging: &Paging,
        with_channels: bool,
    ) -> Result<Listing<DeviceDetails>> {
        let shared = Arc::clone(&self.shared);
        let asked = Arc::new((app.clone(), filter.clone(), paging.clone()));
        self.run(async move {
            let apps = Arc::clone(&shared);
            let list = shared.read_replica(move |conn| {
                let (shared, asked) = (Arc::clone(&apps), Arc::clone(&asked));
                Box::pin(async move {
                    let (app, filter, paging) = &*asked;
                    match shared.apps.find(conn, app).await? {
                        Some(app) => lists::devices(conn, app, filter, paging, with_channels, lists::FEW).await,
                        None => Ok(nothing(paging)),
                    }
                })
            });
            list.await
        })
        .await
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
        let shared = Arc::clone(&self.shared);
        let asked = Arc::new((app.clone(), filter.clone(), paging.clone()));
        self.run(async move {
            let apps = Arc::clone(&shared);
            let list = shared.read_replica(move |conn| {
                let (shared, asked) = (Arc::clone(&apps), Arc::clone(&asked));
                Box::pin(async move {
                    let (app, filter, paging) = &*asked;
                    match shared.apps.find(conn, app).await? {
                        Some(app) => lists::subscriptions(conn, app, filter, paging, lists::FEW).await,
                        None => Ok(nothing(paging)),
                    }
                })
            });
            list.await
        })
        .await
    }

    async fn restore(&self, app: &AppId, since: Timestamp) -> Result<u64> {
        let (shared, app) = (Arc::clone(&self.shared), app.clone());
        self.run(async move {
            let Some(app) = shared.apps.existing(&shared, &app).await? else {
                return Ok(0);
            };
            let (mut restored, mut from) = (0, Some(Place::START));
            while let Some(place) = from {
                let step = shared.write(move |tx| Box::pin(gone::restore(tx.conn(), app, since, place)));
                let (step, next) = step.await?;
                restored += step;
                from = next;
            }
            Ok(restored)
        })
        .await
    }

    async fn remove_inactive(
        &self,
        from: DeviceKey,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<(u64, Option<DeviceKey>)> {
        let shared = Arc::clone(&self.shared);
        self.run(async move {
            let found = shared.read(move |conn| Box::pin(gone::find_inactive(conn, from, before)));
            let (keys, next) = found.await?;
            if keys.is_empty() {
                return Ok((0, next));
            }
            let keys = Arc::new(keys);
            let removed = shared.write(move |tx| {
                let keys = Arc::clone(&keys);
                Box::pin(async move { gone::forget_inactive(tx.conn(), &keys, before, now).await })
            });
            Ok((removed.await?, next))
        })
        .await
    }

    async fn ping(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.run(async move {
            let replays = shared.read(|conn| {
                Box::pin(async move { Ok(sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(conn).await?) })
            });
            if replays.await? {
                return Err(Error::Unavailable("PostgreSQL takes no writes: it is a replica".into()));
            }
            Ok(())
        })
        .await
    }
}

impl Store {
    /// Subscribes a device to channels, or takes it from them. `false` = there is no such device.
    async fn change(&self, app: &AppId, device: &DeviceId, channels: &[Channel], add: bool) -> Result<bool> {
        let (shared, app) = (Arc::clone(&self.shared), app.clone());
        let asked = Arc::new((device.clone(), channels.to_vec()));
        self.run(async move {
            let Some(app) = shared.apps.existing(&shared, &app).await? else {
                return Ok(false);
            };
            let done = shared.write(move |tx| {
                let asked = Arc::clone(&asked);
                Box::pin(async move {
                    let (device, channels) = &*asked;
                    let Some((key, route)) = devices::lock(tx.conn(), app, device).await? else {
                        return Ok(false);
                    };
                    if add {
                        subscriptions::add(tx.conn(), app, key, route, channels).await?;
                    } else {
                        subscriptions::remove(tx.conn(), app, key, route, channels).await?;
                    }
                    Ok(true)
                })
            });
            done.await
        })
        .await
    }
}
