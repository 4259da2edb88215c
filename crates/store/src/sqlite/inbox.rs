//! The way from asynchronous callers to a thread: two bounded queues, urgent before normal, but never twice before the same.
//!
//! A caller waits (without blocking its runtime) until its queue has a place: that is the back-pressure. A thread waits until
//! something is queued. Order within a queue is first come, first served.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// Items on their way to threads.
pub(super) struct Inbox<T> {
    urgent_places: Semaphore,
    normal_places: Semaphore,
    queues: Mutex<Queues<T>>,
    filled: Condvar,
}

struct Queues<T> {
    urgent: VecDeque<T>,
    /// The last group began with an urgent item while a normal one waited.
    passed_over: bool,
    normal: VecDeque<T>,
    closed: bool,
    /// Threads that wait on the condition; nobody is woken while there is none.
    waiting: usize,
}

/// The threads take nothing more.
#[derive(Debug, thiserror::Error)]
#[error("the store is shutting down")]
pub(super) struct Closed;

impl<T> Inbox<T> {
    /// An empty inbox with so many places in each queue.
    pub(super) fn new(places: usize) -> Self {
        Self {
            urgent_places: Semaphore::new(places),
            normal_places: Semaphore::new(places),
            queues: Mutex::new(Queues {
                urgent: VecDeque::new(),
                passed_over: false,
                normal: VecDeque::new(),
                closed: false,
                waiting: 0,
            }),
            filled: Condvar::new(),
        }
    }

    /// Queues an item as soon as there is a place. Once it is queued, dropping the future does not take it back.
    pub(super) async fn put(&self, urgent: bool, item: T) -> Result<(), Closed> {
        let places = if urgent {
            &self.urgent_places
        } else {
            &self.normal_places
        };
        places.acquire().await.map_err(|_| Closed)?.forget();
        let mut queues = self.lock();
        if queues.closed {
            return Err(Closed);
        }
        if urgent {
            queues.urgent.push_back(item);
        } else {
            queues.normal.push_back(item);
        }
        let somebody_waits = queues.waiting > 0;
        drop(queues);
        if somebody_waits {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// The next item; waits for one. `None` = closed, and everything that was queued has been taken.
    pub(super) fn take(&self) -> Option<T> {
        let mut queues = self.lock();
        loop {
            // Whoever was passed over once comes first now: urgent items may keep coming for ever.
            let normal_first = queues.passed_over && !queues.normal.is_empty();
            if let Some(item) = self.pop(&mut queues, normal_first, |_| true) {
                queues.passed_over = !normal_first && !queues.normal.is_empty();
                return Some(item);
            }
            if queues.closed {
                return None;
            }
            queues.waiting += 1;
            queues = self.filled.wait(queues).unwrap_or_else(PoisonError::into_inner);
            queues.waiting -= 1;
        }
    }

    /// The next item, if there is one and it fits. An item that does not fit is not overtaken.
    pub(super) fn take_if(&self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        self.pop(&mut self.lock(), false, fits)
    }

    /// Everything that is queued now.
    pub(super) fn drain(&self) -> Vec<T> {
        let mut queues = self.lock();
        std::iter::from_fn(|| self.pop(&mut queues, false, |_| true)).collect()
    }

    /// Lets nothing more in.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.urgent_places.close();
        self.normal_places.close();
        self.filled.notify_all();
    }

    /// How many are queued.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let queues = self.lock();
        queues.urgent.len() + queues.normal.len()
    }

    fn pop(&self, queues: &mut Queues<T>, normal_first: bool, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let (queue, places) = if normal_first || queues.urgent.is_empty() {
            (&mut queues.normal, &self.normal_places)
        } else {
            (&mut queues.urgent, &self.urgent_places)
        };
        if !queue.front().is_some_and(fits) {
            return None;
        }
        let item = queue.pop_front();
        places.add_permits(1);
        item
    }

    fn lock(&self) -> MutexGuard<'_, Queues<T>> {
        // Nothing that can panic happens under the lock, and the queues are whole at every step.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_normal_item_is_passed_over_once_at_most() {
        let inbox = Inbox::new(100);
        for i in 0..10 {
            inbox.put(true, format!("urgent {i}")).await.ok().unwrap();
        }
        inbox.put(false, "normal 0".to_owned()).await.ok().unwrap();
        inbox.put(false, "normal 1".to_owned()).await.ok().unwrap();
        let order: Vec<String> = std::iter::from_fn(|| (inbox.len() > 0).then(|| inbox.take()).flatten())
            .take(4)
            .collect();
        assert_eq!(order, ["urgent 0", "normal 0", "urgent 1", "normal 1"]);
        assert_eq!(inbox.take_if(|_| true).unwrap(), "urgent 2");
    }
}
