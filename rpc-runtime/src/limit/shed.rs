//! Shed: the refusal of calls when all of them wait too long.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{run_delay::RunDelay, standing_queue::StandingQueue};
use crate::{
    Priority, Result, Status,
    metrics::LIMITS,
    middleware::{Answer, Middleware, Next, ServerCall},
};

/// Refuses calls while all calls wait too long before their handlers start.
///
/// ```
/// use rpc_runtime::{Server, limit};
///
/// let server = Server::builder().layer(limit::shed());
/// # let _ = server;
/// ```
///
/// A server that gets more calls than it can handle makes all of them wait, until each is late and its work is for nothing. If
/// some are refused at once, the others are in time. Bursts are not refused: only if every call has waited longer than
/// [`Shed::target`], for the whole time of [`Shed::interval`], further calls are refused, until one has waited less.
///
/// The wait of a call is the time since its last byte was read, and the time that a task of the runtime waits for its turn, which
/// is measured now and then. A first layer sees that alone. Behind a layer that makes calls wait, such as a semaphore, it
/// sees that wait too. It does not see what a handler waits for, such as a connection to a database.
///
/// A refused call fails with UNAVAILABLE and was not executed. Its status says to come back after the interval: see
/// [`Status::retry_after`]. Procedures with [`Priority::Control`] are never refused. Neither are the calls of the control service,
/// such as `terminate`, which it does not wrap.
pub fn shed() -> Shed {
    Shed {
        target: TARGET,
        interval: INTERVAL,
        delay: RunDelay::default(),
        queue: Mutex::default(),
    }
}

/// Refuses calls while all calls wait too long: see [`shed`].
#[must_use = "middleware does nothing until a builder gets it by `.layer(..)`"]
pub struct Shed {
    target: Duration,
    interval: Duration,
    delay: RunDelay,
    queue: Mutex<StandingQueue>,
}

impl Shed {
    /// Sets how long a call may wait. Default: 5 ms.
    pub fn target(mut self, wait: Duration) -> Self {
        self.target = wait;
        self
    }

    /// Sets for how long all calls must have waited too long before the first one is refused. Default: 100 ms.
    ///
    /// It should be longer than the bursts that a server gets, and shorter than its callers' deadlines.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Notes how long a call has waited. Returns true if it is to be refused.
    fn refuses(&self, call: &ServerCall) -> bool {
        let now = Instant::now();
        let wait = call.queued() + self.delay.get(self.interval / MEASUREMENTS, now);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.note(wait, self.target, self.interval, now)
    }

    #[cold]
    fn refusal(&self, call: &ServerCall) -> Status {
        let Self { target, interval, .. } = self;
        LIMITS.shed.add();
        tracing::debug!(
            peer = call.peer().address(),
            call = call.context().call_id(),
            procedure = call.procedure(),
            "refused: calls wait too long"
        );
        let text = format!(
            "overloaded: for {interval:?} all calls have waited longer than {target:?}: the server's limit::shed"
        );
        Status::unavailable(text).with_retry_after(*interval)
    }
}

impl Middleware<ServerCall> for Shed {
    async fn handle(&self, call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        if call.priority() != Priority::Control && self.refuses(&call) {
            return Err(self.refusal(&call));
        }
        next.run(call).await
    }
}

impl fmt::Debug for Shed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shed")
            .field("target", &self.target)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// As in CoDel, and in Facebook's servers: "Fail at Scale", ACM Queue 13 (8), 2015.
const TARGET: Duration = Duration::from_millis(5);
const INTERVAL: Duration = Duration::from_millis(100);
/// How often the delay of the runtime is measured in an interval.
const MEASUREMENTS: u32 = 10;
