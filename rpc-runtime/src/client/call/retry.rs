//! Retry: whether a failed call is made again, and when.
//!
//! `streaming` sees to it that a stream is not opened again once it is read.

use std::time::Duration;

use tokio::time::Instant;

use super::options::CallOptions;
use crate::{
    Code, Executed, Phase,
    client::{
        channel::{Channel, connection::ClientConnection},
        deadline::Deadline,
        timer,
    },
    conn::{CallFailure, Cause},
    driver::runtime,
};

/// How often a call was made again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retries {
    /// True if it was sent again because of its connection.
    is_resent: bool,
    /// How often it came back after the time that the server asked for.
    hinted: u8,
}

/// When a call is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    AtOnce,
    /// The server has refused it, and has said when to come back.
    After(Duration),
}

impl Retries {
    /// Decides whether a failed call is made again, and takes a retry token if so; none if it is not. It surely did not run, and
    /// either the server has said when to come back, or another connection may succeed.
    pub(super) fn next(
        &mut self,
        channel: &Channel,
        failure: &CallFailure,
        on: &ClientConnection,
        options: CallOptions,
        deadline: &Deadline,
    ) -> Option<Retry> {
        if failure.executed != Executed::No || options.is_balanced {
            return None;
        }
        if let Some(hint) = hint(failure) {
            let may_wait = options.takes_hints && !options.fails_fast && self.hinted < MAX_HINTED;
            let wait = hinted_wait(hint).filter(|wait| may_wait && fits(*wait, deadline))?;
            take_token(channel).then(|| {
                self.hinted += 1;
                if let Some(totals) = channel.totals() {
                    totals.retries_of_hint.add();
                }
                Retry::After(wait)
            })
        } else {
            let may = !self.is_resent && may_resend(channel, failure, on);
            may.then(|| {
                self.is_resent = true;
                if let Some(totals) = channel.totals() {
                    totals.retries_of_connection.add();
                }
                Retry::AtOnce
            })
        }
    }
}

impl Retry {
    /// Waits until the call is to be made again.
    pub(super) async fn wait(self) {
        if let Self::After(wait) = self {
            timer::sleep(wait).await;
        }
    }
}

/// When to come back, as the server that refused the call has said.
fn hint(failure: &CallFailure) -> Option<Duration> {
    match &failure.cause {
        Cause::Replied(status) => status.retry_after(),
        _ => None,
    }
}

/// The hint and up to as much again. So callers that were refused together do not come back together.
fn hinted_wait(hint: Duration) -> Option<Duration> {
    (hint <= MAX_HINT).then(|| hint.mul_f64(1.0 + fastrand::f64()))
}

/// True if the call has time left after the wait, and this task can wait.
fn fits(wait: Duration, deadline: &Deadline) -> bool {
    let back_at = Instant::now() + wait;
    deadline.at().is_none_or(|at| back_at < at) && runtime::timer(back_at).is_some()
}

/// Decides whether a call that did not run is sent again at once, because its connection is to blame and another one may
/// succeed.
///
/// It costs no token if the peer drained before it took any request. Up to sixteen calls may be sent ahead of the peer's
/// HELLO, and the budget holds only ten tokens; a restart must not fail the other six.
fn may_resend(channel: &Channel, failure: &CallFailure, on: &ClientConnection) -> bool {
    let is_to_blame = match &failure.cause {
        Cause::Lost { .. } | Cause::GoingAway { .. } | Cause::Closed => true,
        Cause::Replied(status) => status.code() == Code::Unavailable,
        // Another address may have a peer that speaks the protocol.
        Cause::HelloRejected { .. } => channel.addresses() > 1,
        _ => false,
    };
    is_to_blame && channel.finds_another() && (on.took_nothing() || take_token(channel))
}

/// Takes a retry token; false if none is left.
fn take_token(channel: &Channel) -> bool {
    let is_taken = channel.retry_budget().take();
    if let Some(totals) = channel.totals().filter(|_| !is_taken) {
        totals.retries_denied.add();
    }
    is_taken
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

/// How often one call comes back by a hint.
const MAX_HINTED: u8 = 3;
/// A call whose hint is longer fails at once.
const MAX_HINT: Duration = Duration::from_secs(60);
