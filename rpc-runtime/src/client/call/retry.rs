//! Retry: which failed calls are made once more.

use crate::{
    Code, Executed, Phase,
    client::channel::{Channel, connection::ClientConnection},
    conn::{Cause, Failure},
};

/// Whether a call that failed may be made once more, for its connection is to blame; takes the token for it.
///
/// A peer that went without taking anything at all costs no token: only calls that went out ahead of its HELLO meet
/// that, of which there are sixteen at most, and a restart must not fail those above ten.
pub(super) fn is_resendable(channel: &Channel, failure: &Failure, on: &ClientConnection) -> bool {
    let is_to_blame = match &failure.cause {
        Cause::Lost { .. } | Cause::GoingAway { .. } | Cause::Closed => true,
        Cause::Replied(status) => status.code() == Code::Unavailable,
        // Another address may lead to a better peer.
        Cause::HelloRejected { .. } => channel.addresses() > 1,
        _ => false,
    };
    failure.executed == Executed::No
        && is_to_blame
        && channel.finds_another()
        && (on.took_nothing() || channel.retry_budget().take())
}

/// Whether a call failed before any of it was sent, for a reason that lies with its connection.
pub(super) fn never_began(failure: &Failure) -> bool {
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
