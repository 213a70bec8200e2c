//! CallView: one call at one moment.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::Side;
use crate::{
    api::call_state::{CallState, CancelledBy},
    base::short_text::Short,
};

/// One call in flight at one moment, from [`calls`](super::calls).
///
/// `Display` shows it in one line, with columns that stand below each other.
#[derive(Clone, Debug)]
pub struct CallView {
    pub(super) connection: u64,
    pub(super) id: u64,
    pub(super) procedure: Cow<'static, str>,
    pub(super) side: Side,
    pub(super) peer: Arc<str>,
    pub(super) caller: Option<Arc<str>>,
    pub(super) protocol: &'static str,
    pub(super) is_one_way: bool,
    pub(super) count: usize,
    pub(super) age: Duration,
    pub(super) remaining: Option<Duration>,
    pub(super) running: Option<Duration>,
    pub(super) state: CallState,
    pub(super) blocked: Option<Duration>,
    pub(super) cancelled_by: Option<CancelledBy>,
}

impl CallView {
    /// Returns the number of its connection: [`ConnectionView::id`](super::ConnectionView::id).
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Returns the id of the call on its connection. Log lines of both peers have it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the path of the procedure, `package.Service/Name`, or its id in hexadecimal if this process does not know it.
    pub fn procedure(&self) -> &str {
        &self.procedure
    }

    /// Returns whether this process serves the call or has made it.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Returns the address of the peer.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Returns the name of the caller, if its connection carries calls of one caller only.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// Returns the protocol: `native`, or that of the guest or bridge, such as `grpc`.
    pub fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// Returns true if the call has no reply.
    pub fn is_one_way(&self) -> bool {
        self.is_one_way
    }

    /// Returns how many calls this entry stands for: one, or the waiting one-way calls of one procedure that came in one frame.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the time since the request was read whole, or since the call was made.
    ///
    /// While more of a request is to come, it is the time since its first byte was read.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Returns the time until the deadline: zero once it has passed, none without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.remaining
    }

    /// Returns the time since the handler was polled first; none if it was not, or if this process has made the call.
    pub fn running_for(&self) -> Option<Duration> {
        self.running
    }

    /// Returns what the call does, or waits for.
    pub fn state(&self) -> CallState {
        self.state
    }

    /// Returns for how long the handler has blocked its thread; none if it does not.
    pub fn blocked_for(&self) -> Option<Duration> {
        self.blocked
    }

    /// Returns who has ended the call that a handler still serves; none if nobody has.
    ///
    /// A handler is dropped at its next await, so one that stays in the list does not come to an await.
    pub fn cancelled_by(&self) -> Option<CancelledBy> {
        self.cancelled_by
    }
}

impl fmt::Display for CallView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "#{:<6} {:<8} {:<6} {:<36} {:<17} age={:<7} left={:<7} {:<28}",
            self.connection,
            self.id,
            self.side,
            self.procedure,
            self.state,
            Short::time(Some(self.age)),
            Short::time(self.remaining),
            self.peer,
        )?;
        if let Some(caller) = &self.caller {
            write!(f, " caller={caller:?}")?;
        }
        if let Some(blocked) = self.blocked {
            write!(f, " blocks_for={}", Short::time(Some(blocked)))?;
        }
        if let Some(by) = self.cancelled_by {
            write!(f, " cancelled_by={by}")?;
        }
        if self.count > 1 {
            write!(f, " calls={}", self.count)?;
        }
        Ok(())
    }
}
