//! Measures registrations a second: 64 callers, each waiting for its answer.
//!
//! `cargo run --release -p bugle-store --example registration_rate -- [full|normal|postgres://…] [callers] [seconds]`; the PostgreSQL database is best an empty one.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for the terminal")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bugle_model::{AppId, Clock, PageRef, Platform, Provider, Registration, SystemClock, Token};
use bugle_store::{Config, DatabaseUrl, Handover, Registry, postgres, sqlite};

struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

fn registration(number: u64) -> Registration {
    Registration {
        id: None,
        provider: Provider::Fcm,
        platform: Platform::Android,
        platform_word: "android",
        // As long as FCM's.
        token: Token::parse(&format!("{number:0>22}:{}", "x".repeat(120))).unwrap(),
        user: format!("user-{number}"),
        meta: BTreeMap::new(),
        timezone: None,
        locale: None,
        channels: None,
        topics: None,
    }
}

/// Runs all callers for so long; each takes the next number below `wrap`. Returns registrations a second.
async fn rate(store: &Arc<dyn Registry>, callers: usize, time: Duration, wrap: u64) -> (f64, u64) {
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (store, next) = (Arc::clone(store), Arc::clone(&next));
            tokio::spawn(async move {
                while begun.elapsed() < time {
                    let number = next.fetch_add(1, Ordering::Relaxed) % wrap;
                    let app = AppId::default_app();
                    store
                        .register(&app, registration(number), SystemClock.now())
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let done = next.load(Ordering::Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "a rate for the eye")]
    (done as f64 / begun.elapsed().as_secs_f64(), done)
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap_or_else(|| "full".to_owned());
    let callers = args.next().map_or(64, |n| n.parse().unwrap());
    let time = Duration::from_secs(args.next().map_or(5, |n| n.parse().unwrap()));
    let dir = tempfile::tempdir_in(".").unwrap();
    let mut config = Config::default();
    let store: Arc<dyn Registry> = if kind.starts_with("postgres") {
        config.url = DatabaseUrl::new(kind);
        println!("{callers} callers, PostgreSQL");
        postgres::open(&config, Arc::new(SystemClock), Arc::new(Deaf))
            .await
            .unwrap()
    } else {
        if kind == "normal" {
            config.synchronous = bugle_store::Synchronous::Normal;
        }
        println!("{callers} callers, SQLite, synchronous {kind}");
        sqlite::open(&config, dir.path(), Arc::new(SystemClock), Arc::new(Deaf)).unwrap()
    };
    let (new, count) = rate(&store, callers, time, u64::MAX).await;
    println!("new devices:        {new:>9.0} a second");
    let (again, _) = rate(&store, callers, time, count).await;
    println!("registered again:   {again:>9.0} a second, nothing but the time changed");
}
