//! A private PostgreSQL server.

use std::fs::Permissions;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Database, programs, psql, text_of, url_through};
use crate::daemon::{self, Daemon, User};
use crate::{free_port, tls, unique_name};

const PASSWORD: &str = "bugle-test";

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Connections are ended, what they had not committed is undone, and a checkpoint is written.
    Fast,
    /// Everything ends at once, without a checkpoint: the next start recovers from the log.
    Immediate,
}

/// A server of its own, with `fsync` on; stopped and removed with this value.
#[derive(Debug)]
pub struct Server {
    daemon: Daemon,
    programs: PathBuf,
    port: u16,
    authority: Option<PathBuf>,
}

impl Server {
    /// Makes a cluster and starts it: about a second.
    #[must_use]
    pub fn new() -> Self {
        Self::with_settings(&[])
    }

    /// The same, with settings of `postgresql.conf` (their values as they would stand there between quotes).
    #[must_use]
    pub fn with_settings(settings: &[(&str, &str)]) -> Self {
        Self::make(settings, false)
    }

    /// The same, with a certificate, and no connection without TLS; [`Server::url`] asks for the whole check (`verify-full`).
    #[must_use]
    pub fn with_tls() -> Self {
        Self::make(&[], true)
    }

    fn make(settings: &[(&str, &str)], tls: bool) -> Self {
        let daemon = Daemon::new("bugle-postgres.", User::if_root("postgres"));
        let mut server = Self {
            daemon,
            programs: programs(),
            port: 0,
            authority: None,
        };
        server.init(settings);
        if tls {
            server.demand_tls();
        }
        server.start_anywhere();
        server
    }

    fn start_anywhere(&mut self) {
        for _ in 0..5 {
            self.port = free_port();
            // Somebody else may have taken the port meanwhile.
            if self.try_start().is_ok() {
                return;
            }
        }
        self.start();
    }

    /// Another server that follows this one and takes no writes: it streams what this one commits, and replays it a moment later. About two seconds.
    ///
    /// A slot keeps what it has not received yet, so it may be stopped for as long as it likes.
    #[must_use]
    pub fn replica(&self) -> Self {
        let daemon = Daemon::new("bugle-postgres.", User::if_root("postgres"));
        let mut replica = Self {
            daemon,
            programs: programs(),
            port: 0,
            authority: self.authority.clone(),
        };
        replica.copy(&self.url());
        replica.start_anywhere();
        replica
    }

    fn copy(&self, primary: &str) {
        let output = self
            .daemon
            .command(&self.programs.join("pg_basebackup"))
            .args([
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
                "-C",
                "-S",
                &unique_name(),
            ])
            .arg("-D")
            .arg(self.make_data())
            .args(["-d", primary])
            .output()
            .expect("run pg_basebackup");
        text_of(&output).unwrap_or_else(|error| panic!("pg_basebackup: {error}"));
    }

    /// A replica stands still where it is: it answers with what it knows, and learns nothing more.
    pub fn pause_replay(&self) {
        let _ = self.query("SELECT pg_wal_replay_pause()");
        self.wait_for("SELECT pg_get_wal_replay_pause_state() = 'paused'");
    }

    /// It goes on.
    pub fn resume_replay(&self) {
        let _ = self.query("SELECT pg_wal_replay_resume()");
    }

    /// Returns when a replica has replayed all that this server has committed.
    pub fn wait_for_replica(&self, replica: &Self) {
        let place = self.query("SELECT pg_current_wal_lsn()");
        replica.wait_for(&format!("SELECT pg_last_wal_replay_lsn() >= '{place}'"));
    }

