//! Control: calls of the built-in terminate.

use std::{
    future::poll_fn,
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::in_flight::InFlightCall;
use crate::{
    Code, Error, Executed, Phase,
    client::{
        errors,
        inherited::{HandlerId, InstanceId, inherited_instance},
        timer::LocalTimer,
    },
    conn::ReceivedReply,
    message::control::{TERMINATE, TerminateRequest},
};

/// The request that terminates the server to which `call` would go now; any server at the address while that is not
/// known. `origin` is the server whose handler asks.
///
/// A server that has taken over the address before the request arrives refuses it.
pub(super) fn terminate_request(call: &InFlightCall<'_>, origin: Bytes) -> TerminateRequest {
    TerminateRequest {
        origin,
        instance_id: call.instance().unwrap_or_default(),
    }
}

/// Calls terminate, and waits as long as the server announced that its drain may take.
pub(super) async fn terminate(mut call: InFlightCall<'_>, origin: Bytes) -> Result<ReceivedReply, Error> {
    errors::check_runtime()?;
    call.connect_within(FIRST_ANSWER);
    let request = terminate_request(&call, origin);
    let mut patience = LocalTimer::new(Instant::now() + FIRST_ANSWER);
    let result = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = call.poll_call(&request, cx) {
                return Poll::Ready(result);
            }
            ready!(patience.poll(cx));
            match drained_by(&call) {
                Some(at) if at > Instant::now() => patience.reset(at),
                Some(_) => {
                    return Poll::Ready(Err(silent("the server's drain took longer than it announced")));
                }
                None => return Poll::Ready(Err(silent("the server did not begin to drain within 30s"))),
            }
        }
    })
    .await;
    result.map_err(|error| {
        if is_hard_stop(&error) {
            hard_stop(&error)
        } else {
            error
        }
    })
}

/// When the report must have arrived, if the server has begun to drain.
fn drained_by(call: &InFlightCall<'_>) -> Option<Instant> {
    let (on, _) = call.on()?;
    let end = on.shared.with(|conn, _| {
        conn.peer_goaway()
            .map(|goaway| goaway.at.saturating_add(goaway.drain).saturating_add(GRACE))
    });
    end.map(|end| on.shared.instant(end))
}

fn silent(text: &str) -> Error {
    Error::local(Code::DeadlineExceeded, text)
        .with_executed(Executed::Maybe)
        .with_phase(Phase::Wait)
        .with_procedure(TERMINATE.path())
}

/// True if the server took the request and closed the connection without its report.
fn is_hard_stop(error: &Error) -> bool {
    error.is_closed() && error.status().is_none() && error.executed() != Executed::No
}

fn hard_stop(error: &Error) -> Error {
    let text = format!(
        "the server went away without its report, so calls may have been cut: {}",
        error.message()
    );
    let told = Error::local(Code::Unavailable, text)
        .with_executed(error.executed())
        .with_phase(Phase::Wait)
        .with_procedure(TERMINATE.path());
    match error.peer() {
        Some(peer) => told.with_peer(peer),
        None => told,
    }
}

/// How long a server may take to begin its drain.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// How long the report may take after the end of the drain.
const GRACE: Duration = Duration::from_secs(5);

/// The server whose handler sends a terminate, if one does: `origin`, or the server of the handler that makes the call.
///
/// The drain waits for that handler. If the handler belongs to the server that drains, it must not wait for the drain.
pub(super) fn origin_of_terminate(origin: Option<InstanceId>, made_in: HandlerId) -> Bytes {
    let instance = origin.or_else(|| inherited_instance(made_in));
    instance.map_or(Bytes::new(), |instance| Bytes::copy_from_slice(&instance))
}
