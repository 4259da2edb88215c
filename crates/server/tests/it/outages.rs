//! Redis and PostgreSQL in trouble while a push is on its way and clients go on calling.
//!
//! Whatever happens to them: what was answered with success is there afterwards and arrives, the account is exact, the same processes go on by themselves, and the push
//! ends within a minute of the trouble's end.

mod callers;

use std::time::{Duration, Instant};

use bugle_sim::Outcome;
use bugle_testkit::postgres::{self, Database, Shutdown};
use bugle_testkit::proxy::Proxy;
use bugle_testkit::redis;
use rstest::rstest;
use serde_json::{Value, json};

use self::callers::{Callers, Calls, FEW, FEW_DEVICES};
use crate::world::{Api, Backends, CHANNEL, World, assert_sums, insert_devices};

const PROCESSES: usize = 2;
const AUDIENCE: u64 = 12_000;
/// What a process may repeat whose pages another has taken over.
const BOUND: u64 = 2 * 10 + 200;
/// `store.timeout`, and what the way there and back may take on a busy machine.
const LONGEST_CALL: Duration = Duration::from_secs(4 + 3);
/// The push ends so long after the trouble at the latest.
const RECOVERY: Duration = Duration::from_secs(60);
/// Clients go on calling for so long after the trouble; no call is refused any more at the end.
const CALLS_RECOVERY: Duration = Duration::from_secs(3);
/// Forty streams with forty milliseconds an answer: a thousand requests a second. Windows are small, so that pages are handed out and taken all the time.
const LATENCY_MS: u64 = 40;
const SETTINGS: [(&str, &str); 8] = [
    ("fcm.connections", "2"),
    ("fcm.streams", "10"),
    ("fcm.request_timeout", "4s"),
    ("sender.lease", "10s"),
    ("sender.max_unsettled", "200"),
    ("sender.threads", "2"),
    ("fanout.push_window", "2000"),
    ("store.timeout", "4s"),
];

/// A push on its way.
struct Push {
    world: World,
    uid: String,
    callers: Callers,
    began: Instant,
}

impl Push {
    /// Starts the processes, which find store or queue at the place that `settings` name, and the push. Returns when a fifth of it is sent.
    async fn begin(backends: Backends, settings: &[(&str, &str)], database: Option<&Database>) -> Self {
        let settings: Vec<_> = SETTINGS.iter().chain(settings).copied().collect();
        let mut world = World::start_with(backends, PROCESSES, json!({"latency_ms": LATENCY_MS}), &settings).await;
        let database = database.unwrap_or_else(|| world.database());
        insert_devices(database, CHANNEL, "audience-", usize::try_from(AUDIENCE).unwrap());
        insert_devices(database, FEW, "few-", usize::try_from(FEW_DEVICES).unwrap());
        let apis: Vec<Api> = (0..PROCESSES).map(|process| world.api_of(process)).collect();
        let uid = world.api.broadcast().await;
        let push = Self {
            callers: Callers::start(&apis, LONGEST_CALL),
            world,
            uid,
            began: Instant::now(),
        };
        push.requests_reached(AUDIENCE / 5).await;
        let (sent, _) = accepted(&push.world, "audience-");
        assert!(sent < AUDIENCE / 2, "the trouble comes late: {sent} are sent");
        push
    }

    async fn requests_reached(&self, requests: u64) {
        tokio::time::timeout(Duration::from_secs(60), self.world.sim.requests_reached(requests))
            .await
            .unwrap_or_else(|_| panic!("not {requests} requests: {:#?}", self.world.sim.stats()));
    }

    /// The trouble is over: everything must come to a good end. Answers what the clients were told.
    async fn end(mut self, repeats_at_most: u64) -> Calls {
        let over = Instant::now();
        let deadline = over + RECOVERY;
        tokio::time::sleep(CALLS_RECOVERY).await;
        let calls = std::mem::take(&mut self.callers).stop().await;
        let status = self.ended(deadline).await;
        let took = over.elapsed();
        for process in 0..PROCESSES {
            let api = self.world.api_of(process);
            assert!(api.get("/health").await.0.is_success());
            calls
                .assert_kept(&api, &self.world.sim, deadline + Duration::from_secs(10))
                .await;
        }
        let (sent, repeats) = accepted(&self.world, "audience-");
        let (to_one, repeats_to_one) = accepted(&self.world, "raw-");
        eprintln!(
            "push took {:?}, {took:?} of it after the trouble; {repeats} + {repeats_to_one} repeats; {} registrations, {} pushes ({to_one} to one), {} calls refused, the slowest took {:?}",
            over - self.began + took,
            calls.devices.len(),
            calls.pushes.len(),
            calls.refused,
            calls.slowest,
        );
        assert_eq!(
            calls.refused_at_last, 0,
            "clients are refused {CALLS_RECOVERY:?} after the trouble"
        );
        assert_eq!(sent, AUDIENCE, "every device is reached");
        let account = json!({"state": "done", "targeted": AUDIENCE, "sent": sent, "failed": 0, "invalid": 0, "skipped": 0, "waiting": 0});
        for (key, value) in account.as_object().unwrap() {
            assert_eq!(&status[key], value, "{key}: {status}");
        }
        assert!(
            repeats + repeats_to_one <= repeats_at_most,
            "{repeats} + {repeats_to_one} repeats"
        );
        calls
    }

