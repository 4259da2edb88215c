//! What the tests here share: the real binary, once or several times over the same backends, a simulator in this process, a client of the API.

mod api;
mod server;

use std::collections::BTreeMap;
use std::path::Path;

use bugle_sim::{Outcome, Sim};
use bugle_testkit::postgres::Database;
use serde_json::Value;

pub(crate) use api::Api;
pub(crate) use server::{Server, address, asking, bugle, run};

pub(crate) const KEY: &str = "test-key";
pub(crate) const CHANNEL: &str = "news";

/// What a world runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backends {
    /// SQLite and the queue in memory: one process.
    Embedded,
    /// A fresh PostgreSQL database for store and queue.
    Postgres,
    /// The same, with the queue in Redis, under a prefix of its own.
    PostgresRedis,
}

/// With many processes a page of one that was killed comes free after its lease, which is short here.
const SHORT_LEASE: [(&str, &str); 3] = [
    ("fcm.request_timeout", "2s"),
    ("sender.lease", "10s"),
    ("fanout.refill", "1s"),
];

/// A simulator and the server's processes.
pub(crate) struct World {
    pub(crate) sim: Sim,
    /// The first process.
    pub(crate) server: Server,
    /// Those beside it.
    pub(crate) others: Vec<Server>,
    /// A client of the first process that runs.
    pub(crate) api: Api,
    settings: BTreeMap<String, String>,
    /// Dropped after the processes.
    database: Option<Database>,
}

impl World {
    /// A simulator over TLS and a server that sends to it. `settings` are `section.key` and value.
    pub(crate) async fn start(sim_settings: Value, settings: &[(&str, &str)]) -> Self {
        Self::start_with(Backends::Embedded, 1, sim_settings, settings).await
    }

    /// The same over other backends, with as many processes. Each has a port and a directory of its own. A `store.url` or `queue.url` among the settings
    /// (a proxy's address, a private server) wins over the backends' own.
    pub(crate) async fn start_with(
        backends: Backends,
        processes: usize,
        sim_settings: Value,
        settings: &[(&str, &str)],
    ) -> Self {
        assert!(
            processes == 1 || backends != Backends::Embedded,
            "SQLite is for one process"
        );
        let dir = tempfile::tempdir().unwrap();
        let sim = simulator(dir.path(), true, sim_settings).await;
        let mut all = sending_to(&sim, dir.path());
        let mut database = None;
        if backends != Backends::Embedded {
            all.extend(owned(&SHORT_LEASE));
            if !settings.iter().any(|(key, _)| *key == "store.url") {
                let fresh = bugle_testkit::postgres::database();
                all.insert("store.url".to_owned(), fresh.url());
                database = Some(fresh);
            }
        }
        if backends == Backends::PostgresRedis {
            all.insert("queue.url".to_owned(), bugle_testkit::redis::url());
            all.insert("queue.prefix".to_owned(), bugle_testkit::redis::prefix());
        }
        all.extend(owned(settings));
        let server = Server::start(dir, all.clone());
        let mut world = Self {
            sim,
            api: Api::new(server.addr, KEY),
            server,
            others: Vec::new(),
            settings: all,
            database,
        };
        for _ in 1..processes {
            world.start_another(&[]);
        }
        world
    }

    /// One more process, with these settings beside those of all. Answers its number.
    pub(crate) fn start_another(&mut self, settings: &[(&str, &str)]) -> usize {
        let mut all = self.settings.clone();
        all.extend(owned(settings));
        self.others.push(Server::start(tempfile::tempdir().unwrap(), all));
        self.find_api();
        self.others.len()
    }

    /// The database of all processes.
    pub(crate) fn database(&self) -> &Database {
        self.database.as_ref().expect("this world has a database of its own")
    }

    /// A process by its number; 0 is the first.
    pub(crate) fn process(&mut self, number: usize) -> &mut Server {
        match number {
            0 => &mut self.server,
            number => &mut self.others[number - 1],
        }
    }

    /// The numbers of the processes that have not been killed or stopped.
    pub(crate) fn running(&self) -> Vec<usize> {
        let all = std::iter::once(&self.server).chain(&self.others).enumerate();
        all.filter(|(_, server)| server.is_running())
            .map(|(number, _)| number)
            .collect()
    }

    /// A client of one process.
    pub(crate) fn api_of(&mut self, number: usize) -> Api {
        Api::new(self.process(number).addr, KEY)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, number: usize) {
        self.process(number).kill();
        self.find_api();
    }

    /// SIGSTOP: the process stands still until it is thawed.
    pub(crate) fn freeze(&mut self, number: usize) {
        self.process(number).signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self, number: usize) {
        self.process(number).signal("CONT");
    }

