//! Defaults: limits of memory and connections, from what this process may use.

use std::{fs, path::Path, str::FromStr};

/// Returns the default limit of bytes that all connections hold: a quarter of this process's memory, at most 1 GiB.
pub(crate) fn max_buffered_bytes() -> u64 {
    const MOST: u64 = 1 << 30;
    memory().map_or(MOST, |bytes| (bytes / 4).clamp(LEAST_BUFFERED, MOST))
}

/// Returns the default limit of connections: half of the files that this process may open, at most 10,000.
pub(crate) fn max_connections() -> usize {
    const MOST: usize = 10_000;
    files(&process_limits()).map_or(MOST, |files| (files / 2).clamp(1, MOST))
}

/// The smallest default, in bytes. With less a server would refuse what a single peer may send.
const LEAST_BUFFERED: u64 = 16 << 20;

/// Returns how much memory this process may have: of the machine, its control group, or its limit of address space.
fn memory() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let group = Path::new("/sys/fs/cgroup").join(group(&groups).unwrap_or_default());
    let limits = group
        .ancestors()
        .take_while(|path| path.starts_with("/sys/fs/cgroup"))
        .filter_map(|path| read(&path.join("memory.max")))
        .chain(read(Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes")));
    // A group without a limit says "max", or a number that no machine has.
    let limits = limits.filter_map(|text| text.trim().parse().ok());
    limits.chain(machine).chain(addresses(&process_limits())).min()
}

/// Reads the memory of the machine from /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Reads the control group from /proc/self/cgroup, of the unified hierarchy.
fn group(groups: &str) -> Option<&str> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(path.trim())
}

fn process_limits() -> String {
    fs::read_to_string("/proc/self/limits").unwrap_or_default()
}

/// Reads the soft limit of open files from /proc/self/limits.
fn files(limits: &str) -> Option<usize> {
    limit(limits, "Max open files")
}

/// Reads the soft limit of the address space from there, in bytes.
fn addresses(limits: &str) -> Option<u64> {
    limit(limits, "Max address space")
}

fn limit<N: FromStr>(limits: &str, name: &str) -> Option<N> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_as_linux_prints_them_are_read() {
        let meminfo = "MemTotal:       16316412 kB\nMemFree:         1234 kB\n";
        assert_eq!(total(meminfo), Some(16_316_412 * 1024));
        assert_eq!(
            group("0::/system.slice/demo.service\n"),
            Some("system.slice/demo.service")
        );
        assert_eq!(group("5:memory:/a\n0::/\n"), Some(""));
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             100                  200                  processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(files(limits), Some(1024));
        assert_eq!(
            files("Max open files            unlimited            unlimited            files\n"),
            None
        );
    }

    #[test]
    fn a_limit_of_addresses_is_read() {
        let line = "Max address space         268435456            unlimited            bytes\n";
        assert_eq!(addresses(line), Some(256 << 20));
        assert_eq!(addresses(&line.replace("268435456", "unlimited")), None);
    }

    #[test]
    fn a_malformed_table_gives_no_default() {
        for text in [
            "",
            "MemTotal: many kB",
            "Max open files",
            "0:/",
            "MemTotal: 18446744073709551615 kB",
        ] {
            assert_eq!(
                (total(text), group(text), files(text)),
                (None, None, None),
                "{text}"
            );
        }
    }

    #[test]
    fn defaults_are_within_their_bounds() {
        assert!((LEAST_BUFFERED..=1 << 30).contains(&max_buffered_bytes()));
        assert!((1..=10_000).contains(&max_connections()));
    }
}
