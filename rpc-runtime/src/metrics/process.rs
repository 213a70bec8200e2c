//! Process: what the OS knows of this process, read from /proc.

use std::{fs, path::Path};

/// What the OS knows of this process. What it does not tell is none: /proc exists on Linux only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// In seconds since 1970.
    pub(super) start_time: Option<f64>,
    /// In seconds.
    pub(super) cpu: Option<f64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
}

impl Process {
    /// The numbers of this moment.
    pub(super) fn read() -> Self {
        // On Windows this is a folder of the current drive, which any user may make.
        if !Path::new("/proc").is_absolute() {
            return Self::default();
        }
        let stat = text("self/stat");
        let stat = stat.as_deref().and_then(Stat::parse);
        Self {
            start_time: stat
                .as_ref()
                .zip(boot_time())
                .map(|(stat, boot)| boot + stat.started / TICKS),
            cpu: stat.as_ref().map(|stat| stat.ran / TICKS),
            // The listing itself is open meanwhile.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|all| (all.count() as u64).saturating_sub(1)),
            max_fds: text("self/limits").as_deref().and_then(max_fds),
            resident_bytes: text("self/status").as_deref().and_then(resident),
        }
    }
}

/// The times of a process, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    /// For how long it has run, for itself and in the kernel.
    ran: f64,
    /// When it began, counted from when the machine did.
    started: f64,
}

impl Stat {
    /// Reads /proc/self/stat. The name of the process stands in brackets, and may have any characters.
    fn parse(stat: &str) -> Option<Self> {
        let (_, behind_name) = stat.rsplit_once(')')?;
        let mut fields = behind_name.split_whitespace();
        // The first one is the third of the line.
        let user: f64 = fields.nth(11)?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        let started: f64 = fields.nth(6)?.parse().ok()?;
        Some(Self {
            ran: user + system,
            started,
        })
    }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{path}")).ok()
}

/// When the machine began, in seconds since 1970.
fn boot_time() -> Option<f64> {
    value(&text("stat")?, "btime ")?.parse().ok()
}

fn max_fds(limits: &str) -> Option<u64> {
    value(limits, "Max open files")?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn resident(status: &str) -> Option<u64> {
    let kib: u64 = value(status, "VmRSS:")?.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What stands behind `name` at the beginning of a line.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// The ticks in a second that Linux shows, whatever the kernel counts in.
const TICKS: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_as_linux_prints_them_are_read() {
        let stat = "42 (a) name) S 1 42 42 0 -1 4194560 500 0 3 0 250 150 9 9 20 0 4 0 123400 9000000 600 18446744073709551615 1 1";
        let parsed = Stat::parse(stat).unwrap();
        assert_eq!((parsed.ran / TICKS, parsed.started / TICKS), (4.0, 1234.0));
        assert_eq!(
            max_fds("Limit  Soft  Hard\nMax open files            1024                 4096   files\n"),
            Some(1024)
        );
        assert_eq!(
            max_fds("Max open files            unlimited  unlimited  files\n"),
            None
        );
        assert_eq!(resident("VmSize:  9 kB\nVmRSS:\t   2048 kB\n"), Some(2 << 20));
        assert_eq!(value("cpu 1\nbtime 1700000000\n", "btime "), Some("1700000000"));
        for len in 0..stat.len() - 60 {
            Stat::parse(&stat[..len]);
        }
    }

    #[test]
    fn this_process_has_all_of_it_on_linux() {
        let process = Process::read();
        if std::env::consts::OS != "linux" {
            assert_eq!(process, Process::default());
            return;
        }
        assert!(process.start_time.unwrap() > 1e9);
        assert!(process.cpu.is_some() && process.max_fds.is_some());
        assert!(process.open_fds.unwrap() >= 3);
        assert!(process.resident_bytes.unwrap() > 100_000);
    }
}
