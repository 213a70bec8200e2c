//! From an error of HTTP/2 to the failure of a call, and whether its handler ran.

use h2::Reason;
use rpc_runtime::{Code, Executed, Status, protocol::OutgoingFailure};

use super::connection::Shared;

impl Shared {
    /// The failure of a call of which nothing was sent.
    pub(super) fn unsent(&self, error: &h2::Error) -> OutgoingFailure {
        let why = self.close(end_of_connection(error));
        OutgoingFailure::new(Status::unavailable(why), Executed::No)
    }

    /// The failure of a call whose stream ended with `error`.
    pub(super) fn failure(&self, error: &h2::Error) -> OutgoingFailure {
        if let Some(reason) = error.reason().filter(|_| error.is_reset()) {
            return of_reset(reason, error);
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

fn of_reset(reason: Reason, error: &h2::Error) -> OutgoingFailure {
    let (code, executed) = match reason {
        // What this side has found wrong in the answer.
        _ if !error.is_remote() => (Code::Internal, Executed::Maybe),
        Reason::REFUSED_STREAM => (Code::Unavailable, Executed::No),
        Reason::CANCEL => (Code::Cancelled, Executed::Maybe),
        Reason::ENHANCE_YOUR_CALM => (Code::ResourceExhausted, Executed::Maybe),
        Reason::INADEQUATE_SECURITY => (Code::PermissionDenied, Executed::Maybe),
        _ => (Code::Internal, Executed::Maybe),
    };
    let text = match error.is_remote() {
        true => format!("the server reset the stream: {}", reason.description()),
        false => format!(
            "the server's answer breaks the rules of HTTP/2: {}",
            reason.description()
        ),
    };
    OutgoingFailure::new(Status::new(code, text), executed)
}