    fn wait_for(&self, question: &str) {
        let since = Instant::now();
        while self.query(question) != "t" {
            assert!(since.elapsed() < Duration::from_secs(30), "still not true: {question}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn data(&self) -> PathBuf {
        self.daemon.dir().join("data")
    }

    fn init(&self, settings: &[(&str, &str)]) {
        let data = self.make_data();
        let password = self.daemon.dir().join("password");
        std::fs::write(&password, PASSWORD).expect("write");
        let output = self
            .daemon
            .command(&self.programs.join("initdb"))
            .args([
                "-U",
                "postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ])
            // Most installations order texts by a language; what relies on the order of bytes must say so.
            .args(["--locale-provider=icu", "--icu-locale=en-US"])
            .arg("--pwfile")
            .arg(&password)
            .arg("-D")
            .arg(&data)
            .output()
            .expect("run initdb");
        text_of(&output).unwrap_or_else(|error| panic!("initdb: {error}"));
        self.configure("listen_addresses", "127.0.0.1");
        self.configure("unix_socket_directories", "");
        self.configure("max_connections", "300");
        for (name, value) in settings {
            self.configure(name, value);
        }
    }

    fn make_data(&self) -> PathBuf {
        let data = self.data();
        std::fs::create_dir(&data).expect("mkdir");
        std::fs::set_permissions(&data, Permissions::from_mode(0o700)).expect("chmod");
        self.daemon.give(&data);
        data
    }

    fn demand_tls(&mut self) {
        let files = tls::write(self.daemon.dir());
        self.daemon.give(&files.key);
        std::fs::set_permissions(&files.key, Permissions::from_mode(0o600)).expect("chmod");
        self.configure("ssl", "on");
        self.configure("ssl_cert_file", &files.certificate.to_string_lossy());
        self.configure("ssl_key_file", &files.key.to_string_lossy());
        std::fs::write(
            self.data().join("pg_hba.conf"),
            "hostssl all,replication all 127.0.0.1/32 scram-sha-256\n",
        )
        .expect("write");
        self.authority = Some(files.authority);
    }

    /// Adds a line to `postgresql.conf`; the last one for a name wins, at the next start.
    pub fn configure(&self, name: &str, value: &str) {
        let path = self.data().join("postgresql.conf");
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(path)
            .expect("postgresql.conf");
        writeln!(file, "{name} = '{}'", value.replace('\'', "''")).expect("write");
    }

    /// The URL of its database `postgres`, with the superuser and the password.
    #[must_use]
    pub fn url(&self) -> String {
        let plain = format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres", self.port);
        match &self.authority {
            Some(file) => format!("{plain}?sslmode=verify-full&sslrootcert={}", file.display()),
            None => plain,
        }
    }

    /// The same, by way of a proxy.
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        url_through(&self.url(), address)
    }

    /// Where it listens; the same after each start.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The authority's file of a server [with TLS](Self::with_tls).
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// A fresh database on this server.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::on(self.url())
    }

    /// Runs statements in its database `postgres`, as [`Database::query`].
    #[must_use]
    pub fn query(&self, sql: &str) -> String {
        psql(&self.url(), sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Starts it after it was stopped or killed; returns when it takes connections.
    pub fn start(&mut self) {
        let since = Instant::now();
        while let Err(log) = self.try_start() {
            // After kill -9 the memory of the dead may be in use for another moment.
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "PostgreSQL does not start: {log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn try_start(&mut self) -> Result<(), String> {
        let data = self.data();
        let mut command = self.daemon.command(&self.programs.join("postgres"));
        command.arg("-D").arg(&data).args(["-p", &self.port.to_string()]);
        self.daemon.start(command, |pid| {
            let status = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let mut lines = status.lines();
            lines.next() == Some(&pid.to_string()) && lines.nth(6).is_some_and(|word| word.trim_end() == "ready")
        })
    }

    /// Stops it, ending all connections; returns when it has ended.
    pub fn stop(&mut self) {
        self.stop_by(Shutdown::Fast);
    }

    fn stop_by(&mut self, mode: Shutdown) {
        self.daemon.end(match mode {
            Shutdown::Fast => Signal::INT,
            Shutdown::Immediate => Signal::QUIT,
        });
    }

    /// Stops it and starts it again; returns when it takes connections.
    pub fn restart(&mut self, mode: Shutdown) {
        self.stop_by(mode);
        self.start();
    }

    /// Kills all its processes at once with `SIGKILL`, as the machine's power would; nothing that was not written survives.
    pub fn kill9(&mut self) {
        let Some(pid) = self.daemon.pid() else { return };
        // Without these a statement could go on, and commit, for as long as it does not look up.
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        self.daemon.end(Signal::KILL);
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            daemon::send(child, Signal::KILL);
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}
