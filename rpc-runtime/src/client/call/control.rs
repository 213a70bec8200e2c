//! Calls of the built-in control service: ping and terminate.

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
    conn::Reply,
    message::control::{TERMINATE, TerminateRequest},
};

/// The request that terminates the server that `exchange` would reach now, or, while that is not known, whatever runs
/// there. `origin` is the server whose handler asks.
///
/// A server that has taken the address over by the time the request arrives refuses: it is not the one that was meant.
pub(super) fn terminate_request(exchange: &InFlightCall<'_>, origin: Bytes) -> TerminateRequest {
    TerminateRequest {
        origin,
        instance_id: exchange.instance().unwrap_or_default(),
    }
}

/// Calls terminate, and waits as long as the server said that its drain may take.
pub(super) async fn terminate(mut exchange: InFlightCall<'_>, origin: Bytes) -> Result<Reply, Error> {
    errors::check_runtime()?;
    exchange.connect_within(FIRST_ANSWER);
    let request = terminate_request(&exchange, origin);
    let mut patience = LocalTimer::new(Instant::now() + FIRST_ANSWER);
    let result = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = exchange.poll_call(&request, cx) {
                return Poll::Ready(result);
            }
            ready!(patience.poll(cx));
            match drained_by(&exchange) {
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

/// When the report must be here, if the server has begun to drain.
fn drained_by(exchange: &InFlightCall<'_>) -> Option<Instant> {
    let (on, _) = exchange.on()?;
    let end = on.link.with(|conn, _| {
        conn.peer_goaway()
            .map(|goaway| goaway.at.saturating_add(goaway.drain).saturating_add(GRACE))
    });
    end.map(|end| on.link.instant(end))
}

fn silent(text: &str) -> Error {
    Error::local(Code::DeadlineExceeded, text)
        .with_executed(Executed::Maybe)
        .with_phase(Phase::Wait)
        .with_procedure(TERMINATE.path())
}

/// Whether the server took the request and went away without its report.
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

/// How long a server may take before it begins to drain.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
/// How long after the end of a drain its report may take.
const GRACE: Duration = Duration::from_secs(5);

/// The server whose handler sends a terminate, if one does: `origin`, or the one around us, if that has made the call.
///
/// The drain waits for that handler: if it is that server's own, it must not wait for the drain.
pub(super) fn origin_of_terminate(origin: Option<InstanceId>, made_in: HandlerId) -> Bytes {
    let instance = origin.or_else(|| inherited_instance(made_in));
    instance.map_or(Bytes::new(), |instance| Bytes::copy_from_slice(&instance))
}
