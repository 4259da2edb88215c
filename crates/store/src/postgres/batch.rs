//! Puts single writes that arrive together into one transaction.
//!
//! Each of a few workers takes what has arrived while it was at work, at most `most` jobs, and writes it in one go; nobody waits for company. A job whose
//! caller has gone away is written all the same. The channel is bounded: callers wait for room.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{Error, Result};

/// So many jobs wait at most; more callers wait for room.
const QUEUED: usize = 4_096;

/// A job, and who waits for its answer.
type Asked<J, R> = (J, oneshot::Sender<Result<R>>);

/// A write that is done for many at once: answers one result per job, in order, or an error that is everybody's.
pub(super) type Write<J, R> = Arc<dyn Fn(Vec<J>) -> BoxFuture<'static, Result<Vec<R>>> + Send + Sync>;

/// Takes jobs of one kind.
pub(super) struct Batcher<J, R> {
    jobs: mpsc::Sender<Asked<J, R>>,
}

impl<J: Send + 'static, R: Send + 'static> Batcher<J, R> {
    /// Starts `workers` tasks that write at most `most` jobs at a time. They end when the batcher is dropped.
    pub(super) fn start(runtime: &Handle, workers: usize, most: usize, write: &Write<J, R>) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUED);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..workers {
            runtime.spawn(work(Arc::clone(&waiting), most, Arc::clone(write)));
        }
        Self { jobs }
    }

    /// Has a job written, together with others.
    pub(super) async fn run(&self, job: J) -> Result<R> {
        let (answer, answered) = oneshot::channel();
        let closed = || Error::Unavailable("the store is shutting down".into());
        self.jobs.send((job, answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

async fn work<J, R>(waiting: Arc<Mutex<mpsc::Receiver<Asked<J, R>>>>, most: usize, write: Write<J, R>) {
    let mut group = Vec::with_capacity(most);
    loop {
        // One worker at a time waits for jobs; it takes what there is and lets the next one wait.
        if waiting.lock().await.recv_many(&mut group, most).await == 0 {
            return;
        }
        let (jobs, answers): (Vec<J>, Vec<_>) = group.drain(..).unzip();
        match write(jobs).await {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    let _ = answer.send(Ok(result));
                }
            }
            Err(error) => {
                let cause = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(shared_error(&cause)));
                }
            }
        }
    }
}

/// An error that happened to many, for each of them.
pub(super) fn shared_error(cause: &Arc<Error>) -> Error {
    Error::Unavailable(Box::new(Shared(Arc::clone(cause))))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Shared(#[source] Arc<Error>);
