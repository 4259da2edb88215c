//! A server's process and its directory.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bugle_testkit::tls;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// Waits for a line from this process, or for its end, and kills the group; the directory too goes with a test that was killed itself.
const REAPER: &str = r#"trap '' INT TERM HUP; read -r line; kill -s KILL -- "-$1"; [ -n "$line" ] || rm -rf "$2""#;

/// Where Debian has them; a user's PATH often lacks `sbin`.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];

/// A program of this name. It is needed, not optional: without it the test fails and names the Debian package.
pub(crate) fn program(name: &str, package: &str) -> PathBuf {
    PLACES
        .iter()
        .map(|place| Path::new(place).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing: install the Debian package {package} (scripts/test does)"))
}

/// A server that can be stopped and started again on the same port.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    pub(crate) tls: tls::Files,
    program: PathBuf,
    args: Vec<String>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    reaper: Child,
}

impl Server {
    /// Starts a program in a directory of its own; `args` are made from the directory, the certificate and the port.
    pub(crate) fn start(program: &Path, args: impl Fn(&Path, &tls::Files, u16) -> Vec<String>) -> Self {
        let mut log = String::new();
        // Somebody else may take the port first.
        for _ in 0..5 {
            let dir = tempfile::Builder::new().prefix("bugle-interop").tempdir().unwrap();
            let tls = tls::write(dir.path());
            let port = bugle_testkit::free_port();
            let mut server = Self {
                args: args(dir.path(), &tls, port),
                program: program.to_owned(),
                running: None,
                port,
                tls,
                dir,
            };
            if server.start_again() {
                return server;
            }
            log = server.read("output.log");
        }
        panic!("{} does not start: {log}", program.display());
    }

    /// Starts it where it was stopped. False if it has ended before it listened.
    pub(crate) fn start_again(&mut self) -> bool {
        assert!(self.running.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("output.log"))
            .unwrap();
        let child = Command::new(&self.program)
            .args(&self.args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let reaper = Command::new("sh")
            .args(["-c", REAPER, "reaper", &child.id().to_string()])
            .arg(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let running = self.running.insert(Running { child, reaper });
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if running.child.try_wait().unwrap().is_some() {
                self.running = None;
                return false;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "it does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    fn pid(&self) -> Pid {
        let running = self.running.as_ref().expect("it runs");
        i32::try_from(running.child.id()).ok().and_then(Pid::from_raw).unwrap()
    }

    /// Sends a signal to the server's first process.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Sends a signal to all of its processes, and waits until they have ended.
    pub(crate) fn stop(&mut self, signal: Signal) {
        kill_process_group(self.pid(), signal).unwrap();
        self.wait();
    }

    fn wait(&mut self) {
        let since = Instant::now();
        while let Ok(None) = self.running.as_mut().expect("it runs").child.try_wait() {
            assert!(since.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.running = None;
        until_refused(self.port);
    }

    /// A file of its directory; empty if there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Its address, for `http` or `https`.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.port)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The child is not waited for before: its number is still its own when the reaper kills.
        if let Some(mut pipe) = self.reaper.stdin.take() {
            let _ = pipe.write_all(b"end\n");
        }
        let _ = self.reaper.wait();
        let _ = self.child.wait();
    }
}

/// Waits until the last process that held the port is gone.
fn until_refused(port: u16) {
    let since = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
        assert!(since.elapsed() < Duration::from_secs(20), "a process still listens");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn nothing_of_a_server_outlives_the_test_that_started_it() {
    let server = crate::nginx::start("", "return 200;");
    let port = server.port;
    drop(server);
    until_refused(port);
}

#[test]
#[should_panic(expected = "install the Debian package nghttp2-server")]
fn a_server_that_is_missing_fails_the_test_and_names_its_package() {
    let _ = program("no-such-server", "nghttp2-server");
}
