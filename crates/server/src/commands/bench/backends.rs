//! The databases of the server under test, where it is not SQLite: private servers in the scratch directory, for as long as a [`super::world::World`] lasts.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use super::load::per_second;
use super::process::{Process, cpu_of_tree};

/// What the server keeps its data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Backends {
    Sqlite,
    Postgres,
    Redis,
}

impl Backends {
    /// As a person says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "PostgreSQL and Redis",
        }
    }
}

/// The servers that run. Dropping it ends them.
#[derive(Default)]
pub(super) struct Servers {
    postgres: Option<Postgres>,
    redis: Option<(Process, u16)>,
}

/// A PostgreSQL of its own.
struct Postgres {
    process: Process,
    port: u16,
    /// Where it makes its socket, if that has room for one: as where both run on one machine.
    socket: Option<PathBuf>,
}

impl Postgres {
    fn url(&self) -> String {
        let host = match &self.socket {
            Some(socket) => socket.display().to_string().replace('/', "%2F"),
            None => "127.0.0.1".to_owned(),
        };
        format!("postgres://postgres@{host}:{}/postgres", self.port)
    }

    /// Runs one of its programs for clients to its end.
    fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(postgres_programs()?.join(program));
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()]);
        let status = command.args(args).arg("postgres").status();
        ensure!(
            status.with_context(|| format!("cannot run {program}"))?.success(),
            "{program} failed"
        );
        Ok(())
    }
}

/// A socket's path has 107 characters at most; its name in the directory takes some.
const LONGEST_SOCKET: usize = 80;
/// A server must be ready after so long.
const START: Duration = Duration::from_secs(60);

impl Servers {
    /// Starts what these backends need, with its data in `dir`.
    pub(super) fn start(backends: Backends, dir: &Path) -> anyhow::Result<Self> {
        let mut servers = Self::default();
        if backends != Backends::Sqlite {
            servers.postgres = Some(start_postgres(dir)?);
        }
        if backends == Backends::Redis {
            servers.redis = Some(start_redis(dir)?);
        }
        Ok(servers)
    }

    /// `store.url`.
    pub(super) fn store_url(&self) -> String {
        match &self.postgres {
            None => "sqlite".to_owned(),
            Some(postgres) => postgres.url(),
        }
    }

    /// `queue.url`.
    pub(super) fn queue_url(&self) -> String {
        match &self.redis {
            None => String::new(),
            Some((_, port)) => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// Processor time so far: PostgreSQL's with all its processes, and Redis', under the names of the measures.
    pub(super) fn cpu(&self) -> anyhow::Result<Vec<(&'static str, Duration)>> {
        let mut times = Vec::new();
        if let Some(postgres) = &self.postgres {
            times.push(("PostgreSQL's time each", cpu_of_tree(postgres.process.id())?));
        }
        if let Some((redis, _)) = &self.redis {
            times.push(("Redis' time each", redis.cpu()?));
        }
        Ok(times)
    }

    /// What each of `count` took of the servers since `before`, in microseconds.
    pub(super) fn cpu_each(
        &self,
        count: u64,
        before: &[(&'static str, Duration)],
    ) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let since = self.cpu()?.into_iter().zip(before);
        Ok(since
            .map(|((name, now), (_, before))| (name, 1e6 / per_second(count, now.saturating_sub(*before))))
            .collect())
    }

    /// Does what autovacuum and the checkpointer would do within the next minutes, so that they do not in the middle of a round.
    pub(super) fn settle(&self) -> anyhow::Result<()> {
        let Some(postgres) = &self.postgres else { return Ok(()) };
        postgres.run("vacuumdb", &["--analyze", "--quiet"])?;
        postgres.run("psql", &["--quiet", "--command", "CHECKPOINT"])
    }

    /// The most memory that Redis had, in MiB.
    pub(super) fn redis_peak_mib(&self) -> anyhow::Result<Option<f64>> {
        self.redis.as_ref().map(|(redis, _)| redis.peak_mib()).transpose()
    }
}

fn start_postgres(dir: &Path) -> anyhow::Result<Postgres> {
    let bin = postgres_programs()?;
    let data = dir.join("postgres");
    std::fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let owner = unprivileged(dir, &data)?;
    let run = |program: &str| {
        let mut command = Command::new(bin.join(program));
        command
            .current_dir(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .stdin(Stdio::null());
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        command
    };
    let made = run("initdb")
        .args([
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "-D",
        ])
        .arg(&data)
        .status()
        .context("cannot run initdb")?;
    ensure!(made.success(), "initdb failed in {}", data.display());
    let port = free_port()?;
    let mut command = run("postgres");
    command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
    let socket = Some(data.clone()).filter(|data| data.as_os_str().len() <= LONGEST_SOCKET);
    let sockets = socket.as_deref().map(Path::display);
    command.args([
        "-c",
        &format!(
            "unix_socket_directories={}",
            sockets.map_or(String::new(), |path| path.to_string())
        ),
    ]);
    // What its manual advises for a machine that is its own: a quarter of the memory, here of a small one.
    for setting in ["listen_addresses=127.0.0.1", "shared_buffers=2GB", "max_wal_size=4GB"] {
        command.args(["-c", setting]);
    }
    let process = Process::start("PostgreSQL server", &mut command)?;
    until_ready("PostgreSQL", || {
        let ready = run("pg_isready")
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            .status();
        ready.is_ok_and(|status| status.success())
    })?;
    Ok(Postgres { process, port, socket })
}

fn start_redis(dir: &Path) -> anyhow::Result<(Process, u16)> {
    let port = free_port()?;
    let mut command = Command::new("redis-server");
    command
        .args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
            &port.to_string(),
            "--dir",
        ])
        .arg(dir)
        .stdout(Stdio::null());
    let redis = Process::start("Redis server", &mut command)
        .context("this needs redis-server (Debian: apt install redis-server)")?;
    until_ready("Redis", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
    Ok((redis, port))
}

fn until_ready(name: &str, ready: impl Fn() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !ready() {
        if began.elapsed() > START {
            bail!("{name} is not ready after {START:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// PostgreSQL refuses to run as root: then as `postgres`, who must get at the directory.
fn unprivileged(dir: &Path, data: &Path) -> anyhow::Result<Option<(u32, u32)>> {
    use std::os::unix::fs::{PermissionsExt, chown};
    if !is_root()? {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let ids = users.lines().find_map(|line| {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    let (user, group) = ids.context("root cannot run PostgreSQL, and there is no user postgres")?;
    chown(data, Some(user), Some(group)).context("cannot give a directory to the user postgres")?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))?;
    Ok(Some((user, group)))
}

fn is_root() -> anyhow::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self").context("this needs Linux")?.uid() == 0)
}

/// Where `initdb` and `postgres` are: Debian keeps them out of the path, by version.
fn postgres_programs() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .collect();
    found.sort();
    if let Some((_, bin)) = found.pop() {
        return Ok(bin);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|dir| dir.join("initdb").is_file())
        .context("this needs a PostgreSQL server (Debian: apt install postgresql)")
}

/// A port that nobody has just now.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}
