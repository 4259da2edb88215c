//! Which store and which queue there are: the only place that names concrete ones.

use std::sync::Arc;

use bugle_model::{AppId, Clock};
use bugle_queue::memory::Memory;
use bugle_queue::{Backend, Queue};
use bugle_store::{Handover, Store, sqlite};

use crate::config::Settings;
use crate::roles::{Role, Roles};

/// The queues that `queue.url` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueKind {
    /// In this process alone.
    Memory,
    /// A memory in each process, and hints between them through PostgreSQL.
    Postgres,
    /// References in Redis Streams.
    Redis,
}

impl QueueKind {
    /// The queue that the settings mean; an error, naming the key, if it does not go with the store or the roles.
    pub(crate) fn of(settings: &Settings) -> Result<Self, String> {
        let shared = settings.store.url.is_postgres();
        let kind = match settings.queue.backend() {
            Backend::Auto if shared => Self::Postgres,
            Backend::Auto | Backend::Memory => Self::Memory,
            Backend::Postgres => Self::Postgres,
            Backend::Redis => Self::Redis,
        };
        match kind {
            Self::Redis if !shared => Err(
                "queue.url: Redis without PostgreSQL is no mode: set store.url to PostgreSQL, or take queue.url out"
                    .to_owned(),
            ),
            Self::Postgres if !shared => {
                Err("queue.url: a queue in PostgreSQL needs store.url to be PostgreSQL too".to_owned())
            }
            Self::Memory if settings.roles != Roles::ALL => {
                Err("queue.url: a queue in memory is for one process that has all roles; take queue.url out".to_owned())
            }
            kind => Ok(kind),
        }
    }

    /// Must a process with these roles read waiting pages from the ledger?
    ///
    /// References in Redis are everybody's, so that whoever fans out fills it. Otherwise each process has references of its own, and needs them to send.
    pub(crate) fn is_refilled_by(self, roles: Roles) -> bool {
        match self {
            Self::Memory | Self::Postgres => roles.has(Role::Sender),
            Self::Redis => roles.has(Role::Fanout),
        }
    }
}

/// Opens the queue.
pub(crate) async fn queue(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Queue>> {
    let (clock, sends) = (Arc::clone(clock), settings.roles.has(Role::Sender));
    match QueueKind::of(settings).map_err(anyhow::Error::msg)? {
        QueueKind::Memory => Ok(Arc::new(Memory::new(&settings.queue, clock))),
        QueueKind::Postgres => {
            Ok(bugle_queue::postgres::open(settings.store.url.expose(), &settings.queue, clock, sends).await?)
        }
        QueueKind::Redis => {
            // A page that nobody has reported on for so long is in nobody's hands, whatever Redis has it down as.
            let idle = settings.sender.lease.get() * 2;
            let opened = bugle_queue::redis::open(&settings.queue, &[AppId::default_app()], clock, sends, idle).await;
            let queue = opened.map_err(|error| anyhow::anyhow!("{}", redis_problem(settings, &error)))?;
            must_suit(settings).await?;
            Ok(queue)
        }
    }
}

/// Why Redis cannot be used, and where it was looked for. Some of its errors are their own cause: that is said once.
pub(crate) fn redis_problem(settings: &Settings, error: &bugle_queue::Error) -> String {
    let place = place(settings.queue.url.expose());
    match std::error::Error::source(error) {
        Some(cause) => format!("queue.url: cannot use Redis at {place}: {cause}"),
        None => format!("{error} ({place})"),
    }
}

/// Refuses a Redis that is too old or a replica, as far as it lets itself be asked, and warns of one that evicts.
async fn must_suit(settings: &Settings) -> anyhow::Result<()> {
    let Ok(seen) = bugle_queue::redis::inspect(&settings.queue).await else {
        return Ok(());
    };
    let place = place(settings.queue.url.expose());
    if !seen.is_supported {
        anyhow::bail!(
            "queue.url: {} at {place} is too old: expected Redis 7 or later, or Valkey",
            seen.version
        );
    }
    if seen.is_replica {
        anyhow::bail!(
            "queue.url: {} at {place} is a replica: expected the master, or its Sentinels",
            seen.version
        );
    }
    if seen.eviction != "noeviction" {
        tracing::warn!(
            policy = seen.eviction,
            "Redis (queue.url) evicts: set maxmemory-policy noeviction"
        );
    }
    Ok(())
}

/// Opens the store.
pub(crate) async fn store(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    handover: Arc<dyn Handover>,
) -> anyhow::Result<Arc<dyn Store>> {
    Ok(bugle_store::open(&settings.store, &settings.data.dir, Arc::clone(clock), handover).await?)
}

/// Where the registry and the ledger are, in words, without credentials.
pub(crate) fn store_words(settings: &Settings) -> String {
    if settings.store.url.is_postgres() {
        return format!("PostgreSQL at {}", place(settings.store.url.expose()));
    }
    match sqlite::path(&settings.store, &settings.data.dir) {
        Ok(path) => format!("SQLite, {}", path.display()),
        Err(_) => "SQLite".to_owned(),
    }
}

/// Where the queue is, in words, without credentials.
pub(crate) fn queue_words(settings: &Settings) -> String {
    match QueueKind::of(settings) {
        Ok(QueueKind::Memory) | Err(_) => "memory".to_owned(),
        Ok(QueueKind::Postgres) => "PostgreSQL".to_owned(),
        Ok(QueueKind::Redis) => format!("Redis at {}", place(settings.queue.url.expose())),
    }
}

/// Host, port and path of a URL; never its user, its password or its parameters.
pub(crate) fn place(url: &str) -> &str {
    const UNKNOWN: &str = "the address of the configuration";
    let Some((_, rest)) = url.split_once("://") else {
        return UNKNOWN;
    };
    let shown = rest.split(['?', '#']).next().unwrap_or_default();
    // A password that is not escaped may hold a ? itself: then what stands before it is a part of the password.
    if rest[shown.len()..].contains('@') {
        return UNKNOWN;
    }
    shown.rsplit_once('@').map_or(shown, |(_, place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_never_has_credentials() {
        for (url, shown) in [
            ("postgres://u:SECRET@db:5432/bugle?sslmode=require", "db:5432/bugle"),
            ("postgres://db/bugle?user=u&password=SECRET", "db/bugle"),
            ("postgres://u:SEC@RET@db/bugle", "db/bugle"),
            ("redis://:SECRET@cache:6379/0", "cache:6379/0"),
            ("redis+sentinel://u:SECRET@a:26379,b:26379/main", "a:26379,b:26379/main"),
            ("redis://cache", "cache"),
            ("postgres://u:SE/CRET@db/bugle", "db/bugle"),
        ] {
            assert_eq!(place(url), shown, "{url}");
        }
        for url in [
            "postgres://u:SEC?RET@db/bugle",
            "postgres://u:SEC#RET@db/bugle",
            "postgres://db/bugle?password=SEC@RET",
            "postgres://u:SECRET@db/bugle?options=a@b",
            "SECRET",
        ] {
            assert_eq!(place(url), "the address of the configuration", "{url}");
        }
    }
}
