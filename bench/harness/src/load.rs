//! The closed-loop load: slots that always have one call outstanding, a
//! warm-up, a measured window bounded in time (or a fixed number of calls).

use crate::proc::{self, Cpu};
use crate::store::Key;
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
    span: OnceLock<(Instant, Instant)>,
    monitor: Mutex<Option<JoinHandle<(Cpu, Cpu, Duration)>>>,
    totals: Mutex<Totals>,
}

/// What the workers have measured.
struct Totals {
    times: Histogram<u64>,
    calls: u64,
    bytes: u64,
}

fn histogram<C: hdrhistogram::Counter>() -> Histogram<C> {
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
    ) -> Arc<Self> {
        Arc::new(Load {
            conns,
            inflight,
            keys,
            warmup,
            window,
            fixed_calls,
            server_pid,
            span: OnceLock::new(),
            monitor: Mutex::new(None),
            totals: Mutex::new(Totals {
                times: histogram(),
                calls: 0,
                bytes: 0,
            }),
        })
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

    /// The time in microseconds that this share of the calls took at most.
    pub fn quantile_us(&self, share: f64) -> f64 {
        self.totals.lock().unwrap().times.value_at_quantile(share) as f64 / 1e3
    }

    /// The measurements as one JSON line.
    pub fn report(&self) -> String {
        let Totals { times, calls, bytes } = &*self.totals.lock().unwrap();
        let calls = *calls;
        let Some(monitor) = self.monitor.lock().unwrap().take() else {
            return format!("{{\"calls\":{calls}}}");
        };
        let (own, server, actual) = monitor.join().unwrap();
        let secs = self.window.as_secs_f64();
        // CPU was read over `actual`, the calls counted over the window.
        let per_call =
            |d: Duration| d.as_secs_f64() * 1e6 * (secs / actual.as_secs_f64()) / calls.max(1) as f64;
        let us = |q| times.value_at_quantile(q) as f64 / 1e3;
        format!(
            "{{\"calls\":{calls},\"per_s\":{:.1},\"mib_s\":{:.1},\"p50_us\":{:.2},\"p99_us\":{:.2},\
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

/// One in-flight slot (or one hand-pipelined connection).
pub struct Worker {
    load: Arc<Load>,
    hist: Histogram<u32>,
    bytes: u64,
    random: u64,
    started: Instant,
    from: Instant,
    to: Instant,
    left: u64,
}

impl Worker {
    /// The key of the next call, or `None` when it is time to stop.
    #[inline]
    pub fn next_key(&mut self) -> Option<&'static Key> {
        if self.left == 0 || self.started >= self.to {
            return None;
        }
        self.left -= 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Some(&self.load.keys[(self.random >> 33) as usize % self.load.keys.len()])
    }

    /// The call for `key`, got by the latest `next_key`, is done.
    #[inline]
    pub fn done(&mut self, key: &Key) {
        let now = Instant::now();
        self.done_at(self.started, now, key);
    }

    /// A call for `key` that ran from `start` to `now` is done; the next starts `now`.
    #[inline]
    pub fn done_at(&mut self, start: Instant, now: Instant, key: &Key) {
        if now >= self.from && now < self.to {
            self.hist.saturating_record((now - start).as_nanos() as u64);
            self.bytes += key.len as u64;
        }
        self.started = now;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let totals = &mut *self.load.totals.lock().unwrap();
        totals.calls += self.hist.len();
        totals.bytes += self.bytes;
        totals.times.add(histogram_u64(&self.hist)).unwrap();
    }
}

fn histogram_u64(small: &Histogram<u32>) -> Histogram<u64> {
    let mut big = histogram();
    for v in small.iter_recorded() {
        big.record_n(v.value_iterated_to(), v.count_at_value() as u64)
            .unwrap();
    }
    big
}

impl Worker {
    /// `n` one-way messages got by `next_key` have been handed to the transport.
    #[inline]
    pub fn sent(&mut self, n: u64) {
        let now = Instant::now();
        if now >= self.from && now < self.to {
            self.hist
                .saturating_record_n((now - self.started).as_nanos() as u64, n as u32);
        }
        self.started = now;
    }
}
