//! What the numbers were measured on.

use std::path::Path;

use serde::Serialize;

/// The machine, as Linux describes it; what it does not say is "unknown".
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_mib: u64,
    pub(super) kernel: String,
    /// The file system that the databases are on.
    pub(super) file_system: String,
    /// Runnable tasks over the last minute, before the start.
    pub(super) load: String,
}

impl Machine {
    pub(super) fn look(dir: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let kib = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.strip_suffix("kB")?.trim().parse::<u64>().ok())
            .unwrap_or(0);
        let known = |text: Option<String>| {
            text.filter(|text| !text.is_empty())
                .unwrap_or_else(|| "unknown".to_owned())
        };
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        Self {
            cpu: known(field(&read("/proc/cpuinfo"), "model name")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib / 1_024,
            kernel: known(Some(read("/proc/sys/kernel/osrelease").trim().to_owned())),
            file_system: known(file_system(&read("/proc/mounts"), &dir)),
            load: known(read("/proc/loadavg").split(' ').next().map(str::to_owned)),
        }
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

/// The type of the mount that the directory is under: the longest that fits, and of those the last.
fn file_system(mounts: &str, dir: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (at, kind) = (fields.next()?, fields.next()?);
            dir.starts_with(at).then_some((at.len(), kind))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmpfiles xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")).unwrap(), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/home")).unwrap(), "ext4");
        assert_eq!(file_system("", Path::new("/home")), None);
    }
}
