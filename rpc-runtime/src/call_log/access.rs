//! AccessLog: one log line for each call of a server.

use std::{fmt, time::Duration};

use tokio::time::Instant;
use tracing::{Level, field};

use super::fields::{TraceId, micros};
use crate::{
    Code, Executed, Result,
    auth::Caller,
    layer::{Answer, Middleware, Next},
    session::{CallWatch, ServerCall},
};

/// Logs one line for each call of a server, at its end.
///
/// ```
/// use rpc_runtime::{Server, middleware};
///
/// let server = Server::builder().layer(middleware::access_log());
/// # let _ = server;
/// ```
///
/// Add it before other middleware, so that it also sees the calls that those refuse. The line is an event of `tracing` with the target
/// `rpc_runtime::access`, at level INFO, and has these fields:
///
/// | field | what it is |
/// |---|---|
/// | `procedure` | the path of the procedure: `package.Service/Name` |
/// | `peer` | the address of the peer |
/// | `caller` | who calls, if middleware has found it out, by the name of the [`Caller`] |
/// | `code` | how the call ended: `OK`, `NOT_FOUND` .. |
/// | `executed` | whether the handler ran: `yes`, `no`, or `maybe` if it was dropped before its end |
/// | `one_way` | true if the call has no reply |
/// | `queued_us` | how long the call waited here before its first middleware, in microseconds |
/// | `took_us` | the time from then to its end, in microseconds |
/// | `request_bytes`, `reply_bytes` | the length of the two messages; not of streams, nor of a failure |
/// | `call` | the id of the call on its connection, which is the same on both sides |
/// | `trace` | the id of the trace that the call belongs to, if it does |
///
/// It logs no metadata and no message. A call that is dropped because its reply is no longer wanted has the code CANCELLED or
/// DEADLINE_EXCEEDED. Calls of the control service have no line.
pub fn access_log() -> AccessLog {
    AccessLog(())
}

/// Middleware that logs each call: see [`access_log`].
#[derive(Clone, Copy)]
#[must_use = "middleware does nothing until a builder gets it by `.layer(..)`"]
pub struct AccessLog(());

impl Middleware<ServerCall> for AccessLog {
    async fn handle(&self, mut call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        if !tracing::enabled!(target: ACCESS, Level::INFO) {
            return next.run(call).await;
        }
        let mut line = AccessLine::begin(&mut call);
        let result = next.run(call).await;
        line.end(&result);
        result
    }
}

/// The line of a call that runs. If it is dropped before the call has ended, the call is no longer wanted.
struct AccessLine {
    call: CallWatch,
    begun: Instant,
    queued: Duration,
    request_len: Option<u64>,
    has_reply: bool,
    is_logged: bool,
}

impl AccessLine {
    fn begin(call: &mut ServerCall) -> Self {
        Self {
            queued: call.queued(),
            request_len: (!call.has_request_stream()).then(|| call.request_len()),
            has_reply: !call.is_one_way() && !call.has_reply_stream(),
            begun: Instant::now(),
            call: call.watch(),
            is_logged: false,
        }
    }

    fn end(&mut self, result: &Result<Answer>) {
        match result {
            Ok(answer) => {
                let reply_len = self.has_reply.then(|| answer.message_len());
                self.log(Code::Ok, Executed::Yes, reply_len);
            }
            Err(status) => {
                let executed = match self.call.has_started() {
                    true => Executed::Yes,
                    false => Executed::No,
                };
                self.log(status.code(), executed, None);
            }
        }
    }

    fn log(&mut self, code: Code, executed: Executed, reply_len: Option<usize>) {
        self.is_logged = true;
        let context = self.call.context();
        let caller = self.call.get::<Caller>();
        tracing::info!(
            target: ACCESS,
            procedure = context.procedure(),
            peer = context.peer().address(),
            caller = caller.as_ref().map(Caller::name),
            code = code.name(),
            executed = match executed {
                Executed::No => "no",
                Executed::Maybe => "maybe",
                Executed::Yes => "yes",
            },
            one_way = context.is_one_way(),
            queued_us = micros(self.queued),
            took_us = micros(self.begun.elapsed()),
            request_bytes = self.request_len,
            reply_bytes = reply_len,
            call = context.call_id(),
            trace = TraceId::of(context.trace()).map(field::display),
            "call"
        );
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        if self.is_logged {
            return;
        }
        let is_late = self.call.context().remaining().is_some_and(|left| left.is_zero());
        let code = match is_late {
            true => Code::DeadlineExceeded,
            false => Code::Cancelled,
        };
        let executed = match self.call.has_started() {
            true => Executed::Maybe,
            false => Executed::No,
        };
        self.log(code, executed, None);
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessLog")
    }
}

/// The target of the lines.
const ACCESS: &str = "rpc_runtime::access";
