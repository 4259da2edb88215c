//! PostgreSQL: fresh databases on the shared server, and private servers to stop, kill and restart.

mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::{backend_url, unique_name};

pub use server::{Server, Shutdown};

/// A database that nobody else uses, empty; dropped with this value, whoever is still connected.
#[derive(Debug)]
pub struct Database {
    name: String,
    server: String,
}

/// A fresh database on the server of `TEST_POSTGRES_URL`.
#[must_use]
pub fn database() -> Database {
    Database::on(backend_url("TEST_POSTGRES_URL"))
}

impl Database {
    fn on(server: String) -> Self {
        let name = unique_name();
        psql(&server, &format!("CREATE DATABASE {name}")).unwrap_or_else(|error| panic!("no database {name}: {error}"));
        Self { name, server }
    }

    /// Its URL, with a superuser and the password.
    #[must_use]
    pub fn url(&self) -> String {
        url_of_database(&self.server, &self.name)
    }

    /// The same, by way of another address: that of a [`Proxy`](crate::proxy::Proxy), or of its server's new place.
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        url_through(&self.url(), address)
    }

    /// Where its server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        address(&self.server)
    }

    /// Its name, which is an identifier without quotes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements through `psql`; the answer's rows as lines, columns with `|` between.
    #[must_use]
    pub fn query(&self, sql: &str) -> String {
        psql(&self.url(), sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same on a [replica](Server::replica) of its server.
    #[must_use]
    pub fn query_on(&self, replica: &Server, sql: &str) -> String {
        psql(&self.url_through(replica.address()), sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Its server may be gone by now, and with it the database.
        drop(psql(
            &self.server,
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
        ));
    }
}

/// The programs of the newest PostgreSQL: Debian keeps them out of the path.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .max();
    // An empty path leaves the look-up to the system.
    newest.map(|(_, bin)| bin).unwrap_or_default()
}

fn psql(url: &str, sql: &str) -> Result<String, String> {
    let output = Command::new(programs().join("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d", url])
        .output()
        .expect("run psql");
    text_of(&output)
}

fn text_of(output: &Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }
}

/// Where `host:port` begins and ends in a URL.
fn authority_of(url: &str) -> (usize, usize) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    (url[start..end].rfind('@').map_or(start, |at| start + at + 1), end)
}

fn url_through(url: &str, address: SocketAddr) -> String {
    let (start, end) = authority_of(url);
    format!("{}{address}{}", &url[..start], &url[end..])
}

fn url_of_database(url: &str, name: &str) -> String {
    let (_, end) = authority_of(url);
    let query = url.find('?').map_or("", |at| &url[at..]);
    format!("{}/{name}{query}", &url[..end])
}

fn address(url: &str) -> SocketAddr {
    let (start, end) = authority_of(url);
    crate::resolve(&url[start..end], 5432)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_changed_in_the_named_place_only() {
        let url = "postgres://us:pa%40ss@db.example:5433/postgres?sslmode=require";
        let there = "127.0.0.1:9".parse().unwrap();
        assert_eq!(
            url_through(url, there),
            "postgres://us:pa%40ss@127.0.0.1:9/postgres?sslmode=require"
        );
        assert_eq!(
            url_of_database(url, "x"),
            "postgres://us:pa%40ss@db.example:5433/x?sslmode=require"
        );
        assert_eq!(url_of_database("postgres://host", "x"), "postgres://host/x");
        assert_eq!(address("postgres://a:b@127.0.0.1/x"), "127.0.0.1:5432".parse().unwrap());
    }
}
