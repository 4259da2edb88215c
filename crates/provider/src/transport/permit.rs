//! The right to open one stream.

use std::rc::{Rc, Weak};

use tokio::task::spawn_local;
use tokio::time::sleep_until;

use super::connection::Connection;
use super::exchange::Reply;
use super::pool::Pool;

/// The right to open one stream at once. Given back when dropped.
pub(crate) struct Permit {
    connection: Rc<Connection>,
    pool: Weak<Pool>,
}

impl Permit {
    /// For a stream that is counted already, in the connection and in the pool.
    pub(super) fn new(connection: Rc<Connection>, pool: Weak<Pool>) -> Self {
        Self { connection, pool }
    }

    /// Who is told of answers; `None` = nobody is left.
    pub(super) fn reply(&self) -> Option<Rc<dyn Reply>> {
        self.pool.upgrade()?.reply()
    }

    pub(super) fn connection_rc(&self) -> Rc<Connection> {
        Rc::clone(&self.connection)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn retire_connection(&self) {
        self.connection.retire();
        if let Some(pool) = self.pool.upgrade() {
            pool.changed();
        }
    }

    pub(super) fn note_answer(&self) {
        self.connection.note_answer();
        if let Some(pool) = self.pool.upgrade() {
            pool.note_answer();
        }
    }

    pub(super) fn note_refusal(&self) {
        let (Some(until), pool) = (self.connection.note_refusal(), self.pool.clone()) else {
            return;
        };
        spawn_local(async move {
            sleep_until(until).await;
            if let Some(pool) = pool.upgrade() {
                pool.pump();
            }
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connection.in_use.set(self.connection.in_use.get() - 1);
        self.connection.close_if_idle();
        if let Some(pool) = self.pool.upgrade() {
            pool.returned();
        }
    }
}
