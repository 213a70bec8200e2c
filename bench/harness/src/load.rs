//! The closed-loop load: slots that always have one call outstanding, a
//! warm-up, a measured window bounded in time (or a fixed number of calls).

use crate::pace::{Pace, Pacer};
use crate::proc::{self, Cpu};
use crate::store::Key;
use crate::worker::Worker;
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub struct Load {
    pub conns: usize,
    pub inflight: usize,
    pub keys: &'static [Key],
    warmup: Duration,
    window: Duration,
    /// If set: exactly this many calls in all, no warm-up; for counting tools.
    fixed_calls: Option<u64>,
    server_pid: i32,
    /// If set: when the messages are due.
    pace: Option<Pace>,
    span: OnceLock<(Instant, Instant)>,
    monitor: Mutex<Option<JoinHandle<(Cpu, Cpu, Duration)>>>,
    pub(crate) totals: Mutex<Totals>,
}

/// What the workers have measured.
pub(crate) struct Totals {
    pub(crate) times: Histogram<u64>,
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
    /// The sum of [`tally`](crate::store::tally) over all that was asked for, also before and after the window.
    pub(crate) tally: u64,
}

pub(crate) fn histogram<C: hdrhistogram::Counter>() -> Histogram<C> {
    // 64 ns to a minute, two digits: few cache lines even with 256 of them.
    Histogram::new_with_bounds(64, 60_000_000_000, 2).unwrap()
}

impl Load {
    pub fn new(
        conns: usize,
        inflight: usize,
        keys: &'static [Key],
        warmup: Duration,
        window: Duration,
        fixed_calls: Option<u64>,
        server_pid: i32,
    ) -> Self {
        Self {
            conns,
            inflight,
            keys,
            warmup,
            window,
            fixed_calls,
            server_pid,
            pace: None,
            span: OnceLock::new(),
            monitor: Mutex::new(None),
            totals: Mutex::new(Totals {
                times: histogram(),
                calls: 0,
                bytes: 0,
                tally: 0,
            }),
        }
    }

    /// The same with messages that carry their time, each when it is due.
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pace = Some(pace);
        self
    }

    /// How many messages of a stream to ask for: all that the load will read, or [`u64::MAX`] if that is bounded by time.
    pub fn count(&self) -> u64 {
        self.fixed_calls.unwrap_or(u64::MAX)
    }

    /// Starts the clock. Call once, when all connections are open.
    pub fn begin(&self) {
        let warmup = if self.fixed_calls.is_some() {
            Duration::ZERO
        } else {
            self.warmup
        };
        let from = Instant::now() + warmup;
        let to = from + self.window;
        self.span.set((from, to)).expect("begin() twice");
        if self.fixed_calls.is_some() {
            return;
        }
        let pid = self.server_pid;
        *self.monitor.lock().unwrap() = Some(std::thread::spawn(move || {
            let both = || (proc::own_cpu(), proc::cpu_of(pid), Instant::now());
            std::thread::sleep(from.saturating_duration_since(Instant::now()));
            let (own, server, start) = both();
            std::thread::sleep(to.saturating_duration_since(Instant::now()));
            let (own_end, server_end, end) = both();
            (own_end.since(own), server_end.since(server), end - start)
        }));
    }

    /// `slots`: how many in-flight slots the worker stands for (1, unless the
    /// peer pipelines by hand).
    pub fn worker(self: &Arc<Self>, seed: usize, slots: usize) -> Worker {
        let &(from, to) = self.span.get().expect("begin() first");
        let all_slots = (self.conns * self.inflight) as u64;
        Worker {
            left: self
                .fixed_calls
                .map_or(u64::MAX, |n| n * slots as u64 / all_slots),
            load: self.clone(),
            hist: histogram(),
            bytes: 0,
            tally: 0,
            unread: 0,
            value: Bytes::from(vec![7; self.keys[0].len]),
            stamped: vec![7; self.keys[0].len],
            pacer: self.pace.map(|pace| Pacer::new(pace, self.warmup, self.window)),
            random: 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed as u64 + 1) | 1,
            started: Instant::now(),
            from,
            to: if self.fixed_calls.is_some() {
                to + Duration::from_secs(3600)
            } else {
                to
            },
        }
    }

    /// Calls or messages per second.
    pub fn per_s(&self) -> f64 {
        self.totals.lock().unwrap().calls as f64 / self.window.as_secs_f64()
    }

    /// The sum of [`tally`](crate::store::tally) over the keys of all calls and messages.
    pub fn tally(&self) -> u64 {
        self.totals.lock().unwrap().tally
    }

    /// The time in microseconds that this share of the calls took at most.
    pub fn quantile_us(&self, share: f64) -> f64 {
        self.totals.lock().unwrap().times.value_at_quantile(share) as f64 / 1e3
    }

    /// The measurements as one JSON line.
    pub fn report(&self) -> String {
        let Totals {
            times,
            calls,
            bytes,
            tally,
        } = &*self.totals.lock().unwrap();
        let calls = *calls;
        let Some(monitor) = self.monitor.lock().unwrap().take() else {
            return format!("{{\"calls\":{calls},\"tally\":{tally}}}");
        };
        let (own, server, actual) = monitor.join().unwrap();
        let secs = self.window.as_secs_f64();
        // CPU was read over `actual`, the calls counted over the window.
        let per_call =
            |d: Duration| d.as_secs_f64() * 1e6 * (secs / actual.as_secs_f64()) / calls.max(1) as f64;
        let us = |q| times.value_at_quantile(q) as f64 / 1e3;
        format!(
            "{{\"calls\":{calls},\"tally\":{tally},\"per_s\":{:.1},\"mib_s\":{:.1},\"p50_us\":{:.2},\"p99_us\":{:.2},\
             \"client_cpu_us\":{:.3},\"client_sys_us\":{:.3},\"server_cpu_us\":{:.3},\
             \"server_sys_us\":{:.3}}}",
            calls as f64 / secs,
            *bytes as f64 / secs / (1 << 20) as f64,
            us(0.5),
            us(0.99),
            per_call(own.total),
            per_call(own.system),
            per_call(server.total),
            per_call(server.system),
        )
    }
}
