//! Where Redis is: one server, a master that Sentinels know, or a Cluster.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline, RedisFuture,
    RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio::sync::Mutex;

use super::PATIENCE;
use crate::{Config, Error};

/// How long connecting may take, from the first packet to the last word of greeting.
const CONNECT: Duration = Duration::from_secs(5);

/// Where to connect to.
pub(super) enum Endpoint {
    /// One server.
    One(Box<Client>),
    /// The master of that name, wherever the Sentinels say it is; asked anew for each connection.
    Sentinel(Box<Mutex<SentinelClient>>),
    /// A Cluster, and how long its answers may take.
    Cluster(Box<dyn Fn(Duration) -> RedisResult<ClusterClient> + Send + Sync>),
}

/// A connection to whatever it is.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A URL with several hosts, in its parts.
struct Parts {
    /// One a host, with the credentials.
    hosts: Vec<ConnectionInfo>,
    /// What follows the hosts, without the slash.
    path: String,
    certificates: Option<TlsCertificates>,
}

impl Endpoint {
    pub(super) fn parse(config: &Config) -> Result<Self, Error> {
        let url = config.url.expose();
        let wrong = |problem: &str| Error::Config {
            key: "queue.url",
            problem: problem.to_owned(),
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("expected redis://…"))?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(base, "redis" | "rediss") {
            return Err(wrong("expected redis://… or rediss://…"));
        }
        let tls = base == "rediss";
        let certificates = tls.then(|| certificates(config)).transpose()?;
        match kind {
            "" => Self::one(url, certificates),
            "sentinel" => Self::sentinel(Parts::read(base, rest, certificates)?),
            "cluster" => Self::cluster(Parts::read(base, rest, certificates)?),
            _ => Err(wrong("expected redis+sentinel://… or redis+cluster://…")),
        }
    }

    fn one(url: &str, certificates: Option<TlsCertificates>) -> Result<Self, Error> {
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(url, certificates),
            None => Client::open(url),
        };
        Ok(Self::One(Box::new(client.map_err(wrong_url)?)))
    }

    fn sentinel(parts: Parts) -> Result<Self, Error> {
        let (master, db) = parts.path.split_once('/').unwrap_or((&parts.path, "0"));
        let db: i64 = db.parse().map_err(|_| Error::Config {
            key: "queue.url",
            problem: "expected a number as the database, after the master's name".to_owned(),
        })?;
        if master.is_empty() {
            return Err(Error::Config {
                key: "queue.url",
                problem: "expected the master's name after the Sentinels: redis+sentinel://HOST:PORT,HOST:PORT/MASTER"
                    .to_owned(),
            });
        }
        let hosts: Vec<ConnectionAddr> = parts.hosts.iter().map(|host| host.addr().clone()).collect();
        let mut builder = SentinelClientBuilder::new(hosts, master, SentinelServerType::Master)
            .map_err(wrong_url)?
            .set_client_to_redis_db(db);
        // The Sentinels are asked without credentials: those in the URL are the master's.
        if let Some(settings) = parts.hosts.first().map(ConnectionInfo::redis_settings) {
            if let Some(user) = settings.username() {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = settings.password() {
                builder = builder.set_client_to_redis_password(password);
            }
        }
        if let Some(certificates) = parts.certificates {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates);
        }
        Ok(Self::Sentinel(Box::new(Mutex::new(
            builder.build().map_err(wrong_url)?,
        ))))
    }

    fn cluster(parts: Parts) -> Result<Self, Error> {
        if !parts.path.is_empty() {
            return Err(Error::Config {
                key: "queue.url",
                problem: "a Cluster has no databases: expected nothing after the hosts".to_owned(),
            });
        }
        let make = move |wait: Duration| {
            let mut builder = ClusterClientBuilder::new(parts.hosts.clone())
                .connection_timeout(PATIENCE)
                .response_timeout(PATIENCE + wait)
                .retries(3);
            if let Some(certificates) = &parts.certificates {
                builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
            }
            builder.build()
        };
        make(Duration::ZERO).map_err(wrong_url)?;
        Ok(Self::Cluster(Box::new(make)))
    }

    /// A new connection whose commands may wait for so long by themselves.
    pub(super) async fn connect(&self, wait: Duration) -> Result<Connection, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(PATIENCE + wait));
        let connect = async {
            Ok(match self {
                Self::One(client) => {
                    Connection::One(client.get_multiplexed_async_connection_with_config(&config).await?)
                }
                Self::Sentinel(client) => {
                    Connection::One(client.lock().await.get_async_connection_with_config(&config).await?)
                }
                Self::Cluster(make) => Connection::Cluster(make(wait)?.get_async_connection().await?),
            })
        };
        match tokio::time::timeout(CONNECT, connect).await {
            Ok(connection) => connection.map_err(Error::Redis),
            Err(_) => Err(Error::Silent {
                backend: "Redis (queue.url)",
                within: CONNECT,
            }),
        }
    }
}

impl Parts {
    fn read(base: &str, rest: &str, certificates: Option<TlsCertificates>) -> Result<Self, Error> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
            None => (String::new(), authority),
        };
        let hosts: RedisResult<Vec<ConnectionInfo>> = hosts
            .split(',')
            .map(|host| format!("{base}://{credentials}{host}").into_connection_info())
            .collect();
        Ok(Self {
            hosts: hosts.map_err(wrong_url)?,
            path: path.to_owned(),
            certificates,
        })
    }
}

fn certificates(config: &Config) -> Result<TlsCertificates, Error> {
    let root_cert = match config.ca_file.as_str() {
        "" => None,
        file => Some(std::fs::read(file).map_err(|error| Error::Config {
            key: "queue.ca_file",
            problem: format!("cannot read {file}: {error}"),
        })?),
    };
    Ok(TlsCertificates {
        client_tls: None,
        root_cert,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn wrong_url(error: redis::RedisError) -> Error {
    Error::Config {
        key: "queue.url",
        problem: error.to_string(),
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueueUrl;

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "redis://u:sesame@h:port",
            "redis+sentinel://u:sesame@h:1,h:2",
            "redis+sentinel://u:sesame@h:1/master/first",
            "redis+cluster://u:sesame@h:1/2",
            "redis+cluster://u:sesame@",
            "redis+ring://u:sesame@h",
        ] {
            let config = Config {
                url: QueueUrl::new(url),
                ..Config::default()
            };
            let error = Endpoint::parse(&config)
                .err()
                .unwrap_or_else(|| panic!("{url} was taken"));
            let said = format!("{error} {error:?}");
            assert!(said.contains("queue.url") && !said.contains("sesame"), "{said}");
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        for url in [
            "redis://h",
            "redis://u:p%40ss@h:1/3",
            "redis+sentinel://:p@h:1,h:2/master/4",
            "redis+cluster://u:p@h:1,h:2",
        ] {
            let config = Config {
                url: QueueUrl::new(url),
                ..Config::default()
            };
            Endpoint::parse(&config).map(|_| ()).unwrap();
        }
    }
}
