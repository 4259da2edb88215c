//! What the server can be asked to do: one function per use case.
//!
//! Requests come in as plain structs of unchecked text ([`RegisterDevice`], [`SendPush`], …), the same for every transport. A use case checks
//! everything before it writes anything, so that the store only ever sees model types, and answers model types. Each is one call of the store, so
//! that it happens fully or not at all. Accepting a push ends with the store's commit: handing the work over to the senders is the store's business.
//!
//! Errors name the field as the caller spelled it ([`Error`]); texts never contain tokens or payloads.

mod canonical;
mod check;
mod config;
mod devices;
mod error;
pub mod metrics;
mod pushes;
mod subscriptions;

pub use check::Words;
pub use config::{Limits, PushConfig};
pub use devices::{DeviceWords, ListDevices, RegisterDevice, RemoveDevices};
pub use error::{Error, Result};
pub use pushes::{Notification, PushRecipient, SendPush};
pub use subscriptions::{ChangeSubscriptions, ListSubscriptions};

use std::collections::HashMap;
use std::sync::Arc;

use bugle_model::{AppId, Clock, Provider};
use bugle_store::Store;

/// Everything the server can be asked to do, for every app. Callers say for which.
pub struct Service {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    push: PushConfig,
    limits: Limits,
    enabled: HashMap<AppId, Vec<Provider>>,
    registry: bool,
}

/// What is answered where a registry would be needed and is not wanted.
const NO_REGISTRY: &str = "the device registry is switched off (store.registry = false)";

impl Service {
    /// A service over a store. `enabled` lists the providers that are configured, by app; the sections must have been validated.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        push: PushConfig,
        limits: Limits,
        enabled: impl IntoIterator<Item = (AppId, Provider)>,
    ) -> Self {
        let mut by_app: HashMap<AppId, Vec<Provider>> = HashMap::new();
        for (app, provider) in enabled {
            by_app.entry(app).or_default().push(provider);
        }
        Self {
            store,
            clock,
            push,
            limits,
            enabled: by_app,
            registry: true,
        }
    }

    /// The same without a registry: devices and channels are refused with [`Error::Unavailable`]; raw tokens and providers' own topics remain.
    #[must_use]
    pub fn without_registry(self) -> Self {
        Self {
            registry: false,
            ..self
        }
    }

    /// Answers if the database does.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.store.ping().await?)
    }

    /// Refuses what needs the registry where there is none.
    fn needs_registry(&self) -> Result<()> {
        if self.registry {
            return Ok(());
        }
        Err(Error::Unavailable(NO_REGISTRY.to_owned()))
    }

    fn is_enabled(&self, app: &AppId, provider: Provider) -> bool {
        self.enabled.get(app).is_some_and(|enabled| enabled.contains(&provider))
    }
}
