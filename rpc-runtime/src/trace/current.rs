//! Current: the trace context of the handler that is polled on this thread.

use std::cell::Cell;

use crate::api::trace_context::TraceContext;

thread_local! {
    // Only calls that belong to a trace touch it.
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// Returns the trace context of the handler that is polled here; none elsewhere.
pub(crate) fn current() -> Option<TraceContext> {
    // None while the thread ends.
    let current = CURRENT.try_with(|place| {
        let current = place.take();
        let copy = current.clone();
        place.set(current);
        copy
    });
    current.ok().flatten()
}

/// Makes `trace` the current one until the guard is dropped, also in a panic.
pub(super) fn enter(trace: TraceContext) -> CurrentTrace {
    CurrentTrace(
        CURRENT
            .try_with(|place| place.replace(Some(trace)))
            .ok()
            .flatten(),
    )
}

/// The trace context that was current before.
pub(super) struct CurrentTrace(Option<TraceContext>);

impl Drop for CurrentTrace {
    fn drop(&mut self) {
        let outer = self.0.take();
        let _ = CURRENT.try_with(|place| place.set(outer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_trace_ends_with_its_guard() {
        let (outer, inner) = (TraceContext::start(true), TraceContext::start(true));
        assert_eq!(current(), None);
        let guard = enter(outer.clone());
        {
            let _inner = enter(inner.clone());
            assert_eq!(current(), Some(inner));
        }
        assert_eq!(current(), Some(outer));
        drop(guard);
        assert_eq!(current(), None);
    }
}
