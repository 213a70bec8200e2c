//! Forward: the status that a handler returns when a call of its own fails.

use std::time::Duration;

use tracing::{debug, warn};

use super::context::Serving;
use crate::{
    Code, Error, Status,
    base::log_limit::{Seldom, process_time},
};

/// Converts the error of a call that a handler made, so that `?` works in handlers: see [`Error::into_status`].
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.into_status()
    }
}

impl Error {
    /// Makes the status that a handler returns when a call of its own failed; `?` does the same.
    ///
    /// - The answer of the other handler ([`Executed::Yes`](crate::Executed::Yes)) is forwarded whole: code, message, details
    ///   and metadata, over any number of servers. This includes PERMISSION_DENIED and UNAUTHENTICATED: a handler that calls
    ///   with its own rights maps them, or its caller takes them for an answer about the caller's rights.
    /// - A failure of the call itself becomes UNAVAILABLE, "the call to kv.v1.Kv/rpc_fetch failed". Such failures are: no
    ///   connection, a lost connection, the call's own deadline, and a refusal because of load or because the server is going
    ///   away. If the deadline of the handler's own call has passed, the code is DEADLINE_EXCEEDED; if the handler's caller is
    ///   gone, it is CANCELLED. Both are only known where the handler's own future is polled, not in a task that it spawned.
    /// - It becomes INTERNAL, with the same text, if a retry would end the same way: an unknown procedure, a request or reply
    ///   that cannot be decoded, a right that this server lacks, a refused handshake. The caller is not to blame, so it does
    ///   not receive UNIMPLEMENTED or INVALID_ARGUMENT, which it would take for an answer to its own call.
    ///
    /// The status never has the address of the other server, nor the causes. They are logged here, as one `tracing` event for
    /// each failure, with the procedure, the id and the peer of the handler's own call: a warning at most once a second, and
    /// at debug level otherwise.
    ///
    /// A handler that wants to tell its caller more does it by hand:
    ///
    /// ```
    /// # fn explain(error: rpc_runtime::Error) -> rpc_runtime::Status {
    /// use rpc_runtime::Status;
    ///
    /// let cause = format!("{error:#}"); // the line with its causes and the address
    /// let status = error.into_status();
    /// Status::new(status.code(), format!("{}: {cause}", status.message()))
    /// # }
    /// ```
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

/// Logs the facts that the caller does not receive.
fn log(error: &Error, serving: Option<&Serving>) {
    static SAID: Seldom = Seldom::new(Duration::from_secs(1));
    let (procedure, call, peer) = match serving {
        Some(serving) => (serving.procedure(), serving.id(), serving.peer()),
        None => ("", 0, ""),
    };
    let text = "a call that a handler made failed";
    match SAID.turn(process_time()) {
        Some(unsaid) => warn!(procedure, call, peer, error = %format_args!("{error:#}"), unsaid, "{text}"),
        None => debug!(procedure, call, peer, error = %format_args!("{error:#}"), "{text}"),
    }
}
