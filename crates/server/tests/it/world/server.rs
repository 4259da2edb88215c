//! One process: the real binary, started, signalled, killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::KEY;

/// The real binary.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) dir: TempDir,
    pub(crate) settings: BTreeMap<String, String>,
    child: Child,
    running: bool,
}

impl Server {
    pub(crate) fn start(dir: TempDir, settings: BTreeMap<String, String>) -> Self {
        let (child, addr) = spawn(dir.path(), &settings);
        Self {
            addr,
            dir,
            settings,
            child,
            running: true,
        }
    }

    /// It has been started, and neither killed nor stopped since.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.running = false;
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended(Duration::from_secs(60)).await
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &self.pid().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.running = false;
                return status;
            }
            assert!(Instant::now() < deadline, "the server has not ended");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn restart(&mut self) {
        let (child, addr) = spawn(self.dir.path(), &self.settings);
        self.child = child;
        self.addr = addr;
        self.running = true;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn bugle(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bugle"));
    command.current_dir(dir).env_clear();
    command
}

/// A command that asks a server, in a directory of its own.
pub(crate) fn asking(server: &Server, command: &str, args: &[&str]) -> Command {
    let mut asking = bugle(server.dir.path());
    asking
        .arg(command)
        .args(args)
        .env("BUGLE_URL", format!("http://{}", server.addr))
        .env("BUGLE_KEY", KEY);
    asking
}

/// Whether a command succeeded, and what it said.
pub(crate) fn run(mut command: Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// The address that a server says it listens on, if this line of its log does.
pub(crate) fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
    Some(rest[..end.unwrap_or(rest.len())].parse().unwrap())
}

/// Starts `bugle serve` and waits until it listens.
fn spawn(dir: &Path, settings: &BTreeMap<String, String>) -> (Child, SocketAddr) {
    let mut command = bugle(dir);
    command
        .arg("serve")
        .env("BUGLE__HTTP__LISTEN", "127.0.0.1:0")
        .env("BUGLE__DATA__DIR", dir.join("data"))
        .env("BUGLE__API__KEYS", KEY);
    for (key, value) in settings {
        command.env(format!("BUGLE__{}", key.replace('.', "__").to_uppercase()), value);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let mut all = String::new();
    let addr = loop {
        line.clear();
        assert!(
            log.read_line(&mut line).unwrap() > 0,
            "the server ended at its start:\n{all}"
        );
        all += &line;
        if let Some(addr) = address(&line) {
            break addr;
        }
    };
    // The rest of the log goes to the test's own output, which is shown when it fails.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            eprintln!("server: {line}");
        }
    });
    (child, addr)
}
