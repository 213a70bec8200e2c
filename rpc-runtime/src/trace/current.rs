//! Current: the trace of the call whose code runs on this thread.

use std::cell::Cell;

use crate::api::trace_context::TraceContext;

thread_local! {
    // Only calls that belong to a trace touch them.
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
    static IS_DECLINED: Cell<bool> = const { Cell::new(false) };
}

/// Returns the trace context of the call whose code runs here; none elsewhere.
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

/// Returns true within a call whose trace the [`Linker`](super::Linker) has [declined](super::Sampling::Declined): in its handler, and in the
/// middleware of either side.
///
/// An exporter asks it for each span that is about to be made, and leaves out those of such calls. A task that a handler spawns is not
/// within its call.
#[inline]
pub fn is_declined() -> bool {
    IS_DECLINED.get()
}

/// Makes `trace` the current one until the guard is dropped, also in a panic.
pub(super) fn enter(trace: Option<TraceContext>, is_declined: bool) -> CurrentTrace {
    let outer = CURRENT.try_with(|place| place.replace(trace));
    CurrentTrace {
        trace: outer.ok().flatten(),
        is_declined: IS_DECLINED.replace(is_declined),
    }
}

/// What was current before.
pub(super) struct CurrentTrace {
    trace: Option<TraceContext>,
    is_declined: bool,
}

impl Drop for CurrentTrace {
    fn drop(&mut self) {
        let outer = self.trace.take();
        IS_DECLINED.set(self.is_declined);
        let _ = CURRENT.try_with(|place| place.set(outer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_trace_ends_with_its_guard() {
        let (outer, inner) = (TraceContext::start(false), TraceContext::start(true));
        assert_eq!((current(), is_declined()), (None, false));
        let guard = enter(Some(outer.clone()), true);
        {
            let _inner = enter(Some(inner.clone()), false);
            assert_eq!((current(), is_declined()), (Some(inner), false));
        }
        assert_eq!((current(), is_declined()), (Some(outer), true));
        drop(guard);
        assert_eq!((current(), is_declined()), (None, false));
    }
}
