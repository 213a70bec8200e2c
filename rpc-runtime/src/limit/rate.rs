//! RateLimit: how many calls of a caller begin in a time.

use std::{
    fmt,
    hash::Hash,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    key_of::KeyOf,
    recent::Recent,
    theoretical_arrival::{Pace, TheoreticalArrival},
};
use crate::{
    Result, Status,
    metrics::LIMITS,
    middleware::{Answer, Middleware, Next, ServerCall},
};

/// Limits how many calls of each caller begin in a time: `calls` in a second, at least 1.
///
/// [`RateLimit::per`] sets another time, [`RateLimit::burst`] how many calls may come at once, and [`RateLimit::by`] what a
/// caller is.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_runtime::{Server, limit};
///
/// let server = Server::builder()
///     // 100 calls a second, and 200 at once after a pause.
///     .layer(limit::rate(100).burst(200))
///     // Of one procedure, 5 in a minute.
///     .layer_for("demo.kv.v1.Kv/rpc_clear", limit::rate(5).per(Duration::from_secs(60)));
/// # let _ = server;
/// ```
///
/// A call beyond the rate fails with RESOURCE_EXHAUSTED, and was not executed. Its status says when it would have been admitted:
/// see [`Status::retry_after`]. It does not count. A call with streams counts once, when it begins. Other callers keep
/// their rate, while there are no more than [`RateLimit::max_callers`].
pub fn rate(calls: u32) -> RateLimit {
    RateLimit {
        calls,
        per: Duration::from_secs(1),
        burst: None,
        max_callers: MAX_CALLERS,
        key: KeyOf::default(),
        began: OnceLock::new(),
        callers: Mutex::new(None),
    }
}

/// A limit on the rate of each caller's calls: see [`rate`].
#[must_use = "middleware does nothing until a builder gets it by `.layer(..)`"]
pub struct RateLimit {
    calls: u32,
    per: Duration,
    burst: Option<u32>,
    max_callers: usize,
    key: KeyOf,
    /// When its first call came.
    began: OnceLock<Instant>,
    /// None before the first call.
    callers: Mutex<Option<Recent<TheoreticalArrival>>>,
}

impl RateLimit {
    /// Sets the time in which the calls may begin. Default: 1 s.
    pub fn per(mut self, time: Duration) -> Self {
        self.per = time;
        self
    }

    /// Sets how many calls of a caller may begin at once after a pause, at least 1. Default: as many as in the time of
    /// [`RateLimit::per`].
    pub fn burst(mut self, calls: u32) -> Self {
        self.burst = Some(calls);
        self
    }

    /// Sets whose calls count together, by any value that can be hashed. Default: [`caller`](super::caller).
    ///
    /// ```
    /// use rpc_runtime::limit;
    ///
    /// let each_procedure = limit::rate(10).by(|call| (limit::caller(call), call.procedure()));
    /// let each_tenant = limit::rate(1000).by(|call| call.metadata().get("x-tenant").cloned());
    /// let everybody_together = limit::rate(10_000).by(|_| ());
    /// # let _ = (each_procedure, each_tenant, everybody_together);
    /// ```
    pub fn by<K: Hash>(mut self, key: impl Fn(&ServerCall) -> K + Send + Sync + 'static) -> Self {
        self.key = KeyOf::new(key);
        self
    }

    /// Sets how many callers the limit tells apart, at least 1. Default: 10,000.
    ///
    /// It protects memory: an entry has a fixed size, and there are never more. If there are more callers, a new one takes the
    /// entry of the caller that has not called for longest, with what that one has used up of its rate. So all callers together
    /// never have more than `max_callers` times the rate, however often they change their names.
    pub fn max_callers(mut self, callers: usize) -> Self {
        self.max_callers = callers;
        self
    }

    /// Counts a call; the error is how long its caller has to wait.
    fn count(&self, call: &ServerCall) -> Result<(), Duration> {
        let pace = Pace::new(self.calls, self.per, self.burst.unwrap_or(self.calls));
        let now = Instant::now();
        let now = now.saturating_duration_since(*self.began.get_or_init(|| now));
        let key = self.key.get(call);
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let callers = callers.get_or_insert_with(|| Recent::new(self.max_callers));
        callers.value(key).count(pace, now)
    }

    #[cold]
    fn refusal(&self, call: &ServerCall, wait: Duration) -> Status {
        let Self { calls, per, .. } = self;
        let calls = (*calls).max(1);
        LIMITS.rate.add();
        tracing::debug!(
            peer = call.peer().address(),
            call = call.context().call_id(),
            procedure = call.procedure(),
            "refused: the caller exceeds its rate"
        );
        let text = format!(
            "the caller exceeds its rate of {calls} calls in {per:?} (the server's limit::rate): slow down"
        );
        Status::resource_exhausted(text).with_retry_after(wait)
    }
}

impl Middleware<ServerCall> for RateLimit {
    async fn handle(&self, call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        match self.count(&call) {
            Ok(()) => next.run(call).await,
            Err(wait) => Err(self.refusal(&call, wait)),
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("calls", &self.calls)
            .field("per", &self.per)
            .field("burst", &self.burst)
            .field("max_callers", &self.max_callers)
            .finish_non_exhaustive()
    }
}

/// How many callers a limit tells apart by default.
const MAX_CALLERS: usize = 10_000;
