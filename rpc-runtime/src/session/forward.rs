//! Forward: what a handler tells its caller when a call of its own fails.

use std::time::Duration;

use tracing::{debug, warn};

use super::context::Serving;
use crate::{
    Code, Error, Status,
    base::seldom::{Seldom, process_time},
};

/// A handler that fails by `?` because a call of its own failed. What the other handler answered is forwarded whole, and a
/// failure of the call itself is told without its cause: see [`Error::into_status`].
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.into_status()
    }
}

impl Error {
    /// What a handler tells its own caller when it fails because this call of its own failed; `?` does the same.
    ///
    /// - What the other handler answered ([`Executed::Yes`]) is forwarded whole: code, message, details and metadata, over any
    ///   number of servers. So are PERMISSION_DENIED and UNAUTHENTICATED: a handler that calls with rights of its own, and
    ///   does not want its caller to take them for theirs, maps them.
    /// - A failure of the call itself is UNAVAILABLE, "the call to kv.v1.Kv/rpc_fetch failed": no connection, or a lost one,
    ///   its own deadline, a refusal for load or because the server is going away. It is DEADLINE_EXCEEDED if the deadline of
    ///   the handler's own call has passed, and CANCELLED if that call's caller is gone: as far as the future of the handler
    ///   is polled here, for neither is known in a task that it spawned.
    /// - It is INTERNAL, with the same text, if the call was wrong, so that trying again would end the same way: no such
    ///   procedure there, a request or a reply that cannot be read, a right that this server lacks, a handshake that is
    ///   refused. The caller did nothing of this, so it is not told UNIMPLEMENTED or INVALID_ARGUMENT, which it would take
    ///   for an answer to its own call.
    ///
    /// The error itself, with the address and the cause, is logged here, as one event of `tracing` for each failure, with the
    /// procedure, the id and the peer of the handler's own call: a warning at most once a second, else at the level of debug.
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

/// Says what no caller is told.
fn log(error: &Error, serving: Option<&Serving>) {
    static SAID: Seldom = Seldom::new(Duration::from_secs(1));
    let (procedure, call, peer) = match serving {
        Some(serving) => (serving.procedure(), serving.id(), serving.peer()),
        None => ("", 0, ""),
    };
    let text = "a call that a handler made failed";
    match SAID.turn(process_time()) {
        Some(unsaid) => warn!(procedure, call, peer, error = %error, unsaid, "{text}"),
        None => debug!(procedure, call, peer, error = %error, "{text}"),
    }
}
