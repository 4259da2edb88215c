//! Pushes rendered for their providers, kept for the pages to come.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bugle_model::{Invalid, Provider, PushKey};
use bugle_provider::{Client, Prepared};
use bugle_store::Store;
use serde_json::value::RawValue;

/// So many are kept per thread: more broadcasts than this at once read some bodies again.
const KEPT: usize = 128;

/// One thread's cache, oldest out first.
#[derive(Default)]
pub(crate) struct Bodies {
    prepared: RefCell<HashMap<(PushKey, Provider), Prepared>>,
    order: RefCell<VecDeque<(PushKey, Provider)>>,
}

/// Why a push cannot be rendered.
pub(crate) enum Unprepared {
    /// The store failed: later.
    Store(bugle_store::Error),
    /// It never can be.
    Invalid(Invalid),
}

impl Bodies {
    /// Renders a push for a provider, from the body at hand or the ledger's.
    pub(crate) async fn prepare(
        &self,
        store: &dyn Store,
        push: PushKey,
        at_hand: Option<&[u8]>,
        provider: Provider,
        client: &dyn Client,
    ) -> Result<Prepared, Unprepared> {
        if let Some(body) = at_hand {
            // The push's own row is its only page: it will not be asked for again.
            return render(body, provider, client);
        }
        if let Some(known) = self.prepared.borrow().get(&(push, provider)) {
            return Ok(known.clone());
        }
        let body: Option<Arc<[u8]>> = store.body(push).await.map_err(Unprepared::Store)?;
        let body = body.ok_or_else(|| Unprepared::Invalid(Invalid::new("the push is no longer known")))?;
        let prepared = render(&body, provider, client)?;
        self.keep((push, provider), &prepared);
        Ok(prepared)
    }

    fn keep(&self, key: (PushKey, Provider), prepared: &Prepared) {
        let mut order = self.order.borrow_mut();
        if order.len() >= KEPT
            && let Some(oldest) = order.pop_front()
        {
            self.prepared.borrow_mut().remove(&oldest);
        }
        if self.prepared.borrow_mut().insert(key, prepared.clone()).is_none() {
            order.push_back(key);
        }
    }
}

fn render(body: &[u8], provider: Provider, client: &dyn Client) -> Result<Prepared, Unprepared> {
    let unreadable = || Unprepared::Invalid(Invalid::new("the push's body is unreadable"));
    let parts: HashMap<&str, &RawValue> = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let part = parts
        .get(provider.as_str())
        .ok_or_else(|| Unprepared::Invalid(Invalid::new("the push has no payload for this provider")))?;
    client.prepare(part).map_err(Unprepared::Invalid)
}
