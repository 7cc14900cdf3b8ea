//! What this process uses of what it may use: read from the kernel, now and then.
//!
//! Memory is compared with `[limits] memory`, else with the least limit of the control groups that the process is in, else with what the machine
//! has. Anything that cannot be read is not known, and nothing follows from it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::number_after;

/// Where control groups are found.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The part in use of the memory that this process may use; `configured` in bytes.
#[must_use]
pub fn memory_in_use(configured: Option<u64>) -> Option<f64> {
    Some(resident()? as f64 / memory_limit(configured)? as f64)
}

/// Bytes that this process may use.
fn memory_limit(configured: Option<u64>) -> Option<u64> {
    configured.or_else(|| {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let of_groups = limit_files(&groups, Path::new(CGROUPS)).into_iter();
        let limits = of_groups.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
        limits.chain(machine()).min()
    })
}

/// Bytes of this process that are in RAM. (`statm` would say it in pages, whose size is known to `rustix` by a way that valgrind does not go.)
fn resident() -> Option<u64> {
    kib_after(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

fn machine() -> Option<u64> {
    kib_after(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// The number that follows `name` at the beginning of a line, from KiB to bytes.
fn kib_after(text: &str, name: &str) -> Option<u64> {
    number_after(text, name).map(|kib| kib * 1_024)
}

/// The files with the limits of all groups that `groups` (`/proc/self/cgroup`) names, and of those above them: of version 2, and of version 1.
fn limit_files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            named if named.split(',').any(|one| one == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let own = base.join(path.trim_start_matches('/'));
        let up = own.ancestors().take_while(|above| above.starts_with(&base));
        files.extend(up.map(|folder| folder.join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_groups_above_count_in_both_versions() {
        let files = |groups: &str| -> Vec<String> {
            limit_files(groups, Path::new("/c")).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(files("0::/a/b\n"), ["/c/a/b/memory.max", "/c/a/memory.max", "/c/memory.max"]);
        assert_eq!(
            files("9:name=systemd:/\n4:cpu,memory:/x\n0::/\n"),
            ["/c/memory/x/memory.limit_in_bytes", "/c/memory/memory.limit_in_bytes", "/c/memory.max"]
        );
        assert_eq!(files("nonsense\n:\n"), [""; 0]);
    }

    #[test]
    fn this_process_uses_some_of_what_it_may() {
        let (used, limit) = (resident().expect("Linux"), memory_limit(None).expect("Linux"));
        assert!(used > 1 << 20 && used < limit, "{used} of {limit}");
        assert_eq!(memory_limit(Some(7)), Some(7));
    }
}
