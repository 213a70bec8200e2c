//! Panicked: advice for the caller and the log about a handler that panicked.

use tokio::runtime::{Handle, RuntimeFlavor};

use super::Threads;
use crate::message::procedure::{Procedure, Run};

/// Returns what to do about a panic, if it is one of tokio's about a thread that must not block.
///
/// Nothing of the panic's own text is passed on: it may contain bytes that a peer has sent.
pub(crate) fn advice(panic: &str, procedure: &Procedure, threads: Threads) -> Option<String> {
    let is_one_of = |texts: &[&str]| texts.iter().any(|text| panic.starts_with(text));
    let path = procedure.path();
    if procedure.run() == Run::Blocking && threads == Threads::One {
        return is_one_of(&BLOCKS).then(|| {
            "a simulation runs `blocking` handlers as tasks, where tokio forbids to block".to_owned()
        });
    }
    if is_one_of(&BLOCKS[..1]) {
        let thread = HandlerThread::here();
        return Some(format!(
            "block_in_place needs a multi-thread runtime; this handler ran on {}: say `blocking: true` for {path} in the \
             .proto, or {}",
            thread.name(),
            thread.way_out(),
        ));
    }
    is_one_of(&BLOCKS[1..]).then(|| {
        format!(
            "it blocked a thread that drives other calls (block_on, blocking_recv, blocking_lock or the drop of a runtime): \
             await instead, or say `blocking: true` for {path} in the .proto"
        )
    })
}

/// How tokio's panics about blocking begin; the first is that of `block_in_place`.
const BLOCKS: [&str; 4] = [
    "can call blocking only when running on the multi-threaded runtime",
    "Cannot start a runtime from within a runtime",
    "Cannot block the current thread from within a runtime",
    "Cannot drop a runtime in a context where blocking is not allowed",
];

/// The thread of a handler that cannot call `block_in_place`.
enum HandlerThread {
    /// On a thread of the server's own.
    Worker,
    /// In a runtime of one thread.
    CurrentThread,
    /// In a multi-thread runtime, but for a `LocalSet` or the like.
    Other,
}

impl HandlerThread {
    fn here() -> Self {
        let thread = std::thread::current();
        if thread.name().is_some_and(|name| name.starts_with(WORKER)) {
            return Self::Worker;
        }
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::CurrentThread) => Self::CurrentThread,
            _ => Self::Other,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Worker => "a worker of `.workers(..)`, which is a current_thread runtime",
            Self::CurrentThread => "a current_thread runtime",
            Self::Other => "a thread that drives other tasks",
        }
    }

    fn way_out(&self) -> &'static str {
        match self {
            Self::Worker => "leave `.workers(..)` out",
            Self::CurrentThread => "serve on a multi-thread runtime (`flavor = \"multi_thread\"` for tests)",
            Self::Other => "serve on a multi-thread runtime, outside of a LocalSet",
        }
    }
}

/// The beginning of the names of the threads that `.workers(..)` starts.
pub(crate) const WORKER: &str = "rpc-worker-";
