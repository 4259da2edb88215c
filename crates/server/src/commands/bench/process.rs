//! A child process and what it costs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::oneshot;

/// Ticks of `utime` and `stime` a second: Linux promises this number to all programs.
const TICKS: u32 = 100;
/// A child must be ready after so long.
const START: Duration = Duration::from_secs(30);

/// Killed when it is dropped.
pub(in crate::commands) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    pub(in crate::commands) fn start(name: &'static str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start the {name}"))?;
        Ok(Self { name, child })
    }

    /// Waits for a line of the output that `wanted` makes something of; `noteworthy` lines of the rest go to standard error.
    pub(in crate::commands) async fn first<T: Send + 'static>(
        &mut self,
        output: impl Read + Send + 'static,
        mut wanted: impl FnMut(&str) -> Option<T> + Send + 'static,
        noteworthy: fn(&str) -> bool,
    ) -> anyhow::Result<T> {
        let name = self.name;
        let (found, first) = oneshot::channel();
        // A thread of its own: it reads as long as the process lives, which must never wait for room in the pipe.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            let mut before = String::new();
            for line in lines.by_ref() {
                if let Some(it) = wanted(&line) {
                    let _ = found.send(Ok(it));
                    lines
                        .filter(|line| noteworthy(line))
                        .for_each(|line| eprintln!("{name}: {line}"));
                    return;
                }
                before.push_str(&line);
                before.push('\n');
            }
            let _ = found.send(Err(before));
        });
        match tokio::time::timeout(START, first).await {
            Ok(Ok(Ok(it))) => Ok(it),
            Ok(Ok(Err(before))) => bail!("the {name} ended at its start:\n{before}"),
            Ok(Err(_)) => bail!("the {name}'s output broke off"),
            Err(_) => bail!("the {name} is not ready after {START:?}"),
        }
    }

    pub(in crate::commands) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process' number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time so far, the kernel's on its behalf included.
    pub(in crate::commands) fn cpu(&self) -> anyhow::Result<Duration> {
        let fields = stat(&self.child.id().to_string())?;
        Ok(ticks(&fields, 11) + ticks(&fields, 12))
    }

    /// The most memory that was resident at once, in MiB.
    pub(in crate::commands) fn peak_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .with_context(|| format!("cannot read the {}'s memory: this needs Linux", self.name))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<u32>().ok())
            .context("the kernel does not tell VmHWM")?;
        Ok(f64::from(kib) / 1_024.0)
    }
}

impl Process {
    /// Asks the process to end, and waits until it has.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let pid = self.child.id().to_string();
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
        anyhow::ensure!(
            asked.is_ok_and(|status| status.success()),
            "cannot signal the {}",
            self.name
        );
        while self.child.try_wait()?.is_none() {
            anyhow::ensure!(began.elapsed() < START, "the {} does not end", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Processor time of this process so far.
pub(super) fn cpu_of_this() -> anyhow::Result<Duration> {
    let fields = stat("self")?;
    Ok(ticks(&fields, 11) + ticks(&fields, 12))
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all children of this process that have ended and were waited for.
pub(super) fn cpu_of_ended_children() -> anyhow::Result<Duration> {
    let fields = stat("self")?;
    Ok(ticks(&fields, 13) + ticks(&fields, 14))
}

/// Processor time of a process, of its children, and of those of them that have ended.
pub(super) fn cpu_of_tree(pid: u32) -> anyhow::Result<Duration> {
    let itself = stat(&pid.to_string())?;
    let mut sum: Duration = (11..=14).map(|at| ticks(&itself, at)).sum();
    let parent = pid.to_string();
    for entry in std::fs::read_dir("/proc").context("this needs Linux")?.flatten() {
        let name = entry.file_name();
        let Some(child) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        // A process may end while it is looked at.
        if let Ok(fields) = stat(child)
            && fields.get(1) == Some(&parent)
        {
            sum += ticks(&fields, 11) + ticks(&fields, 12);
        }
    }
    Ok(sum)
}

/// The fields of /proc/PID/stat after the name, which may hold anything: the state is number 0.
fn stat(pid: &str) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .context("cannot read a process's time: this needs Linux, and the process must still be there")?;
    let (_, fields) = text.rsplit_once(')').context("/proc/PID/stat has no name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

fn ticks(fields: &[String], at: usize) -> Duration {
    let ticks: u32 = fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0);
    Duration::from_secs(1) * ticks / TICKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_that_ends_at_its_start_is_reported_with_what_it_said() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo no such option"])
            .stdout(std::process::Stdio::piped());
        let mut child = Process::start("server", &mut command).unwrap();
        let output = child.child().stdout.take().unwrap();
        let problem = child.first(output, |_| None::<()>, |_| false).await.unwrap_err();
        assert_eq!(problem.to_string(), "the server ended at its start:\nno such option\n");
    }

    #[tokio::test]
    async fn time_and_memory_of_a_child_are_read() {
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; read line",
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = Process::start("shell", &mut command).unwrap();
        let output = child.child().stdout.take().unwrap();
        child
            .first(output, |line| (line == "done").then_some(()), |_| false)
            .await
            .unwrap();
        assert!(child.cpu().unwrap() > Duration::from_millis(20));
        assert!(child.peak_mib().unwrap() > 0.3);
    }
}
