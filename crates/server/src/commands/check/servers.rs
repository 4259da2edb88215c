//! The servers that many processes share: PostgreSQL, its replica, and Redis.

use bugle_provider::Finding;
use bugle_store::postgres::{self, Inspection};

use crate::backends::{QueueKind, place, redis_problem};
use crate::config::Settings;

/// A replica that is further behind gives lists that people notice.
const BEHIND_SECS: u64 = 30;

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    if settings.store.url.is_postgres() {
        found.extend(primary(settings).await);
        found.extend(replica(settings).await);
    }
    if QueueKind::of(settings) == Ok(QueueKind::Redis) {
        found.push(redis(settings).await);
    }
    found
}

async fn redis(settings: &Settings) -> Finding {
    const ITEM: &str = "Redis";
    let url = settings.queue.url.expose();
    let seen = match bugle_queue::redis::inspect(&settings.queue).await {
        Ok(seen) => seen,
        Err(error) => {
            return Finding::failed(
                ITEM,
                redis_problem(settings, &error),
                "start the server, let it be reached from here, or correct queue.url and queue.ca_file",
            );
        }
    };
    let encryption = if url.starts_with("rediss") {
        "encrypted"
    } else {
        "not encrypted"
    };
    let words = format!("{} at {}, {encryption}", seen.version, place(url));
    if !seen.is_supported {
        return Finding::failed(
            ITEM,
            format!("{words}: too old"),
            "Redis 7 or later, or Valkey, is needed",
        );
    }
    if seen.is_replica {
        let remedy = "set queue.url to the master, or to its Sentinels (redis+sentinel://…)";
        return Finding::failed(ITEM, format!("{words}: a replica, which takes no writes"), remedy);
    }
    if seen.eviction == "noeviction" {
        return Finding::ok(ITEM, words);
    }
    Finding {
        remedy: "set maxmemory-policy noeviction: what Redis throws away waits until the ledger is read again"
            .to_owned(),
        ..Finding::ok(ITEM, format!("{words}, but maxmemory-policy is {}", seen.eviction))
    }
}

async fn primary(settings: &Settings) -> Vec<Finding> {
    const ITEM: &str = "PostgreSQL";
    const FORM: &str = "database";
    let seen = match postgres::inspect(&settings.store).await {
        Ok(seen) => seen,
        Err(error) => {
            let remedy = "start the server, let it be reached from here, or correct store.url: host, port, user, password, database and sslmode";
            return vec![
                Finding::failed(ITEM, error.to_string(), remedy),
                Finding::skipped(FORM, "needs PostgreSQL"),
            ];
        }
    };
    let shown = place(settings.store.url.expose());
    let words = format!("{} at {shown}, {}", seen.version, encryption(&seen));
    let server = if !seen.is_supported {
        Finding::failed(ITEM, format!("{words}: too old"), "PostgreSQL 15 or later is needed")
    } else if seen.lag.is_some() {
        Finding::failed(
            ITEM,
            format!("{words}: a replica, which takes no writes"),
            "set store.url to the primary, and store.replica_url to this one if lists shall be read from it",
        )
    } else {
        Finding::ok(ITEM, words)
    };
    let mut found = vec![server, form(FORM, settings, &seen), room(settings, &seen)];
    if !seen.is_durable {
        found.push(Finding {
            remedy: "set fsync = on and synchronous_commit = on, unless this is a test".to_owned(),
            ..Finding::ok(
                "PostgreSQL durability",
                "fsync or synchronous_commit is off: a crash of the server may lose what was answered",
            )
        });
    }
    found
}

fn encryption(seen: &Inspection) -> &'static str {
    if seen.tls { "encrypted" } else { "not encrypted" }
}

fn form(item: &str, settings: &Settings, seen: &Inspection) -> Finding {
    match &seen.form {
        Ok((0, _)) if settings.store.migrate => Finding::ok(item, "empty; `bugle serve` makes the tables"),
        Ok((0, _)) => Finding::failed(
            item,
            "empty, and store.migrate is false: `bugle serve` refuses it",
            "run `bugle migrate`",
        ),
        Ok((form, known)) if form == known => Finding::ok(item, format!("form {form}, as this version writes it")),
        Ok((form, known)) if settings.store.migrate => Finding::ok(
            item,
            format!("the older form {form}; `bugle serve` will bring it to {known}: make a backup first"),
        ),
        Ok((form, known)) => Finding::failed(
            item,
            format!("the older form {form}, this version needs {known}, and store.migrate is false"),
            "make a backup, and run `bugle migrate`",
        ),
        Err(problem) => Finding::failed(
            item,
            problem.clone(),
            "see to what is said, or set store.url to another database",
        ),
    }
}

fn room(settings: &Settings, seen: &Inspection) -> Finding {
    const ITEM: &str = "PostgreSQL connections";
    // The store's listener, the queue's two, and the three that the server keeps for its administrator.
    const BESIDE: u32 = 6;
    let mine = u32::from(settings.store.connections);
    let words = format!("up to {mine} of the server's {} for each process", seen.max_connections);
    if mine + BESIDE <= seen.max_connections {
        return Finding::ok(ITEM, words);
    }
    Finding::failed(
        ITEM,
        words,
        "lower store.connections or raise the server's max_connections: the sum over all processes must fit",
    )
}

async fn replica(settings: &Settings) -> Option<Finding> {
    const ITEM: &str = "PostgreSQL replica";
    let url = settings.store.replica_url.as_ref()?;
    let remedy = "start it, or take store.replica_url out: the primary serves lists, too";
    let seen = match postgres::inspect_replica(&settings.store).await {
        Ok(seen) => seen?,
        Err(error) => return Some(Finding::failed(ITEM, error.to_string(), remedy)),
    };
    let words = format!("{} at {}, {}", seen.version, place(url.expose()), encryption(&seen));
    let Some(lag) = seen.lag else {
        return Some(Finding::failed(
            ITEM,
            format!("{words}: no replica, it takes writes of its own"),
            "set store.replica_url to a server that follows the one of store.url",
        ));
    };
    let behind = lag.as_secs();
    if behind > BEHIND_SECS {
        return Some(Finding::failed(
            ITEM,
            format!("{words}, {behind} s behind"),
            "see why it does not keep up: lists show what was so long ago",
        ));
    }
    Some(match &seen.form {
        Ok((form, known)) if form >= known || settings.store.migrate => {
            Finding::ok(ITEM, format!("{words}, {behind} s behind"))
        }
        Ok(_) => Finding::ok(ITEM, format!("{words}, {behind} s behind, of an older form")),
        Err(problem) => Finding::failed(
            ITEM,
            problem.clone(),
            "set store.replica_url to a server that follows the one of store.url",
        ),
    })
}
