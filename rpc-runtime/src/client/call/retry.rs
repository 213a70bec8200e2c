//! Retry: whether a failed call is made once more.
//!
//! `in_flight` sees to it that a call is made only once more, and `streaming` that a stream is not opened again once it is read.

use crate::{
    Code, Executed, Phase,
    client::channel::{Channel, connection::ClientConnection},
    conn::{CallFailure, Cause},
};

/// Decides whether a failed call is retried, and takes a retry token if so: it surely did not run, and another connection may
/// succeed.
///
/// The retry costs no token if the peer drained before it took any request. Up to sixteen calls may be sent ahead of the peer's
/// HELLO, and the budget holds only ten tokens; a restart must not fail the other six.
pub(super) fn may_retry(channel: &Channel, failure: &CallFailure, on: &ClientConnection) -> bool {
    let is_to_blame = match &failure.cause {
        Cause::Lost { .. } | Cause::GoingAway { .. } | Cause::Closed => true,
        Cause::Replied(status) => status.code() == Code::Unavailable,
        // Another address may have a peer that speaks the protocol.
        Cause::HelloRejected { .. } => channel.addresses() > 1,
        _ => false,
    };
    failure.executed == Executed::No
        && is_to_blame
        && channel.finds_another()
        && (on.took_nothing() || channel.retry_budget().take())
}

/// True if a call failed before any of it was sent, because of its connection.
pub(super) fn never_began(failure: &CallFailure) -> bool {
    let of_connection = matches!(
        failure.cause,
        Cause::GoingAway { .. }
            | Cause::HelloRejected { .. }
            | Cause::Protocol { .. }
            | Cause::Lost { .. }
            | Cause::Closed
    );
    of_connection && failure.phase == Phase::Queue && failure.executed == Executed::No
}
