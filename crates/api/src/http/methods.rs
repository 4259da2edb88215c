//! The methods by name, and how one of them is prepared and run.

use std::pin::Pin;
use std::sync::Arc;

use bugle_model::AppId;
use bugle_service::{Error, Service};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::read::{Object, read};
use super::{devices, pushes, subscriptions};

/// The parameters of a method, as they stand on the wire.
pub(super) trait Operation: DeserializeOwned + Send + 'static {
    /// The result.
    type Answer: Serialize;

    /// Asks the service.
    fn run(self, service: &Service, app: &AppId) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
}

/// A command whose parameters have been read.
pub(super) type Prepared = Box<dyn FnOnce(Arc<Service>, AppId) -> Running + Send>;
type Running = Pin<Box<dyn Future<Output = Result<Box<RawValue>, Error>> + Send>>;
type Prepare = fn(place: &str, params: &str) -> Result<Prepared, String>;

/// The result without content.
#[derive(Serialize)]
pub(super) struct Empty {}

const METHODS: [(&str, Prepare); 10] = [
    ("device_register", prepare::<devices::Register>),
    ("device_remove", prepare::<devices::Remove>),
    ("device_restore", prepare::<devices::Restore>),
    ("device_list", prepare::<devices::List>),
    ("device_subscription_add", prepare::<subscriptions::Add>),
    ("device_subscription_remove", prepare::<subscriptions::Remove>),
    ("device_subscription_list", prepare::<subscriptions::List>),
    ("send_push_notification", prepare::<pushes::Submission>),
    ("push_status", prepare::<pushes::Status>),
    ("cancel_push", prepare::<pushes::Cancel>),
];

/// Methods of the API that this version does not have.
const UNBUILT: [&str; 6] = [
    "device_update",
    "device_topic_update",
    "device_topic_list",
    "user_topic_update",
    "user_topic_list",
    "update_push_status",
];

/// What a method's name stands for.
pub(super) enum Method {
    /// One that can be run.
    Known(&'static str, Prepare),
    /// One that this version does not have.
    Unbuilt(&'static str),
    /// Nothing.
    Unknown,
}

impl Method {
    pub(super) fn of(name: &str) -> Self {
        if let Some((name, prepare)) = METHODS.iter().find(|(known, _)| *known == name) {
            return Self::Known(name, *prepare);
        }
        let unbuilt = UNBUILT.into_iter().find(|known| *known == name);
        unbuilt.map_or(Self::Unknown, Self::Unbuilt)
    }
}

fn prepare<O: Operation>(place: &str, params: &str) -> Result<Prepared, String> {
    let Object(operation) = read::<Object<O>>(place, params)?;
    Ok(Box::new(move |service, app| {
        Box::pin(async move {
            let answer = operation.run(&service, &app).await?;
            serde_json::value::to_raw_value(&answer).map_err(|error| Error::Internal(Box::new(error)))
        })
    }))
}
