//! SlowCalls: one log line for each slow call, on either side.

use std::time::Duration;

use tokio::time::Instant;
use tracing::field;

use super::fields::{TraceId, micros};
use crate::{
    Code, Context, Error, Result,
    api::{time_spent::TimeSpent, trace_context::TraceContext},
    client::{CallProgress, ClientCall},
    layer::{Answer, Middleware, Next},
    session::ServerCall,
};

/// Logs each call that took at least `time`, once, at its end: with where its time went.
///
/// It is for servers and for clients:
///
/// ```
/// use std::time::Duration;
///
/// use rpc_runtime::{Client, Server, middleware};
///
/// let server = Server::builder().layer(middleware::slow_calls(Duration::from_millis(100)));
/// let client = Client::builder("tcp://127.0.0.1:5005").layer(middleware::slow_calls(Duration::from_millis(200)));
/// # let _ = (server, client);
/// ```
///
/// The line is an event of `tracing` at level WARN, with the target `rpc_runtime::slow`, the procedure, the peer, the code, the id of the
/// trace, and `took_us`, all of its time in microseconds. That of a server has the id of the call, `queued_us` and `ran_us`: how long the
/// call waited here, and how long its handler and the middleware within ran. That of a client has as much of this as is known:
///
/// | field | what it is, in microseconds |
/// |---|---|
/// | `queued_here_us` | from the beginning until the call was sent: for a connection, for credit, for its turn |
/// | `queued_there_us` | how long it waited at the server; only if the server has replied |
/// | `ran_us` | how long the handler ran; only if the server has replied |
/// | `wire_us` | the rest: on the wire, and in the queues of the operating systems |
///
/// A call with streams counts until its end. A call that its caller gives up is not logged on a client; a server logs it.
pub fn slow_calls(time: Duration) -> SlowCalls {
    SlowCalls { time }
}

/// Middleware that logs slow calls: see [`slow_calls`].
#[derive(Clone, Copy, Debug)]
#[must_use = "middleware does nothing until a builder gets it by `.layer(..)`"]
pub struct SlowCalls {
    time: Duration,
}

impl Middleware<ServerCall> for SlowCalls {
    async fn handle(&self, call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        let mut line = SlowHere {
            at_least: self.time,
            queued: call.queued(),
            begun: Instant::now(),
            context: call.context().clone(),
            code: None,
        };
        let result = next.run(call).await;
        line.code = Some(match &result {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        });
        result
    }
}

/// A call that runs on a server. It is logged when this is dropped, if it was slow.
struct SlowHere {
    at_least: Duration,
    queued: Duration,
    begun: Instant,
    context: Context,
    /// None if the call is dropped before its end.
    code: Option<Code>,
}

impl Drop for SlowHere {
    fn drop(&mut self) {
        let ran = self.begun.elapsed();
        let took = self.queued + ran;
        if took < self.at_least {
            return;
        }
        let context = &self.context;
        tracing::warn!(
            target: SLOW,
            procedure = context.procedure(),
            peer = context.peer().address(),
            code = self.code.map_or("dropped", Code::name),
            took_us = micros(took),
            queued_us = micros(self.queued),
            ran_us = micros(ran),
            call = context.call_id(),
            trace = TraceId::of(context.trace()).map(field::display),
            "slow call"
        );
    }
}

impl Middleware<ClientCall> for SlowCalls {
    async fn handle(&self, call: ClientCall, next: Next<ClientCall>) -> Result<Answer, Error> {
        let (progress, procedure) = (call.progress(), call.procedure());
        let (peer, trace) = (call.peer(), call.trace().cloned());
        let result = next.run(call).await;
        let spent = time_spent(&progress, &result);
        if spent.queued_here() + spent.since_sent().unwrap_or_default() >= self.time {
            let code = match &result {
                Ok(_) => Code::Ok,
                Err(error) => error.code(),
            };
            log(procedure, &peer, code, &spent, progress.call_id(), trace.as_ref());
        }
        result
    }
}

/// Where the time of a call went that has ended.
fn time_spent(progress: &CallProgress, result: &Result<Answer, Error>) -> TimeSpent {
    let spent = progress.time_spent();
    match result {
        Ok(answer) if !(answer.queued() + answer.ran()).is_zero() => {
            spent.with_server_time(answer.queued(), answer.ran())
        }
        Ok(_) => spent,
        Err(error) => match error
            .time_spent()
            .and_then(|told| told.queued_there().zip(told.ran()))
        {
            Some((queued, ran)) => spent.with_server_time(queued, ran),
            None => spent,
        },
    }
}

#[cold]
fn log(
    procedure: &str,
    peer: &str,
    code: Code,
    spent: &TimeSpent,
    call: Option<u64>,
    trace: Option<&TraceContext>,
) {
    let (queued_here, since_sent) = (spent.queued_here(), spent.since_sent());
    tracing::warn!(
        target: SLOW,
        procedure,
        peer,
        code = code.name(),
        took_us = micros(queued_here + since_sent.unwrap_or_default()),
        queued_here_us = micros(queued_here),
        queued_there_us = spent.queued_there().map(micros),
        ran_us = spent.ran().map(micros),
        wire_us = spent.on_the_wire().map(micros),
        call,
        trace = TraceId::of(trace).map(field::display),
        "slow call"
    );
}

/// The target of the lines.
const SLOW: &str = "rpc_runtime::slow";
