//! TEMPORARY double.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bugle_model::*;
use bugle_store::*;

#[derive(Default)]
pub(crate) struct Memory {
    devices: Mutex<BTreeMap<String, (Device, BTreeMap<String, Origins>)>>,
    pushes: Mutex<Vec<(NewPush, bool)>>,
}

fn fits(f: &DeviceFilter, d: &Device) -> bool {
    let ok = |list: &[String], v: &str| list.is_empty() || list.iter().any(|x| x == v);
    ok(&f.ids, d.id.as_str())
        && ok(&f.tokens, d.token.as_str())
        && ok(&f.users, &d.user)
        && (f.providers.is_empty() || f.providers.contains(&d.provider))
        && (f.platforms.is_empty() || f.platforms.contains(&Platform::parse(&d.platform).unwrap()))
}

fn page<T: Clone>(mut rows: Vec<(String, T)>, paging: &Paging) -> Listing<T> {
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let total = paging.count_total.then_some(rows.len() as u64);
    let after = paging.after.clone().unwrap_or_default();
    let rows: Vec<_> = rows.into_iter().filter(|(id, _)| *id > after).collect();
    let limit = paging.limit as usize;
    Listing { has_more: rows.len() > limit, items: rows.into_iter().take(limit).map(|r| r.1).collect(), total }
}

fn set(subs: &mut BTreeMap<String, Origins>, origin: Origins, names: &[Channel]) {
    for o in subs.values_mut() {
        *o = o.without(origin);
    }
    for n in names {
        let o = subs.entry(n.as_str().to_owned()).or_default();
        *o = o.with(origin);
    }
    subs.retain(|_, o| !o.is_empty());
}

