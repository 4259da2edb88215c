//! The API with everything behind it, and ways to ask it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bugle_api::{Config, Keys, router};
use bugle_model::{AppId, Clock, Lane, PageRef, Provider};
use bugle_service::{Limits, PushConfig, Service};
use bugle_store::{DatabaseUrl, Handover, Store};
use bugle_testkit::TestClock;
use bugle_testkit::postgres::Database;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// The key that all requests of these tests show.
pub(crate) const KEY: &str = "the-key";

/// A command that would register the device `a`.
pub(crate) const REGISTER: &str =
    r#"{"method": "device_register", "params": {"id": "a", "platform": "android", "token": "t"}}"#;

pub(crate) struct Api {
    pub(crate) router: Router,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) tasks: TaskTracker,
    _place: Option<Place>,
}

/// The stores that the API runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// Where the data is, for as long as the test lasts.
enum Place {
    Sqlite(#[expect(dead_code, reason = "removed when dropped")] TempDir),
    Postgres(#[expect(dead_code, reason = "removed when dropped")] Database),
}

impl Backend {
    /// A fresh store.
    async fn open(self, clock: &Arc<TestClock>) -> (Arc<dyn Store>, Place) {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = bugle_store::Config::default();
        let database = (self == Self::Postgres).then(bugle_testkit::postgres::database);
        if let Some(database) = &database {
            settings.url = DatabaseUrl::new(database.url());
            settings.connections = 4;
        }
        let store = bugle_store::open(&settings, dir.path(), Arc::clone(clock) as Arc<_>, Arc::new(Nobody))
            .await
            .unwrap();
        (store, database.map_or(Place::Sqlite(dir), Place::Postgres))
    }
}

/// Nobody sends here.
struct Nobody;

impl Handover for Nobody {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

/// Longer than any push may wait.
const MONTH: Duration = Duration::from_hours(31 * 24);

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The only reply's error, as "code message".
    pub(crate) fn error(&self) -> String {
        let body = self.json();
        let error = &body["error"];
        format!("{} {}", error["code"], error["message"].as_str().unwrap_or("-"))
    }
}

impl Api {
    /// Over a fresh SQLite database.
    pub(crate) async fn new() -> Self {
        Self::on(Backend::Sqlite).await
    }

    /// Over a fresh database of this kind.
    pub(crate) async fn on(backend: Backend) -> Self {
        Self::with(backend, Config::default(), &[Provider::Fcm]).await
    }

    /// The same with other settings.
    pub(crate) async fn with(backend: Backend, config: Config, enabled: &[Provider]) -> Self {
        let clock = Arc::new(TestClock::new());
        let (store, place) = backend.open(&clock).await;
        let api = Self::over(store, clock, config, enabled, true);
        Self {
            _place: Some(place),
            ..api
        }
    }

    /// Over a fresh SQLite database, with the registry switched off.
    pub(crate) async fn without_registry() -> Self {
        let clock = Arc::new(TestClock::new());
        let (store, place) = Backend::Sqlite.open(&clock).await;
        let api = Self::over(store, clock, Config::default(), &[Provider::Fcm], false);
        Self {
            _place: Some(place),
            ..api
        }
    }

    /// Over another store.
    fn over(
        store: Arc<dyn Store>,
        clock: Arc<TestClock>,
        config: Config,
        enabled: &[Provider],
        registry: bool,
    ) -> Self {
        let tasks = TaskTracker::new();
        let enabled = enabled.iter().map(|provider| (AppId::default_app(), *provider));
        let service = Service::new(
            Arc::clone(&store),
            Arc::clone(&clock) as Arc<_>,
            PushConfig::default(),
            Limits::default(),
            enabled,
        );
        let service = if registry { service } else { service.without_registry() };
        let metrics = Arc::new(|| "bugle_up 1\n".to_owned());
        Self {
            router: router(Arc::new(service), keys(), config, tasks.clone(), metrics),
            store,
            clock,
            tasks,
            _place: None,
        }
    }

    /// Over a database that fails at everything.
    pub(crate) fn broken(config: Config) -> Self {
        let clock = Arc::new(TestClock::new());
        Self::over(Arc::new(crate::broken::Broken), clock, config, &[Provider::Fcm], true)
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// A body as it is to a path, with the key.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header("x-api-key", KEY);
        self.ask(request.body(body.into()).unwrap()).await
    }

    /// One method's answer, whatever it is.
    pub(crate) async fn call(&self, method: &str, params: &Value) -> Answer {
        self.post(&format!("/api/{method}"), params.to_string()).await
    }

    /// One method's result.
    pub(crate) async fn result(&self, method: &str, params: Value) -> Value {
        let answer = self.call(method, &params).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let mut body = answer.json();
        assert!(body.get("error").is_none(), "{method} {params}: {answer:?}");
        body["result"].take()
    }

    /// One method's error, as "code message", told as HTTP 200.
    pub(crate) async fn error(&self, method: &str, params: Value) -> String {
        let answer = self.call(method, &params).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {params}: {answer:?}");
        answer.error()
    }

    /// Registers an Android device with this id and a token of its own.
    pub(crate) async fn device(&self, id: &str) -> Value {
        let params = json!({"id": id, "platform": "android", "token": format!("token-of-{id}")});
        self.result("device_register", params).await
    }

    /// How many devices there are.
    pub(crate) async fn devices(&self) -> u64 {
        let list = self.result("device_list", json!({"include_total_count": true})).await;
        list["total_count"].as_u64().unwrap()
    }

    /// How many pages of a lane wait.
    pub(crate) async fn waiting(&self, lane: Lane) -> usize {
        let before = self.clock.now().plus(MONTH);
        self.store.due_pages(lane, before, 1_000).await.unwrap().len()
    }

    /// Everything that requests could have changed.
    pub(crate) async fn content(&self) -> Value {
        let devices =
            json!({"include_meta": true, "include_topics": true, "include_total_count": true, "limit": 1_000});
        let now = self.clock.now();
        let pages = self.waiting(Lane::Urgent).await + self.waiting(Lane::Bulk).await;
        json!({
            "devices": self.result("device_list", devices).await,
            "subscriptions": self.result("device_subscription_list", json!({"limit": 1_000})).await,
            "open legs": self.store.open_legs(now, 1_000).await.unwrap().len(),
            "pages": pages,
            "push u": self.call("push_status", &json!({"uid": "u"})).await.error(),
        })
    }
}

/// Two keys of the default app, and one of another.
pub(crate) fn keys() -> Keys {
    Keys::new([
        (KEY.into(), AppId::default_app()),
        ("another-key".into(), AppId::default_app()),
        ("another-app".into(), AppId::parse("another").unwrap()),
    ])
}

/// The names of the items of a list, one after the other.
pub(crate) fn names(list: &Value, field: &str) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item[field].as_str().unwrap().to_owned())
        .collect()
}
