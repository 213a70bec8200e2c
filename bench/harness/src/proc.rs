//! CPU time and memory of this and of another process.

use std::time::Duration;

#[derive(Clone, Copy, Default, Debug)]
pub struct Cpu {
    pub total: Duration,
    /// Of `total`, the part in the kernel (from 10 ms ticks for another process).
    pub system: Duration,
}

impl Cpu {
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            total: self.total.saturating_sub(earlier.total),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// CPU time of this process.
pub fn own_cpu() -> Cpu {
    // SAFETY: plain out-parameter calls.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    let system = time(usage.ru_stime);
    Cpu {
        total: time(usage.ru_utime) + system,
        system,
    }
}

/// CPU time of process `pid`.
pub fn cpu_of(pid: i32) -> Cpu {
    // SAFETY: plain out-parameter calls.
    let total = unsafe {
        let mut clock = std::mem::zeroed();
        assert_eq!(libc::clock_getcpuclockid(pid, &mut clock), 0, "no process {pid}");
        let mut t = std::mem::zeroed::<libc::timespec>();
        assert_eq!(libc::clock_gettime(clock, &mut t), 0);
        Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: u64 = stat[stat.rfind(')').unwrap() + 2..]
        .split(' ')
        .nth(12)
        .unwrap()
        .parse()
        .unwrap();
    Cpu {
        total,
        system: Duration::from_millis(10 * ticks),
    }
}

/// The monotonic clock, which all processes of a machine share.
#[inline]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A `kB` line of /proc/PID/status (`VmRSS`, `VmHWM`), in bytes.
pub fn status_bytes(pid: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
