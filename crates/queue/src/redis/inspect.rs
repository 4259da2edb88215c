//! What a Redis says of itself, for whoever checks an installation before it runs. Changes nothing.

use redis::Value;

use super::endpoint::Endpoint;
use crate::{Config, Error};

/// The oldest server that is good enough, as its major version.
const OLDEST: u32 = 7;

/// A server, or the nodes of a Cluster: of what they say the first one's word counts, and of what may be wrong anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its name and version, like `Redis 7.0.15` or `Valkey 8.0.1`.
    pub version: String,
    /// All nodes are new enough.
    pub is_supported: bool,
    /// It follows another server and takes no writes.
    pub is_replica: bool,
    /// What it does when its memory is full, like `noeviction`.
    pub eviction: String,
}

/// Looks at the Redis of `queue.url`.
///
/// Fails in words if it cannot be reached.
pub async fn inspect(config: &Config) -> Result<Inspection, Error> {
    let endpoint = Endpoint::parse(config)?;
    let is_cluster = matches!(endpoint, Endpoint::Cluster(_));
    let mut connection = endpoint.connect(std::time::Duration::ZERO).await?;
    let answer: Value = redis::cmd("INFO")
        .query_async(&mut connection)
        .await
        .map_err(Error::Redis)?;
    let mut told = String::new();
    collect(&answer, &mut told);
    Ok(read(&told, is_cluster))
}

/// All texts of an answer: a Cluster's nodes answer one after the other.
fn collect(value: &Value, told: &mut String) {
    match value {
        Value::BulkString(bytes) => told.push_str(&String::from_utf8_lossy(bytes)),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => told.push_str(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, told)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, value)| collect(value, told)),
        _ => {}
    }
    told.push('\n');
}

fn read(told: &str, is_cluster: bool) -> Inspection {
    let all = |name: &str| -> Vec<&str> {
        let lines = told.lines().filter_map(|line| line.trim().split_once(':'));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value).collect()
    };
    let versions = all("redis_version");
    let is_new = |version: &&str| {
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        major.is_some_and(|major| major >= OLDEST)
    };
    let version = match all("valkey_version").first() {
        Some(valkey) => format!("Valkey {valkey}"),
        None => format!("Redis {}", versions.first().unwrap_or(&"of an unknown version")),
    };
    let policies = all("maxmemory_policy");
    let eviction = policies
        .iter()
        .find(|policy| **policy != "noeviction")
        .or(policies.first());
    Inspection {
        version,
        is_supported: !versions.is_empty() && versions.iter().all(is_new),
        is_replica: !is_cluster && all("role").contains(&"slave"),
        eviction: eviction.copied().unwrap_or("unknown").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_node_and_an_evicting_node_of_a_cluster_are_seen() {
        let good = "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n";
        let seen = read(&format!("{good}\n{good}"), true);
        assert_eq!(
            (seen.version.as_str(), seen.is_supported, seen.eviction.as_str()),
            ("Redis 7.0.15", true, "noeviction")
        );
        let old = good.replace("7.0.15", "6.2.9");
        assert!(!read(&format!("{good}{old}"), true).is_supported);
        let evicts = good.replace("noeviction", "allkeys-lru");
        assert_eq!(read(&format!("{good}{evicts}"), true).eviction, "allkeys-lru");
        let replica = good.replace("master", "slave");
        assert!(read(&replica, false).is_replica && !read(&replica, true).is_replica);
        assert_eq!(
            read("redis_version:7.2.4\nvalkey_version:8.0.1\n", false).version,
            "Valkey 8.0.1"
        );
        assert!(!read("", false).is_supported);
    }
}