#[async_trait]
impl Registry for Memory {
    async fn register(&self, _: &AppId, r: Registration, now: Timestamp) -> Result<Registered> {
        let mut devices = self.devices.lock().unwrap();
        let by_token = devices
            .values()
            .find(|(d, _)| d.token == r.token && d.provider == r.provider)
            .map(|(d, _)| d.id.clone());
        let id = match (r.id, by_token) {
            (Some(id), other) => {
                if let Some(other) = other.filter(|o| *o != id) {
                    devices.remove(other.as_str());
                }
                id
            }
            (None, Some(id)) => id,
            (None, None) => DeviceId::generate(now),
        };
        let old = devices.get(id.as_str()).cloned();
        let mut subs = old.as_ref().map(|o| o.1.clone()).unwrap_or_default();
        if let Some(c) = &r.channels {
            set(&mut subs, Origins::CHANNEL, c);
        }
        if let Some(c) = &r.topics {
            set(&mut subs, Origins::TOPIC, c);
        }
        let device = Device {
            id: id.clone(),
            provider: r.provider,
            platform: r.platform_word.to_owned(),
            token: r.token,
            user: r.user,
            meta: r.meta,
            timezone: r.timezone.map(|t| t.as_str().to_owned()).unwrap_or_default(),
            locale: r.locale.map(|t| t.as_str().to_owned()).unwrap_or_default(),
            created_at: old.as_ref().map_or(now, |o| o.0.created_at),
            updated_at: now,
        };
        devices.insert(id.to_string(), (device.clone(), subs));
        Ok(Registered { device, created: old.is_none() })
    }
    async fn remove(&self, _: &AppId, w: &DeviceSelector) -> Result<u64> {
        let mut devices = self.devices.lock().unwrap();
        let before = devices.len();
        let has = |list: &[String], v: &str| list.iter().any(|x| x == v);
        devices.retain(|_, (d, _)| {
            !(has(&w.ids, d.id.as_str()) || has(&w.tokens, d.token.as_str()) || has(&w.users, &d.user))
        });
        Ok((before - devices.len()) as u64)
    }
    async fn devices(&self, _: &AppId, f: &DeviceFilter, p: &Paging, with: bool) -> Result<Listing<DeviceDetails>> {
        let devices = self.devices.lock().unwrap();
        let rows = devices
            .values()
            .filter(|(d, s)| fits(f, d) && (f.channels.is_empty() || f.channels.iter().any(|c| s.contains_key(c))))
            .map(|(d, s)| {
                let channels = with.then(|| s.keys().cloned().collect());
                (d.id.to_string(), DeviceDetails { device: d.clone(), channels })
            });
        Ok(page(rows.collect(), p))
    }
    async fn subscribe(&self, _: &AppId, d: &DeviceId, c: &[Channel], _: Timestamp) -> Result<bool> {
        let mut devices = self.devices.lock().unwrap();
        let Some((_, s)) = devices.get_mut(d.as_str()) else { return Ok(false) };
        for c in c {
            let o = s.entry(c.as_str().to_owned()).or_default();
            *o = o.with(Origins::CHANNEL);
        }
        Ok(true)
    }
    async fn unsubscribe(&self, _: &AppId, d: &DeviceId, c: &[Channel]) -> Result<bool> {
        let mut devices = self.devices.lock().unwrap();
        let Some((_, s)) = devices.get_mut(d.as_str()) else { return Ok(false) };
        for c in c {
            s.remove(c.as_str());
        }
        Ok(true)
    }
    async fn subscriptions(&self, _: &AppId, f: &SubscriptionFilter, p: &Paging) -> Result<Listing<Subscription>> {
        let devices = self.devices.lock().unwrap();
        let mut rows = Vec::new();
        for (d, s) in devices.values().filter(|(d, _)| fits(&f.device, d)) {
            for c in s.keys().filter(|c| f.device.channels.is_empty() || f.device.channels.contains(c)) {
                let id = format!("{}:{c}", d.id);
                rows.push((id.clone(), Subscription { id, channel: c.clone(), device: d.clone() }));
            }
        }
        Ok(page(rows, p))
    }
    async fn restore(&self, _: &AppId, _: Timestamp) -> Result<u64> {
        unimplemented!()
    }
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Ledger for Memory {
    async fn accept(&self, push: NewPush) -> Result<Accepted> {
        let mut pushes = self.pushes.lock().unwrap();
        if let Some((old, _)) = pushes.iter().find(|(p, _)| p.uid == push.uid) {
            return Ok(if old.hash == push.hash { Accepted::Repeated } else { Accepted::Conflict });
        }
        pushes.push((push, false));
        Ok(Accepted::New)
    }
    async fn status(&self, _: &AppId, uid: &PushUid) -> Result<Option<PushStatus>> {
        let pushes = self.pushes.lock().unwrap();
        Ok(pushes.iter().find(|(p, _)| p.uid == *uid).map(|(p, cancelled)| PushStatus {
            uid: uid.clone(),
            state: if *cancelled {
                PushState::Cancelled
            } else if p.due > p.created_at {
                PushState::Scheduled
            } else {
                PushState::Running
            },
            created_at: p.created_at,
            ended_at: None,
            legs: vec![LegStatus { route: Route::raw(Provider::Fcm), targeted: 1, counts: Counts::default(), held: None }],
        }))
    }
    async fn cancel(&self, _: &AppId, uid: &PushUid, _: Timestamp) -> Result<bool> {
        let mut pushes = self.pushes.lock().unwrap();
        Ok(pushes.iter_mut().find(|(p, _)| p.uid == *uid).map(|p| p.1 = true).is_some())
    }
    async fn body(&self, _: PushKey) -> Result<Option<Arc<[u8]>>> {
        unimplemented!()
    }
    async fn open_legs(&self, _: Timestamp, _: u32) -> Result<Vec<OpenLeg>> {
        let pushes = self.pushes.lock().unwrap();
        Ok(pushes.iter().map(|(p, _)| OpenLeg { push: PushKey(1), route: Route::UNKNOWN, app: p.app.clone(), outstanding: 0 }).collect())
    }
    async fn walk(&self, _: PushKey, _: Route, _: u32) -> Result<Option<Walk>> {
        unimplemented!()
    }
    async fn expand(&self, _: Walk, _: Timestamp) -> Result<Expansion> {
        unimplemented!()
    }
    async fn due_pages(&self, _: Lane, _: Timestamp, _: u32) -> Result<Vec<PageRef>> {
        Ok(vec![])
    }
    async fn waiting_page(&self, _: &AppId, _: Route) -> Result<Option<PageRef>> {
        unimplemented!()
    }
    async fn take(&self, _: &[PageId], _: Duration) -> Result<Vec<Taken>> {
        unimplemented!()
    }
    async fn reread(&self, _: PageId, _: i64) -> Result<Vec<Target>> {
        unimplemented!()
    }
    async fn extend(&self, _: &[(PageId, u64)], _: Duration) -> Result<Vec<Verdict>> {
        unimplemented!()
    }
    async fn report(&self, _: Vec<Report>, _: Timestamp) -> Result<Vec<Verdict>> {
        unimplemented!()
    }
    async fn set_hold(&self, _: &AppId, _: Route, _: Option<HoldReason>, _: Timestamp) -> Result<Hold> {
        unimplemented!()
    }
    async fn holds(&self) -> Result<Vec<Hold>> {
        unimplemented!()
    }
    async fn sweep(&self, _: Timestamp) -> Result<Swept> {
        unimplemented!()
    }
    async fn forget(&self, _: Timestamp, _: Timestamp) -> Result<u64> {
        unimplemented!()
    }
    async fn flow(&self, _: PushKey, _: Timestamp) -> Result<Option<Flow>> {
        unimplemented!()
    }
}
