//! Measures how fast an audience is walked and read on PostgreSQL: a channel of everybody, and a channel of one in a thousand.
//!
//! `cargo run --release -p bugle-store --example audience_rate -- postgres://… [devices]`; the database is an empty one, on this machine (its CPU time is read from /proc).
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for the terminal")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bugle_model::{
    AppId, Channel, Clock, Lane, NewPush, PageId, PageRef, Platform, Provider, PushUid, Recipient, Route, SystemClock,
};
use bugle_store::{Config, DatabaseUrl, Expansion, Handover, Store, postgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Devices of a walk.
const WALK: u32 = 16_000;
/// Pages that are taken at once.
const PAGES: usize = 8;

struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

async fn fill(conn: &mut PgConnection, devices: u64) {
    let statements = [
        "INSERT INTO apps (name) VALUES ('default') ON CONFLICT DO NOTHING".to_owned(),
        format!(
            "INSERT INTO devices (app, id, provider, platform, platform_word, token, token_hash, user_id, meta, timezone, locale, created_at, updated_at)
             SELECT (SELECT key FROM apps), 'd' || n, 1, 1, 'android', lpad(n::text, 22, '0') || ':' || repeat('x', 120),
                    decode(md5(n::text), 'hex'), '', '{{}}', '', '', 1, 1
               FROM generate_series(1, {devices}) n"
        ),
        "INSERT INTO subscriptions SELECT app, 'dense', 5, key, 1, covered_token(token) FROM devices".to_owned(),
        "INSERT INTO subscriptions SELECT app, 'sparse', 5, key, 1, covered_token(token) FROM devices WHERE key % 1000 = 0"
            .to_owned(),
        "VACUUM ANALYZE devices".to_owned(),
        "VACUUM ANALYZE subscriptions".to_owned(),
    ];
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *conn).await.unwrap();
    }
}

/// CPU time of the store's connections on the server's side.
async fn server_cpu(conn: &mut PgConnection) -> Duration {
    let pids: Vec<i32> = sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'bugle' AND datname = current_database()",
    )
    .fetch_all(conn)
    .await
    .unwrap();
    // The first number is nanoseconds on a CPU.
    let times = pids.into_iter().filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

async fn accept(store: &Arc<dyn Store>, channel: &str, round: u32) {
    let now = SystemClock.now();
    let push = NewPush {
        app: AppId::default_app(),
        uid: PushUid::parse(format!("{channel}-{round}-{}", now.0)).unwrap(),
        hash: [0; 32],
        recipient: Recipient::Channels(vec![Channel::parse(channel).unwrap()]),
        body: b"{}".to_vec(),
        providers: vec![Provider::Fcm],
        lane: Lane::Bulk,
        created_at: now,
        due: now,
        expires_at: now.plus(Duration::from_hours(24)),
    };
    store.accept(push).await.unwrap();
}

/// Walks and expands what is open; returns the pages, the time of the walks, and of the expansions.
async fn expand(store: &Arc<dyn Store>) -> (Vec<PageId>, Duration, Duration) {
    let (mut pages, mut walking, mut writing) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    let route = Route::of(Provider::Fcm, Platform::Android);
    loop {
        let legs = store.open_legs(SystemClock.now(), 100).await.unwrap();
        if legs.is_empty() {
            let due = store.due_pages(Lane::Bulk, SystemClock.now(), 1_000_000).await.unwrap();
            pages.extend(due.into_iter().map(|page| page.id));
            return (pages, walking, writing);
        }
        for leg in legs {
            let begun = Instant::now();
            let walk = store.walk(leg.push, leg.route, WALK).await.unwrap().unwrap();
            if leg.route == route {
                walking += begun.elapsed();
            }
            let begun = Instant::now();
            assert_eq!(store.expand(walk, SystemClock.now()).await.unwrap(), Expansion::Done);
            writing += begun.elapsed();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates for the eye")]
async fn measure(store: &Arc<dyn Store>, conn: &mut PgConnection, channel: &str, round: u32) {
    accept(store, channel, round).await;
    let cpu = server_cpu(conn).await;
    let (pages, walking, writing) = expand(store).await;
    let walk_cpu = server_cpu(conn).await.saturating_sub(cpu);
    let cpu = server_cpu(conn).await;
    let begun = Instant::now();
    for some in pages.chunks(PAGES) {
        store.take(some, Duration::from_hours(1)).await.unwrap();
    }
    let taking = begun.elapsed();
    let take_cpu = server_cpu(conn).await.saturating_sub(cpu);
    let cpu = server_cpu(conn).await;
    let begun = Instant::now();
    let mut tokens = 0;
    for page in &pages {
        tokens += store.reread(*page, 0).await.unwrap().len();
    }
    let reading = begun.elapsed();
    let read_cpu = server_cpu(conn).await.saturating_sub(cpu);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / tokens as f64;
    println!(
        "{channel:>6}: {tokens} tokens in {} pages; µs a token (on the server's CPU): walk {:.3} ({:.3} with expand), expand {:.3}, take {:.3} ({:.3}), read {:.3} ({:.3}); \
         walk + read: {:.0} tokens a second",
        pages.len(),
        each(walking),
        each(walk_cpu),
        each(writing),
        each(taking),
        each(take_cpu),
        each(reading),
        each(read_cpu),
        tokens as f64 / (walking + reading).as_secs_f64(),
    );
    let uids: Vec<PushUid> = sqlx::query_scalar::<_, String>("SELECT uid FROM pushes WHERE ended_at IS NULL")
        .fetch_all(conn)
        .await
        .unwrap()
        .into_iter()
        .map(|uid| PushUid::parse(uid).unwrap())
        .collect();
    for uid in uids {
        store
            .cancel(&AppId::default_app(), &uid, SystemClock.now())
            .await
            .unwrap();
    }
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap();
    let devices = args.next().map_or(1_000_000, |n| n.parse().unwrap());
    let config = Config {
        url: DatabaseUrl::new(url.clone()),
        ..Config::default()
    };
    let store: Arc<dyn Store> = postgres::open(&config, Arc::new(SystemClock), Arc::new(Deaf))
        .await
        .unwrap();
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM devices")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    if there == 0 {
        let begun = Instant::now();
        fill(&mut conn, devices).await;
        println!("filled in {:?}", begun.elapsed());
    }
    for round in 1..=3 {
        for channel in ["dense", "sparse"] {
            measure(&store, &mut conn, channel, round).await;
        }
    }
}
