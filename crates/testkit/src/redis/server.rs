//! A private Redis server, in one of its kinds.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{PATIENCE, call, wait_until};
use crate::daemon::Daemon;
use crate::{free_port, tls};

/// The name under which a [Sentinel](Server::sentinel) knows its master.
pub const MASTER_NAME: &str = "bugle";

/// A server of its own, without persistence; ended and removed with this value.
#[derive(Debug)]
pub struct Server {
    daemon: Daemon,
    port: u16,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// With further arguments.
    Plain(Vec<String>),
    /// Beside the plain port one with TLS.
    Tls { port: u16, files: tls::Files },
    /// A node of a cluster, with the port for the other nodes.
    Node { bus: u16 },
    /// Its configuration file, which Redis itself rewrites, has been written.
    Sentinel,
}

impl Server {
    /// Starts one.
    #[must_use]
    pub fn new() -> Self {
        Self::with_args(&[])
    }

    /// The same, with further arguments for `redis-server`, which win over this crate's own.
    #[must_use]
    pub fn with_args(args: &[&str]) -> Self {
        Self::make(|_| Kind::Plain(args.iter().map(|&arg| arg.to_owned()).collect()))
    }

    /// One that listens with TLS too, and asks no client for a certificate: [`Server::tls_url`].
    #[must_use]
    pub fn with_tls() -> Self {
        Self::make(|dir| Kind::Tls {
            port: free_port(),
            files: tls::write(dir),
        })
    }

    /// A replica of another server; returns when it has all of its data.
    #[must_use]
    pub fn replica_of(master: &Self) -> Self {
        let server = Self::with_args(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        wait_until("the replica is in step", || {
            server
                .command(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
        server
    }

    /// A Sentinel that watches the master under [`MASTER_NAME`]; `quorum` of them call it down, after a second.
    #[must_use]
    pub fn sentinel(master: &Self, quorum: u32) -> Self {
        Self::make(|dir| {
            let text = format!(
                "sentinel monitor {MASTER_NAME} 127.0.0.1 {} {quorum}\nsentinel down-after-milliseconds {MASTER_NAME} 1000\n\
                 sentinel failover-timeout {MASTER_NAME} 3000\n",
                master.port
            );
            std::fs::write(dir.join("sentinel.conf"), text).expect("write");
            Kind::Sentinel
        })
    }

    /// A node of a cluster that is still to be made.
    pub(super) fn node() -> Self {
        Self::make(|_| Kind::Node { bus: free_port() })
    }

    /// A node's port for the other nodes.
    pub(super) fn bus(&self) -> u16 {
        let Kind::Node { bus } = self.kind else {
            panic!("this server is no node")
        };
        bus
    }

    fn make(kind: impl Fn(&Path) -> Kind) -> Self {
        let daemon = Daemon::new("bugle-redis.", None);
        let kind_now = kind(daemon.dir());
        let mut server = Self {
            daemon,
            port: free_port(),
            kind: kind_now,
        };
        for _ in 0..5 {
            // Somebody else may have taken a port meanwhile.
            if server.try_start().is_ok() {
                return server;
            }
            server.port = free_port();
            server.kind = kind(server.daemon.dir());
        }
        server.start();
        server
    }

    fn try_start(&mut self) -> Result<(), String> {
        let mut command = self.daemon.command(Path::new("redis-server"));
        if matches!(self.kind, Kind::Sentinel) {
            command.args(["sentinel.conf", "--sentinel"]);
        }
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        if !matches!(self.kind, Kind::Sentinel) {
            command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        }
        match &self.kind {
            Kind::Plain(args) => {
                command.args(args);
            }
            Kind::Tls { port, files } => {
                command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
                command.arg("--tls-cert-file").arg(&files.certificate);
                command.arg("--tls-key-file").arg(&files.key);
                command.arg("--tls-ca-cert-file").arg(&files.authority);
            }
            Kind::Node { bus } => {
                command.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
                command.args(["--cluster-port", &bus.to_string()]);
            }
            Kind::Sentinel => {}
        }
        let address = self.address();
        // Who answers may be a stranger that was faster on this port.
        self.daemon
            .start(command, |pid| match call(address, &["INFO", "server"]) {
                Ok(info) => info.contains(&format!("process_id:{pid}\r\n")),
                Err(error) => error.starts_with("NOAUTH"),
            })
    }

    /// Its URL, without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The URL with TLS, of a server [with TLS](Self::with_tls); [`Server::authority`] is to be trusted.
    #[must_use]
    pub fn tls_url(&self) -> String {
        let Kind::Tls { port, .. } = self.kind else {
            panic!("this server has no TLS")
        };
        format!("rediss://127.0.0.1:{port}")
    }

    /// The authority's PEM file, of a server [with TLS](Self::with_tls).
    #[must_use]
    pub fn authority(&self) -> &Path {
        let Kind::Tls { files, .. } = &self.kind else {
            panic!("this server has no TLS")
        };
        &files.authority
    }

    /// Where it listens, without TLS; the same after each start.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Sends a command over a new connection. The answer's texts, one a line; an error answer panics.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> String {
        call(self.address(), words).unwrap_or_else(|error| panic!("Redis on {}: {error}", words.join(" ")))
    }

    /// Removes all keys, as an operator might.
    pub fn flushall(&self) {
        assert_eq!(self.command(&["FLUSHALL"]), "OK");
    }

    /// Starts it after it was stopped or killed, empty; returns when it answers.
    pub fn start(&mut self) {
        let since = Instant::now();
        while let Err(log) = self.try_start() {
            assert!(since.elapsed() < PATIENCE, "Redis does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it in good order.
    pub fn stop(&mut self) {
        self.daemon.end(Signal::TERM);
    }

    /// Stops it in good order and starts it, empty.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Kills it with `SIGKILL`.
    pub fn kill9(&mut self) {
        self.daemon.end(Signal::KILL);
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}
