//! Forward: the status that a handler returns if one of its own calls fails.

use std::time::Duration;

use tracing::{debug, warn};

use super::context::Serving;
use crate::{
    Code, Error, Status,
    base::seldom::{Seldom, process_time},
};

/// Makes `?` in a handler return the right status if one of its own calls fails.
///
/// The answer of the other handler is forwarded whole; a failure of the call itself is reported without its cause. See
/// [`Error::into_status`].
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.into_status()
    }
}

impl Error {
    /// Converts the failure of a handler's own call to the status for its caller, like `?`.
    ///
    /// - An answer of the other handler ([`Executed::Yes`]) is forwarded whole over any number of servers: code,
    ///   message, details and metadata. PERMISSION_DENIED and UNAUTHENTICATED are forwarded too. If a handler calls
    ///   with its own rights and its caller should not take these codes for their own, the handler must map them.
    /// - A failure of the call itself becomes UNAVAILABLE, "the call to kv.v1.Kv/rpc_fetch failed": no connection, a
    ///   lost connection, the call's own deadline, or a refusal because of load or because the server goes away. It
    ///   becomes DEADLINE_EXCEEDED if the deadline of the handler's own call has passed, and CANCELLED if that call's
    ///   caller is gone. Both are known only where the handler's future itself is polled, not in a task that it
    ///   spawned.
    /// - A wrong call, which would fail the same way again, becomes INTERNAL with the same text: an unknown procedure,
    ///   a request or a reply that cannot be read, a right that this server lacks, a refused handshake. The caller
    ///   caused none of these. UNIMPLEMENTED or INVALID_ARGUMENT would look like an answer to its own call.
    ///
    /// The error itself, with the address and the cause, is logged here, once for each failure. The event of `tracing`
    /// has the procedure, the id and the peer of the handler's own call. It is a warning at most once a second;
    /// otherwise its level is debug.
    pub fn into_status(self) -> Status {
        if self.is_answer() {
            return self.into_answer();
        }
        let serving = Serving::current();
        log(&self, serving.as_ref());
        let code = match serving.as_ref().and_then(Serving::lost_code) {
            Some(code) => code,
            None => match self.code() {
                Code::InvalidArgument
                | Code::Unimplemented
                | Code::Internal
                | Code::FailedPrecondition
                | Code::PermissionDenied
                | Code::Unauthenticated => Code::Internal,
                _ => Code::Unavailable,
            },
        };
        Status::new(
            code,
            match self.procedure() {
                Some(procedure) => format!("the call to {procedure} failed"),
                None => "a call to another server failed".to_owned(),
            },
        )
    }
}

/// Logs the details that the caller does not get.
fn log(error: &Error, serving: Option<&Serving>) {
    static SAID: Seldom = Seldom::new(Duration::from_secs(1));
    let (procedure, call, peer) = match serving {
        Some(serving) => (serving.procedure(), serving.id(), serving.peer()),
        None => ("", 0, ""),
    };
    let text = "a call made by a handler failed";
    match SAID.turn(process_time()) {
        Some(unsaid) => warn!(procedure, call, peer, error = %error, unsaid, "{text}"),
        None => debug!(procedure, call, peer, error = %error, "{text}"),
    }
}