    /// Stops a process gracefully, which must succeed.
    pub(crate) async fn stop(&mut self, number: usize) {
        assert!(self.process(number).stop().await.success());
        self.find_api();
    }

    /// Starts a process that has ended, with its old directory and settings.
    pub(crate) fn restart(&mut self, number: usize) {
        self.process(number).restart();
        self.find_api();
    }

    /// Kills the first process and starts it again on the same data.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill(0);
        self.restart(0);
    }

    fn find_api(&mut self) {
        if let Some(first) = self.running().first() {
            self.api = self.api_of(*first);
        }
    }

    /// Fails unless the account, bucket by bucket, is what the simulator saw, token by token.
    pub(crate) fn assert_account_is_the_tally(&self, status: &Value) {
        let stats = self.sim.stats();
        let class = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| stats.class(*outcome)).sum::<u64>();
        let sent = class(&[Outcome::Accepted]);
        let invalid = class(&[Outcome::Unregistered, Outcome::BadToken]);
        assert_eq!(status["sent"], sent, "sent: {status}\n{stats:#?}");
        assert_eq!(status["invalid"], invalid, "invalid: {status}\n{stats:#?}");
        assert_eq!(
            status["failed"],
            stats.tokens - sent - invalid,
            "failed: {status}\n{stats:#?}"
        );
        assert_sums(status);
    }
}

fn owned(settings: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
}

/// Devices of three platforms with the tokens `prefix000000` and up, subscribed to a channel, by SQL: through the API 200 000 of them take minutes.
pub(crate) fn insert_devices(database: &Database, channel: &str, prefix: &str, count: usize) {
    let inserted = database.query(&format!(
        "INSERT INTO apps (name) VALUES ('default') ON CONFLICT DO NOTHING;
        WITH new AS (
            INSERT INTO devices (app, id, provider, platform, platform_word, token, token_hash, user_id, meta, timezone, locale, created_at, updated_at)
            SELECT apps.key, token, 1, 1 + n % 3, (ARRAY['android', 'ios', 'web'])[1 + n % 3], token, substring(sha256(convert_to(token, 'UTF8')), 1, 16),
                '', '{{}}', '', '', now, now
            FROM apps, generate_series(0, {count} - 1) AS n, concat('{prefix}', lpad(n::text, 6, '0')) AS token,
                cast(extract(epoch FROM now()) * 1000 AS bigint) AS now
            WHERE name = 'default'
            RETURNING app, platform, key, token
        ), subscribed AS (
            INSERT INTO subscriptions (app, channel, route, key, origins, token)
            SELECT app, '{channel}', 4 + platform, key, 1, covered_token(token) FROM new RETURNING key
        )
        SELECT count(*) FROM subscribed"
    ));
    assert_eq!(inserted, count.to_string());
}

/// Fails unless every leg's and the push's counts add up.
pub(crate) fn assert_sums(status: &Value) {
    let counts = [
        "sent",
        "failed",
        "invalid",
        "skipped",
        "expired",
        "cancelled",
        "waiting",
    ];
    let number = |of: &Value, key: &str| of[key].as_u64().unwrap_or_else(|| panic!("{key} is missing in {of}"));
    let legs = status["legs"].as_array().unwrap();
    for of in legs.iter().chain([status]) {
        assert_eq!(
            number(of, "targeted"),
            counts.iter().map(|key| number(of, key)).sum::<u64>(),
            "{of}"
        );
    }
    for key in counts.iter().chain(&["targeted"]) {
        assert_eq!(
            number(status, key),
            legs.iter().map(|leg| number(leg, key)).sum::<u64>(),
            "{key}: {status}"
        );
    }
}

pub(crate) async fn simulator(dir: &Path, tls: bool, settings: Value) -> Sim {
    let config = bugle_sim::Config {
        tls,
        state_dir: Some(dir.join("sim")),
        ..bugle_sim::Config::default()
    };
    let sim = Sim::start(config).await.unwrap();
    sim.merge(&settings).unwrap();
    sim
}

/// The settings of a server that sends to the simulator, quickly enough for a test.
pub(crate) fn sending_to(sim: &Sim, dir: &Path) -> BTreeMap<String, String> {
    let file = |name: &str| dir.join("sim").join(name).display().to_string();
    [
        ("fcm.endpoint", sim.endpoint().to_owned()),
        ("fcm.credentials_file", file("service-account.json")),
        ("tls.extra_ca_file", file("ca.pem")),
        ("sender.backoff", "100ms".to_owned()),
        ("sender.backoff_max", "2s".to_owned()),
        ("log.level", "info".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

pub(crate) fn tokens(prefix: &str, count: usize) -> impl Iterator<Item = String> + use<'_> {
    (0..count).map(move |i| format!("{prefix}{i:06}"))
}