    /// The account once the push has ended. While a store recovers, asking for it may fail.
    async fn ended(&self, deadline: Instant) -> Value {
        loop {
            let mut answer = self.world.api.answer("push_status", &json!({"uid": self.uid})).await;
            if let Some(status) = answer.get_mut("result") {
                assert_sums(status);
                if status.get("ended_at").is_some() {
                    return status.take();
                }
            }
            assert!(Instant::now() < deadline, "not ended within {RECOVERY:?}: {answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// How many tokens with this prefix were accepted by the simulator, and how often one of them once more.
fn accepted(world: &World, prefix: &str) -> (u64, u64) {
    let (mut tokens, mut requests) = (0, 0);
    let mut after = None;
    loop {
        let page = world.sim.tokens(None, after.as_deref(), 10_000).unwrap();
        for token in page.tokens.iter().filter(|token| token.token.starts_with(prefix)) {
            let accepted = u64::from(token.count(Outcome::Accepted));
            tokens += u64::from(accepted > 0);
            requests += accepted;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return (tokens, requests - tokens),
        }
    }
}

/// What may happen to a server.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It is stopped and started, three times.
    Restarts,
    /// It is killed with all its processes and started.
    Killed,
    /// All is deleted, three times.
    Emptied,
    /// Its connections are closed, and none is taken for so many seconds.
    Cut(u64),
    /// Its connections stay, and nothing passes for so many seconds.
    Silent(u64),
    /// Each answer takes so many milliseconds longer, for so many seconds.
    Slow(u64, u64),
}

impl Trouble {
    async fn strike_network(self, proxy: &Proxy) {
        let seconds = match self {
            Self::Cut(seconds) => {
                proxy.cut();
                seconds
            }
            Self::Silent(seconds) => {
                proxy.stall();
                seconds
            }
            Self::Slow(milliseconds, seconds) => {
                proxy.delay(Duration::from_millis(milliseconds));
                seconds
            }
            other => panic!("{other:?} is not the network's"),
        };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        proxy.restore();
    }
}

/// Nobody needs Redis to know what there is to do: no call is refused, and nothing leaves twice. The ledger is not looked through while this runs, but where the queue asks for it.
#[rstest]
#[case::restarted(Trouble::Restarts)]
#[case::emptied(Trouble::Emptied)]
#[case::cut_off_for_20_s(Trouble::Cut(20))]
#[case::silent_for_8_s(Trouble::Silent(8))]
#[case::slowed_to_500_ms(Trouble::Slow(500, 10))]
#[tokio::test(flavor = "multi_thread")]
async fn redis_in_trouble_loses_nothing_repeats_nothing_and_refuses_nothing(#[case] trouble: Trouble) {
    let mut redis = redis::Server::new();
    let proxy = Proxy::start(redis.address());
    let url = format!("redis://{}", proxy.address());
    let push = Push::begin(
        Backends::PostgresRedis,
        &[("queue.url", &url), ("fanout.refill", "60s")],
        None,
    )
    .await;
    match trouble {
        Trouble::Restarts | Trouble::Emptied => {
            for share in 3..6 {
                match trouble {
                    Trouble::Emptied => redis.flushall(),
                    _ => tokio::task::block_in_place(|| redis.restart()),
                }
                push.requests_reached(AUDIENCE * share / 10).await;
            }
        }
        network => network.strike_network(&proxy).await,
    }
    let calls = push.end(0).await;
    assert_eq!(calls.refused, 0, "the store was there all the time");
    drop(redis);
}

/// Calls that could not be made durable are refused, and none hangs. Where nothing is answered for as long as a lease lasts, pages change hands.
#[rstest]
#[case::restarted(Trouble::Restarts, Backends::Postgres, 0)]
#[case::killed(Trouble::Killed, Backends::PostgresRedis, 0)]
#[case::cut_off_for_10_s(Trouble::Cut(10), Backends::Postgres, PROCESSES as u64 * BOUND)]
#[case::silent_for_12_s(Trouble::Silent(12), Backends::PostgresRedis, PROCESSES as u64 * BOUND)]
#[case::slowed_by_150_ms(Trouble::Slow(150, 10), Backends::Postgres, 0)]
#[tokio::test(flavor = "multi_thread")]
async fn postgres_in_trouble_loses_nothing_and_what_is_not_durable_is_refused(
    #[case] trouble: Trouble,
    #[case] backends: Backends,
    #[case] repeats: u64,
) {
    let mut server = postgres::Server::new();
    let proxy = Proxy::start(server.address());
    let database = server.database();
    let url = database.url_through(proxy.address());
    let push = Push::begin(backends, &[("store.url", &url)], Some(&database)).await;
    match trouble {
        Trouble::Restarts => {
            for (share, how) in [(3, Shutdown::Fast), (4, Shutdown::Immediate), (5, Shutdown::Fast)] {
                tokio::task::block_in_place(|| server.restart(how));
                push.requests_reached(AUDIENCE * share / 10).await;
            }
        }
        Trouble::Killed => {
            tokio::task::block_in_place(|| server.kill9());
            tokio::time::sleep(Duration::from_secs(1)).await;
            tokio::task::block_in_place(|| server.start());
        }
        network => network.strike_network(&proxy).await,
    }
    let calls = push.end(repeats).await;
    match trouble {
        Trouble::Slow(..) => assert_eq!(calls.refused, 0, "slow answers are answers"),
        _ => assert!(calls.refused > 0, "calls were answered by a store that was not there"),
    }
}
