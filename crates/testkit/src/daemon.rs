//! A server process of one test, with its directory.
//!
//! Who tidies up is a shell, the reaper, that reads process ids from a pipe and remembers the last. Only the test process holds the
//! other end, so the end of the pipe is the end of the test, however it came: then the reaper kills what still runs and removes the
//! directory. The reaper is in a process group of its own, where a Ctrl-C does not reach it.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

const REAPER: &str = r#"
trap '' INT TERM HUP
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" || break; sleep 0.1; done
    kill -KILL "$pid"
fi
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user of this system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// The user of this name when the tests run as root; nobody else could, nor needs to, change to it.
    pub(crate) fn if_root(name: &str) -> Option<Self> {
        let id = |option| {
            let output = Command::new("id").args([option, name]).output().expect("run id");
            let text = String::from_utf8_lossy(&output.stdout);
            text.trim()
                .parse()
                .unwrap_or_else(|_| panic!("the system has no user {name}"))
        };
        geteuid().is_root().then(|| Self {
            uid: id("-u"),
            gid: id("-g"),
        })
    }
}

/// At most one running process at a time, and the directory that outlives it.
#[derive(Debug)]
pub(crate) struct Daemon {
    dir: PathBuf,
    user: Option<User>,
    child: Option<Child>,
    reaper: Child,
}

impl Daemon {
    /// An empty directory, and nothing running; programs run as `user`, if one is given.
    pub(crate) fn new(prefix: &str, user: Option<User>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .expect("a temporary directory");
        // The server's user must get through to what is its own in there.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("chmod");
        let reaper = Command::new("sh")
            .args(["-c", REAPER, "reaper"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("run sh");
        Self {
            dir: dir.keep(),
            user,
            child: None,
            reaper,
        }
    }

    /// The directory, which the server's user can enter.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives a file or directory to the server's user.
    pub(crate) fn give(&self, path: &Path) {
        if let Some(User { uid, gid }) = self.user {
            chown(path, Some(uid), Some(gid)).expect("chown");
        }
    }

    /// A program that will run as the server's user, in the directory.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The caller's home may be closed to the server's user, and hold settings that are not for it.
        command
            .current_dir(&self.dir)
            .env("HOME", &self.dir)
            .stdin(Stdio::null());
        if let Some(User { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts the server and waits until `ready(pid)`. What it wrote is the error when it ends before that.
    pub(crate) fn start(&mut self, mut command: Command, ready: impl Fn(u32) -> bool) -> Result<(), String> {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::create(self.dir.join("output.log")).expect("a log file");
        command
            .stderr(log.try_clone().expect("dup"))
            .stdout(log)
            .process_group(0);
        let child = command.spawn().expect("start the server");
        let pid = child.id();
        self.child = Some(child);
        self.tell_reaper(&pid.to_string());
        let since = Instant::now();
        while !ready(pid) {
            if self.is_over() {
                return Err(self.log());
            }
            assert!(
                since.elapsed() < PATIENCE,
                "the server is not ready after {PATIENCE:?}: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The process, if there is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends the signal and waits until the process has ended; nothing when none runs.
    pub(crate) fn end(&mut self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        send(pid, signal);
        let since = Instant::now();
        while !self.is_over() {
            assert!(
                since.elapsed() < PATIENCE,
                "the server runs {PATIENCE:?} after {signal:?}: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether no process runs (any more).
    fn is_over(&mut self) -> bool {
        let over = self
            .child
            .as_mut()
            .is_none_or(|child| child.try_wait().expect("wait").is_some());
        if over && self.child.take().is_some() {
            self.tell_reaper("");
        }
        over
    }

    fn tell_reaper(&mut self, line: &str) {
        let pipe = self.reaper.stdin.as_mut().expect("open until the end");
        writeln!(pipe, "{line}").expect("the reaper listens");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("output.log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // QUIT, as PostgreSQL's children end with it; Redis dies of it.
            send(child.id(), Signal::QUIT);
            let since = Instant::now();
            while matches!(child.try_wait(), Ok(None)) {
                if since.elapsed() > Duration::from_secs(10) {
                    drop(child.kill());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            self.tell_reaper("");
        }
        drop(self.reaper.stdin.take());
        drop(self.reaper.wait());
    }
}

/// Sends a signal; it is no matter when the process has ended.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
