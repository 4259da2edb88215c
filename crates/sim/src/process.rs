//! What this process has cost so far, from `/proc/self`.

use serde::{Deserialize, Serialize};

/// Clock ticks in a second, as Linux shows them to programs.
const TICKS: f64 = 100.0;

/// The costs of the process that the simulator runs in; nothing where there is no `/proc`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Processor time of all threads since the process began, in seconds, by hundredths.
    pub cpu_s: Option<f64>,
    /// The most memory that was resident at once, in bytes (`VmHWM`).
    pub peak_resident_bytes: Option<u64>,
    /// The memory that is resident now, in bytes (`VmRSS`).
    pub resident_bytes: Option<u64>,
}

impl Process {
    /// Of this process, now.
    pub(crate) fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu_s: cpu_seconds(&stat),
            peak_resident_bytes: bytes(&status, "VmHWM:"),
            resident_bytes: bytes(&status, "VmRSS:"),
        }
    }
}

/// User and system time, the fields 14 and 15; the program's name, field 2, may hold blanks and ends with the last `)`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok().map(f64::from);
    Some((ticks()? + ticks()?) / TICKS)
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_a_name_with_blanks_and_brackets() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 100 1000 10";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
        let status = "Name:\tbugle\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(
            (bytes(status, "VmHWM:"), bytes(status, "VmSwap:")),
            (Some(2 << 20), None)
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_its_peak_is_no_less() {
        let process = Process::read();
        assert!(process.cpu_s.is_some());
        assert!(process.peak_resident_bytes.unwrap() >= process.resident_bytes.unwrap());
        assert!(process.resident_bytes.unwrap() > 1 << 20);
    }
}
