//! ConcurrencyLimit: how many calls of a caller run at once.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::key_of::{Key, KeyOf};
use crate::{
    Result, Status,
    metrics::LIMITS,
    middleware::{Answer, Middleware, Next, ServerCall},
};

/// Limits how many calls of each caller run at once: `calls`, at least 1.
///
/// [`ConcurrencyLimit::by`] sets what a caller is.
///
/// ```
/// use rpc_runtime::{Server, limit};
///
/// let server = Server::builder()
///     .layer(limit::concurrency(20))
///     .layer_for("demo.kv.v1.Kv/rpc_watch", limit::concurrency(3));
/// # let _ = server;
/// ```
///
/// A call counts until its handler is gone: one with streams until the end of its streams, and one that is cancelled until its
/// handler has been dropped. A call beyond the limit fails with RESOURCE_EXHAUSTED and was not executed; it does not wait.
pub fn concurrency(calls: u32) -> ConcurrencyLimit {
    ConcurrencyLimit {
        calls: calls.max(1),
        retry_after: RETRY_AFTER,
        key: KeyOf::default(),
        running: Arc::default(),
    }
}

/// A limit on the calls of each caller that run at once: see [`concurrency`].
#[must_use = "middleware does nothing until a builder gets it by `.layer(..)`"]
pub struct ConcurrencyLimit {
    calls: u32,
    retry_after: Duration,
    key: KeyOf,
    running: Arc<Running>,
}

impl ConcurrencyLimit {
    /// Sets whose calls count together, by any value that can be hashed. Default: [`caller`](super::caller).
    ///
    /// See [`RateLimit::by`](super::RateLimit::by) for examples.
    pub fn by<K: Hash>(mut self, key: impl Fn(&ServerCall) -> K + Send + Sync + 'static) -> Self {
        self.key = KeyOf::new(key);
        self
    }

    /// Sets when a caller whose call was refused may try again. Default: 100 ms.
    ///
    /// Nothing here knows when one of its calls will end, so set about what such a call takes.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = wait;
        self
    }

    #[cold]
    fn refusal(&self, call: &ServerCall) -> Status {
        LIMITS.concurrency.add();
        tracing::debug!(
            peer = call.peer().address(),
            call = call.context().call_id(),
            procedure = call.procedure(),
            "refused: too many calls of this caller run"
        );
        let text = format!(
            "{} calls of this caller run already (the server's limit::concurrency): wait for one to end",
            self.calls
        );
        Status::resource_exhausted(text).with_retry_after(self.retry_after)
    }
}

impl Middleware<ServerCall> for ConcurrencyLimit {
    async fn handle(&self, call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        let Some(_place) = Running::begin(&self.running, self.key.get(&call), self.calls) else {
            return Err(self.refusal(&call));
        };
        next.run(call).await
    }
}

impl fmt::Debug for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimit")
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

/// How many calls of each caller run. A caller without one has no entry, so there are never more entries than calls.
#[derive(Default)]
struct Running(Mutex<HashMap<Key, u32>>);

impl Running {
    /// Counts a call of `key`, unless `max` of them run.
    fn begin(running: &Arc<Self>, key: Key, max: u32) -> Option<RunningPlace> {
        let mut counts = running.lock();
        let count = counts.entry(key).or_default();
        (*count < max).then(|| {
            *count += 1;
            RunningPlace {
                running: Arc::clone(running),
                key,
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a call that runs; dropping it ends the call.
struct RunningPlace {
    running: Arc<Running>,
    key: Key,
}

impl Drop for RunningPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.running.lock().entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

const RETRY_AFTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_without_a_call_has_no_entry() {
        let running = Arc::<Running>::default();
        let places: Vec<_> = (0..1000)
            .filter_map(|key| Running::begin(&running, key, 1))
            .collect();
        assert_eq!(running.lock().len(), 1000);
        assert!(Running::begin(&running, 7, 1).is_none());
        drop(places);
        assert_eq!(running.lock().len(), 0);
        assert!(Running::begin(&running, 7, 1).is_some());
    }
}
