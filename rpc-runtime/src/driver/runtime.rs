//! Runtime: what the current tokio runtime can do.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    time::{Instant, Sleep, sleep, sleep_until},
};

use crate::{Code, Error, base::panic::Panic};

/// The id of the current runtime. None outside of one.
#[inline]
pub(crate) fn here() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// Returns the current runtime if it has timers. `missing` is the text of the error if there is none.
///
/// # Errors
///
/// FAILED_PRECONDITION without a runtime, or if it has no timers.
pub(crate) fn with_timers(missing: &str) -> Result<Handle, Error> {
    let Ok(runtime) = Handle::try_current() else {
        return Err(Error::local(Code::FailedPrecondition, missing));
    };
    if has_timers(&runtime) {
        Ok(runtime)
    } else {
        Err(Error::local(Code::FailedPrecondition, NO_TIMERS))
    }
}

/// Makes a timer in the current runtime. None without a runtime, and in one without timers.
pub(crate) fn timer(at: Instant) -> Option<Sleep> {
    let runtime = Handle::try_current().ok()?;
    has_timers(&runtime).then(|| sleep_until(at))
}

/// True if `runtime`, the current one, has timers. Found out once for each thread.
fn has_timers(runtime: &Handle) -> bool {
    thread_local! {
        static WITH: Cell<Option<Id>> = const { Cell::new(None) };
    }
    let id = runtime.id();
    if WITH.get() == Some(id) {
        return true;
    }
    // tokio cannot be asked, and its panic would be printed by the panic hook. So this asks once.
    static WITHOUT: Mutex<Option<Id>> = Mutex::new(None);
    let mut without = WITHOUT.lock().unwrap_or_else(PoisonError::into_inner);
    if *without == Some(id) {
        return false;
    }
    let has = Panic::catch(|| drop(sleep(Duration::ZERO))).is_ok();
    if has {
        WITH.set(Some(id));
    } else {
        *without = Some(id);
    }
    has
}

/// Polls `future` to its end, or to its panic. Then it returns the panic's text.
///
/// # Errors
///
/// The text of the panic.
pub(crate) async fn unless_panics<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|cx| match Panic::catch(|| future.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic.text().unwrap_or("no text").to_owned())),
    })
    .await
}

/// The error of a transport that panicked. tokio's sockets panic in a runtime without IO.
pub(crate) fn transport_error(panic: &str) -> Error {
    let text = match panic.contains("enable_io") {
        true => NO_IO.to_owned(),
        false => format!("the transport panicked: {panic}"),
    };
    Error::local(Code::FailedPrecondition, text)
}

const NO_TIMERS: &str = "this tokio runtime has no timers: build it with enable_time(), or with enable_all()";
const NO_IO: &str = "this tokio runtime has no IO: build it with enable_io(), or with enable_all()";
