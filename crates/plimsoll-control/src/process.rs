//! The process as the kernel sees it: CPU time, memory, descriptors, start; read from `/proc` when asked.
//!
//! A figure that cannot be read is left out. Nothing is remembered between two looks.

use std::fs;

/// Ticks a second of the times in `/proc`: part of Linux' interface to programs, whatever the kernel's own clock does.
const TICKS: f64 = 100.0;

/// The figures, by the names that Prometheus' client libraries give them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) cpu_seconds: Option<f64>,
    /// Since 1970.
    pub(crate) start_time_seconds: Option<f64>,
    pub(crate) resident_memory_bytes: Option<u64>,
    pub(crate) virtual_memory_bytes: Option<u64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
    pub(crate) threads: Option<u64>,
}

impl Process {
    /// As of now.
    pub(crate) fn look() -> Process {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
        let kib = |name| number_after(&status, name).map(|kib| kib * 1024);
        Process {
            cpu_seconds: cpu_ticks(&stat).map(|ticks| ticks as f64 / TICKS),
            start_time_seconds: started(&stat, &read("/proc/stat")),
            resident_memory_bytes: kib("VmRSS:"),
            virtual_memory_bytes: kib("VmSize:"),
            // One of them is the one that this look needs.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            max_fds: number_after(&read("/proc/self/limits"), "Max open files"),
            threads: number_after(&status, "Threads:"),
        }
    }
}

/// The number that follows `name` at the beginning of a line.
pub(crate) fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The fields of `/proc/self/stat` from the third, `state`, on: the second is a name that may hold anything.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

/// Fields 14 and 15: in programs, and in the kernel.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let fields = fields(stat)?;
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Field 22 counts from the machine's start.
fn started(stat: &str, machine: &str) -> Option<f64> {
    let ticks: u64 = fields(stat)?.get(19)?.parse().ok()?;
    Some(number_after(machine, "btime")? as f64 + ticks as f64 / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0 1234 9 9";

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        assert_eq!(cpu_ticks(STAT), Some(300));
        assert_eq!(started(STAT, "cpu 1\nbtime 1700000000\n"), Some(1_700_000_012.34));
        assert_eq!((cpu_ticks(""), started(STAT, "")), (None, None));
    }

    #[test]
    fn this_process_has_every_figure() {
        let process = Process::look();
        assert!(process.resident_memory_bytes > Some(1 << 20), "{process:?}");
        assert!(process.open_fds > Some(2) && process.max_fds >= process.open_fds, "{process:?}");
        assert!(process.start_time_seconds > Some(1.6e9) && process.cpu_seconds.is_some(), "{process:?}");
    }
}
