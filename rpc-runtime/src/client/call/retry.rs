//! Retry: which failed calls are made once more.

use crate::{
    Code, Executed, Phase,
    client::channel::{Channel, connection::ClientConnection},
    conn::{CallFailure, Cause},
};

/// Decides whether a failed call may be retried: it did not run, and its connection is to blame. Takes a retry token.
///
/// If the peer drained before it took any request, the retry costs no token. Only calls that were sent ahead of the peer's
/// HELLO meet that. There are at most sixteen of them, and a restart must not fail those above ten, the number of tokens.
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
