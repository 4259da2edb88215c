//! The routes, and the way of a request from its bytes to its task.

mod command;
mod devices;
mod envelope;
mod methods;
mod pushes;
mod read;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, StatusCode, header};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bugle_model::AppId;
use bugle_service::Service;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio_util::task::TaskTracker;

use crate::error::Problem;
use crate::{Config, ErrorMode, Keys, metrics};
use command::Refused;

/// Answers the text of `GET /metrics`.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// How long a health check waits for the database.
const PING_PATIENCE: Duration = Duration::from_secs(5);

struct Api {
    service: Arc<Service>,
    keys: Keys,
    config: Config,
    tasks: TaskTracker,
    metrics: MetricsText,
}

type Shared = State<Arc<Api>>;

/// The whole API. `keys` are those of all apps; `tasks` runs the requests and is waited for at the stop; `metrics` is asked for `GET /metrics`.
///
/// Concurrency and time-outs are the caller's to add as layers: a request that is cut off by them goes on in its task.
pub fn router(service: Arc<Service>, keys: Keys, config: Config, tasks: TaskTracker, metrics: MetricsText) -> Router {
    let api = Api {
        service,
        keys,
        config,
        tasks,
        metrics,
    };
    watched(
        Router::new()
            .route("/api", post(commands))
            .route("/api/batch", post(batch))
            .route("/api/{method}", post(method)),
    )
    .with_state(Arc::new(api))
}

/// What a process offers that does not serve the API: `GET /health` and `GET /metrics`. The API's paths answer 503, so that a proxy asks another process.
pub fn router_without_api(service: Arc<Service>, keys: Keys, config: Config, metrics: MetricsText) -> Router {
    let api = Api {
        service,
        keys,
        config,
        tasks: TaskTracker::new(),
        metrics,
    };
    watched(
        Router::new()
            .route("/api", any(not_here))
            .route("/api/{*rest}", any(not_here)),
    )
    .with_state(Arc::new(api))
}

fn watched(router: Router<Arc<Api>>) -> Router<Arc<Api>> {
    router
        .route("/health", get(health))
        .route("/metrics", get(metrics_text))
}

async fn not_here() -> Response {
    refuse(&Refused {
        status: StatusCode::SERVICE_UNAVAILABLE,
        problem: Problem::not_available("this process does not serve the API: it has not the role api"),
    })
}

async fn commands(State(api): Shared, request: Request) -> Response {
    let (app, mode, body) = match api.admit(request).await {
        Ok(admitted) => admitted,
        Err(refused) => return *refused,
    };
    let task = Arc::clone(&api);
    let run = async move { command::run_commands(&task.service, &app, &body, task.config.max_commands, mode).await };
    api.answer(run).await
}

async fn method(State(api): Shared, Path(name): Path<String>, request: Request) -> Response {
    let (app, mode, body) = match api.admit(request).await {
        Ok(admitted) => admitted,
        Err(refused) => return *refused,
    };
    let task = Arc::clone(&api);
    let run = async move { command::run_method(&task.service, &app, &name, &body, mode).await };
    api.answer(run).await
}

async fn batch(State(api): Shared, request: Request) -> Response {
    let (app, _, body) = match api.admit(request).await {
        Ok(admitted) => admitted,
        Err(refused) => return *refused,
    };
    let task = Arc::clone(&api);
    let run = async move { command::run_batch(&task.service, &app, &body, task.config.max_commands).await };
    api.answer(run).await
}

async fn health(State(api): Shared) -> Response {
    match tokio::time::timeout(PING_PATIENCE, api.service.ping()).await {
        Ok(Ok(())) => json(StatusCode::OK, r#"{"status":"ok"}"#),
        Ok(Err(_)) | Err(_) => json(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"unavailable"}"#),
    }
}

async fn metrics_text(State(api): Shared, request: Request) -> Response {
    let allowed = !api.config.metrics_need_key || api.keys.app_of(request.headers(), request.uri()).is_some();
    if !allowed {
        return unauthorised();
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, (api.metrics)()).into_response()
}

impl Api {
    /// Lets a request in and reads its body.
    async fn admit(&self, request: Request) -> Result<(AppId, ErrorMode, Bytes), Box<Response>> {
        let shown = self.keys.app_of(request.headers(), request.uri());
        let open = || self.config.insecure.then(AppId::default_app);
        let app = shown.or_else(open).ok_or_else(|| Box::new(unauthorised()))?;
        let mode = self.error_mode(request.headers());
        let body = read_body(request.into_body(), self.config.max_body_bytes).await;
        Ok((app, mode, body.map_err(|refused| Box::new(refuse(&refused)))?))
    }

    /// Runs a request in a task of its own: from here on it no longer depends on its client.
    async fn answer(&self, run: impl Future<Output = Result<Reply, Refused>> + Send + 'static) -> Response {
        match self.tasks.spawn(run).await {
            Ok(Ok(reply)) => json(reply.status, reply.body),
            Ok(Err(refused)) => refuse(&refused),
            // It panicked; the panic is in the log already.
            Err(_) => json(StatusCode::OK, command::error_body(&Problem::internal())),
        }
    }

    fn error_mode(&self, headers: &HeaderMap) -> ErrorMode {
        let asked = headers.get("x-centrifugo-error-mode");
        if asked.is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"transport")) {
            ErrorMode::Transport
        } else {
            self.config.error_mode
        }
    }
}

/// What a request that could be read is answered.
struct Reply {
    status: StatusCode,
    body: String,
}

async fn read_body(body: Body, max: usize) -> Result<Bytes, Refused> {
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refused {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            problem: Problem::bad_request(format!("body: at most {max} bytes")),
        }),
        Err(_) => Err(Refused::malformed("body: could not be read to its end")),
    }
}

fn refuse(refused: &Refused) -> Response {
    count_refusal(refused.status);
    json(refused.status, command::error_body(&refused.problem))
}

fn unauthorised() -> Response {
    count_refusal(StatusCode::UNAUTHORIZED);
    StatusCode::UNAUTHORIZED.into_response()
}

fn count_refusal(status: StatusCode) {
    ::metrics::counter!(metrics::REFUSED, "status" => status.as_str().to_owned()).increment(1);
}

fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body.into()).into_response()
}
