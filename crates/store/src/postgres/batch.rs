//! Puts single writes that arrive together into one transaction.
//!
//! What a transaction costs is mostly its ways to the server, so a crowd is best served by few large groups: while a group is written, what arrives gathers, and is written next.
//! Only while the crowd is small does a second group not wait for the first, since nothing is saved by that; nor does a full one, or one whose predecessor has only the disk
//! to wait for. Nobody waits for company otherwise. A job whose caller has gone away is written all the same. The channel is bounded: callers wait for room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::{Error, Result};

/// So many jobs wait at most; more callers wait for room.
const QUEUED: usize = 4_096;

/// Jobs of a group that others do not wait for.
const SMALL: usize = 8;

/// A job, and who waits for its answer.
type Asked<J, R> = (J, oneshot::Sender<Result<R>>);

/// A write that is done for many at once: answers one result per job, in order, or an error that is everybody's.
pub(super) type Write<J, R> = Arc<dyn Fn(Vec<J>, Turn) -> BoxFuture<'static, Result<Vec<R>>> + Send + Sync>;

/// A group's turn, which it may pass on before it is done.
#[derive(Clone, Default)]
pub(super) struct Turn {
    passed: Arc<AtomicBool>,
    bell: Arc<Notify>,
}

impl Turn {
    /// All that is left is the server's: the next group may begin.
    pub(super) fn pass(&self) {
        self.passed.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    fn next(&self) -> Self {
        Self {
            passed: Arc::default(),
            bell: Arc::clone(&self.bell),
        }
    }

    fn is_passed(&self) -> bool {
        self.passed.load(Ordering::Relaxed)
    }
}

/// Takes jobs of one kind.
pub(super) struct Batcher<J, R> {
    jobs: mpsc::Sender<Asked<J, R>>,
}

impl<J: Send + 'static, R: Send + 'static> Batcher<J, R> {
    /// Starts a task that has at most `groups` groups written at a time, each of at most `most` jobs. It ends when the batcher is dropped and all is written.
    pub(super) fn start(runtime: &Handle, groups: usize, most: usize, write: Write<J, R>) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUED);
        runtime.spawn(dispatch(waiting, groups, most, write));
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

async fn dispatch<J: Send + 'static, R: Send + 'static>(
    mut waiting: mpsc::Receiver<Asked<J, R>>,
    groups: usize,
    most: usize,
    write: Write<J, R>,
) {
    let (mut at_work, mut open) = (JoinSet::new(), true);
    // Turn and size of the group that was begun last, and the next one.
    let (mut turn, mut last, mut group) = (Turn::default(), 0, Vec::new());
    while open || !group.is_empty() || !at_work.is_empty() {
        let need_not_wait = last < SMALL || group.len() == most || turn.is_passed();
        if !group.is_empty() && (at_work.is_empty() || (at_work.len() < groups && need_not_wait)) {
            (turn, last) = (turn.next(), group.len());
            at_work.spawn(write_group(
                std::mem::take(&mut group),
                turn.clone(),
                Arc::clone(&write),
            ));
        }
        let room = most - group.len();
        tokio::select! {
            _ = at_work.join_next(), if !at_work.is_empty() => {}
            () = turn.bell.notified(), if !at_work.is_empty() => {}
            arrived = waiting.recv_many(&mut group, room), if open && room > 0 => open = arrived > 0,
        }
    }
}

async fn write_group<J, R>(group: Vec<Asked<J, R>>, turn: Turn, write: Write<J, R>) {
    let (jobs, answers): (Vec<J>, Vec<_>) = group.into_iter().unzip();
    match write(jobs, turn).await {
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

/// An error that happened to many, for each of them.
pub(super) fn shared_error(cause: &Arc<Error>) -> Error {
    Error::Unavailable(Box::new(Shared(Arc::clone(cause))))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Shared(#[source] Arc<Error>);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;

    const GROUPS: usize = 2;
    const MOST: usize = 32;

    /// Writes whose groups are noted, and end when they are allowed to.
    struct Held {
        batcher: Arc<Batcher<usize, usize>>,
        groups: Arc<Mutex<Vec<Vec<usize>>>>,
        ends: Arc<Semaphore>,
        turns: Arc<Mutex<Vec<Turn>>>,
        callers: JoinSet<usize>,
    }

    impl Held {
        fn new() -> Self {
            let (groups, ends) = (Arc::<Mutex<Vec<Vec<usize>>>>::default(), Arc::new(Semaphore::new(0)));
            let turns = Arc::<Mutex<Vec<Turn>>>::default();
            let (begun, allowed, given) = (Arc::clone(&groups), Arc::clone(&ends), Arc::clone(&turns));
            let write: Write<usize, usize> = Arc::new(move |jobs, turn| {
                begun.lock().unwrap().push(jobs.clone());
                given.lock().unwrap().push(turn);
                let allowed = Arc::clone(&allowed);
                Box::pin(async move {
                    allowed.acquire().await.unwrap().forget();
                    Ok(jobs.into_iter().map(|job| job * 10).collect())
                })
            });
            Self {
                batcher: Arc::new(Batcher::start(&Handle::current(), GROUPS, MOST, write)),
                groups,
                ends,
                turns,
                callers: JoinSet::new(),
            }
        }

        async fn ask(&mut self, jobs: std::ops::Range<usize>) {
            for job in jobs {
                let batcher = Arc::clone(&self.batcher);
                self.callers
                    .spawn(async move { batcher.run(job).await.unwrap_or(usize::MAX) });
            }
            settle().await;
        }

        async fn end_one(&self) {
            self.ends.add_permits(1);
            settle().await;
        }

        fn sizes(&self) -> Vec<usize> {
            self.groups.lock().unwrap().iter().map(Vec::len).collect()
        }
    }

    /// Lets all tasks go on until none can.
    async fn settle() {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn few_do_not_wait_for_one_another() {
        let mut held = Held::new();
        held.ask(0..1).await;
        held.ask(1..3).await;
        assert_eq!(held.sizes(), [1, 2]);
        held.ask(3..5).await;
        assert_eq!(held.sizes(), [1, 2], "there are two groups at a time at most");
        held.end_one().await;
        assert_eq!(held.sizes(), [1, 2, 2]);
    }

    #[tokio::test]
    async fn a_crowd_gathers_while_one_is_written() {
        let mut held = Held::new();
        held.ask(0..20).await;
        held.ask(20..30).await;
        held.ask(30..40).await;
        assert_eq!(held.sizes(), [20]);
        held.end_one().await;
        assert_eq!(held.sizes(), [20, 20]);
    }

    #[tokio::test]
    async fn the_next_group_begins_when_the_last_one_passes_its_turn() {
        let mut held = Held::new();
        held.ask(0..20).await;
        held.ask(20..35).await;
        let first = held.turns.lock().unwrap()[0].clone();
        first.pass();
        settle().await;
        assert_eq!(held.sizes(), [20, 15]);
        held.ask(35..50).await;
        first.pass();
        settle().await;
        assert_eq!(held.sizes(), [20, 15], "there are two groups at a time at most");
        held.end_one().await;
        assert_eq!(held.sizes(), [20, 15], "it is the second one's turn");
        held.end_one().await;
        assert_eq!(held.sizes(), [20, 15, 15]);
    }

    #[tokio::test]
    async fn a_full_group_does_not_wait() {
        let mut held = Held::new();
        held.ask(0..20).await;
        held.ask(20..100).await;
        assert_eq!(held.sizes(), [20, MOST]);
        held.end_one().await;
        assert_eq!(held.sizes(), [20, MOST, MOST]);
    }

    #[tokio::test]
    async fn everybody_gets_an_answer_of_his_own_though_the_batcher_is_dropped() {
        let mut held = Held::new();
        held.ask(0..100).await;
        let (callers, ends) = (std::mem::take(&mut held.callers), Arc::clone(&held.ends));
        drop(held);
        ends.add_permits(100);
        let mut answers = callers.join_all().await;
        answers.sort_unstable();
        assert_eq!(answers, (0..100).map(|job| job * 10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_error_is_everybodys() {
        let write: Write<(), ()> =
            Arc::new(|_, _| Box::pin(async { Err(Error::Unavailable("the disk is full".into())) }));
        let batcher = Batcher::start(&Handle::current(), GROUPS, MOST, write);
        let (one, other) = tokio::join!(batcher.run(()), batcher.run(()));
        for answer in [one, other] {
            let Err(Error::Unavailable(cause)) = answer else {
                panic!("no error")
            };
            assert!(cause.source().is_some());
        }
    }
}
