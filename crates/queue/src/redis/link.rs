//! A connection that is made again when it is lost.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value};

use super::PATIENCE;
use super::endpoint::{Connection, Endpoint};
use crate::{Error, metrics as names};

/// The pause after the first failure; doubled up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const SILENT: Error = Error::Silent {
    backend: "Redis (queue.url)",
    within: PATIENCE,
};

/// One task's connection.
pub(super) struct Link {
    endpoint: Arc<Endpoint>,
    /// Its name in logs and metrics.
    name: &'static str,
    /// How long commands may wait by themselves.
    wait: Duration,
    connection: Option<Connection>,
    pause: Duration,
    /// It was lost since [`Link::came_back`] was last asked.
    lost: bool,
}

/// The command may or may not have been executed; the next one connects again.
pub(super) struct Lost;

impl Link {
    pub(super) fn new(endpoint: Arc<Endpoint>, name: &'static str, wait: Duration) -> Self {
        Self {
            endpoint,
            name,
            wait,
            connection: None,
            pause: PAUSE,
            lost: false,
        }
    }

    /// Connects, for the start, where the reason of a failure is told.
    pub(super) async fn connect(&mut self) -> Result<(), Error> {
        self.connection = Some(self.endpoint.connect(self.wait).await?);
        Ok(())
    }

    /// Sends the first commands, where the reason of a failure is told.
    pub(super) async fn first(&mut self, commands: &mut Pipeline) -> Result<Vec<RedisResult<Value>>, Error> {
        commands.ignore_errors();
        let connection = self.connected().await.map_err(|Lost| SILENT)?;
        match tokio::time::timeout(PATIENCE, commands.query_async(connection)).await {
            Ok(answers) => answers.map_err(Error::Redis),
            Err(_) => Err(SILENT),
        }
    }

    /// Is it connected, as far as is known?
    pub(super) fn is_up(&self) -> bool {
        self.connection.is_some()
    }

    /// Sends one command. An error of the server that is about this command alone is in the result.
    pub(super) async fn command<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<RedisResult<T>, Lost> {
        let limit = PATIENCE + self.wait;
        let connection = self.connected().await?;
        match tokio::time::timeout(limit, command.query_async::<T>(connection)).await {
            Ok(Err(error)) if is_fatal(&error) => Err(self.lose(&error.to_string())),
            Ok(answer) => Ok(self.answered(answer)),
            Err(_) => Err(self.lose("no answer in time")),
        }
    }

    /// Sends commands together; what each was answered.
    pub(super) async fn pipeline(&mut self, commands: &mut Pipeline) -> Result<Vec<RedisResult<Value>>, Lost> {
        let limit = PATIENCE + self.wait;
        commands.ignore_errors();
        let connection = self.connected().await?;
        match tokio::time::timeout(limit, commands.query_async::<Vec<RedisResult<Value>>>(connection)).await {
            Ok(Ok(answers)) => {
                let fatal = answers
                    .iter()
                    .find_map(|answer| answer.as_ref().err().filter(|error| is_fatal(error)));
                match fatal.map(ToString::to_string) {
                    Some(problem) => Err(self.lose(&problem)),
                    None => Ok(self.answered(answers)),
                }
            }
            Ok(Err(error)) => Err(self.lose(&error.to_string())),
            Err(_) => Err(self.lose("no answer in time")),
        }
    }

    async fn connected(&mut self) -> Result<&mut Connection, Lost> {
        if self.connection.is_none() {
            if self.lost {
                metrics::counter!(names::RECONNECTS, "connection" => self.name).increment(1);
            }
            match self.endpoint.connect(self.wait).await {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => {
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    return Err(self.lose(&format!("{error}: {}", reason.unwrap_or_default())));
                }
            }
        }
        self.connection.as_mut().ok_or(Lost)
    }

    fn answered<T>(&mut self, answer: T) -> T {
        self.pause = PAUSE;
        answer
    }

    fn lose(&mut self, problem: &str) -> Lost {
        if self.lost {
            tracing::debug!(connection = self.name, problem, "Redis does not answer yet");
        } else {
            tracing::warn!(connection = self.name, problem, "lost Redis; connecting again");
        }
        self.connection = None;
        self.lost = true;
        Lost
    }

    /// Was it lost, and does it answer again? Says so once.
    pub(super) fn came_back(&mut self) -> bool {
        let back = self.lost && self.connection.is_some();
        if back {
            tracing::info!(connection = self.name, "Redis answers again");
            self.lost = false;
        }
        back
    }

    /// How long to wait after a failure: longer each time.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Says nothing about this command alone, but about the connection or the server behind it.
fn is_fatal(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.is_cluster_error()
        || matches!(
            error.code(),
            Some(
                "LOADING"
                    | "READONLY"
                    | "MASTERDOWN"
                    | "NOAUTH"
                    | "OOM"
                    | "MISCONF"
                    | "NOREPLICAS"
                    | "UNBLOCKED"
                    | "CLUSTERDOWN"
            )
        )
}
