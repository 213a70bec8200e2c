//! From an error of HTTP/2 to the failure of a call, and whether its handler ran.

use std::time::Duration;

use h2::Reason;
use rpc_runtime::{Code, Executed, Status, protocol::OutgoingFailure};
use tokio::time::Instant;

use super::connection::Shared;

/// When a call is over at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallDeadline(Option<Instant>);

impl CallDeadline {
    /// The deadline of a call with this time `left`; none if it has none.
    pub(super) fn after(left: Option<Duration>) -> Self {
        Self(left.and_then(|left| Instant::now().checked_add(left)))
    }

    fn has_passed(&self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }
}

impl Shared {
    /// The failure of a call of which nothing was sent.
    pub(super) fn unsent(&self, error: &h2::Error) -> OutgoingFailure {
        let why = self.close(end_of_connection(error));
        OutgoingFailure::new(Status::unavailable(why), Executed::No)
    }

    /// The failure of a call whose stream ended with `error`.
    pub(super) fn failure(&self, error: &h2::Error, deadline: &CallDeadline) -> OutgoingFailure {
        if let Some(reason) = error.reason().filter(|_| error.is_reset()) {
            return match error.is_remote() {
                true => of_reset(reason, deadline.has_passed()),
                false => of_fault(reason),
            };
        }
        let why = self.close(end_of_connection(error));
        // h2 gives this error only to streams above the last one that the server may have begun.
        let executed = match error.is_go_away() && error.is_remote() {
            true => Executed::No,
            false => Executed::Maybe,
        };
        OutgoingFailure::new(Status::unavailable(why), executed)
    }
}

/// Says why a connection takes no more calls.
pub(super) fn end_of_connection(error: &h2::Error) -> String {
    match error.is_go_away() && error.is_remote() {
        true => format!("the server went away: {error}"),
        false => format!("connection lost: {error}"),
    }
}

/// The failure of a call that the server has reset. At its deadline it does so as for any call that it cancels.
fn of_reset(reason: Reason, is_late: bool) -> OutgoingFailure {
    let (code, executed) = match reason {
        Reason::REFUSED_STREAM => (Code::Unavailable, Executed::No),
        Reason::CANCEL if is_late => (Code::DeadlineExceeded, Executed::Maybe),
        Reason::CANCEL => (Code::Cancelled, Executed::Maybe),
        Reason::ENHANCE_YOUR_CALM => (Code::ResourceExhausted, Executed::Maybe),
        Reason::INADEQUATE_SECURITY => (Code::PermissionDenied, Executed::Maybe),
        _ => (Code::Internal, Executed::Maybe),
    };
    let text = format!("the server reset the stream: {}", reason.description());
    OutgoingFailure::new(Status::new(code, text), executed)
}

/// The failure of a call in whose answer this side has found a fault.
fn of_fault(reason: Reason) -> OutgoingFailure {
    let text = format!(
        "the server's answer breaks the rules of HTTP/2: {}",
        reason.description()
    );
    OutgoingFailure::new(Status::internal(text), Executed::Maybe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_cancelled_after_its_deadline_has_missed_it() {
        for (reason, is_late, code) in [
            (Reason::CANCEL, true, Code::DeadlineExceeded),
            (Reason::CANCEL, false, Code::Cancelled),
            (Reason::REFUSED_STREAM, true, Code::Unavailable),
            (Reason::INTERNAL_ERROR, true, Code::Internal),
        ] {
            let failure = of_reset(reason, is_late);
            assert_eq!(failure.status().code(), code, "{reason:?} {is_late}");
        }
    }

    #[test]
    fn a_deadline_has_passed_when_no_time_is_left() {
        assert!(CallDeadline::after(Some(Duration::ZERO)).has_passed());
        assert!(!CallDeadline::after(Some(Duration::from_secs(3600))).has_passed());
        assert!(!CallDeadline::after(None).has_passed());
    }
}
