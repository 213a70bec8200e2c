//! Machine: how much there is of what a server must not use up: memory and files.

use std::{fs, path::Path, str::FromStr};

/// How many bytes all connections of a server may hold by default: a quarter of what this process may have, at most 1 GiB.
pub(crate) fn max_buffered_bytes() -> u64 {
    const MOST: u64 = 1 << 30;
    memory().map_or(MOST, |bytes| (bytes / 4).clamp(LEAST_BUFFERED, MOST))
}

/// How many connections a server takes by default: half of the files that this process may open, at most 10,000.
pub(crate) fn max_connections() -> usize {
    const MOST: usize = 10_000;
    files(&process_limits()).map_or(MOST, |files| (files / 2).clamp(1, MOST))
}

/// With less than this a server would refuse what a single peer may send.
const LEAST_BUFFERED: u64 = 16 << 20;

/// How much memory this process may have: that of the machine, of its control group, or of its limit of addresses.
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
    // One that has no limit says "max", or a number that no machine has.
    let limits = limits.filter_map(|text| text.trim().parse().ok());
    limits.chain(machine).chain(addresses(&process_limits())).min()
}

/// The memory in /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The control group in /proc/self/cgroup, of the one hierarchy that there is now.
fn group(groups: &str) -> Option<&str> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(path.trim())
}

fn process_limits() -> String {
    fs::read_to_string("/proc/self/limits").unwrap_or_default()
}

/// The soft limit of open files in /proc/self/limits; none if there is none.
fn files(limits: &str) -> Option<usize> {
    limit(limits, "Max open files")
}

/// The soft limit of the address space there, in bytes; none if there is none.
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
    fn what_is_no_table_says_nothing() {
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
