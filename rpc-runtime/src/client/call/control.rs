//! Control: calls of the built-in terminate.

use std::{
    future::poll_fn,
    io,
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::in_flight::InFlightCall;
use crate::{
    Code, Error, Executed, Phase,
    client::{
        channel::connection::ClientConnection,
        errors,
        inherited::{HandlerId, InstanceId, inherited_instance},
        timer::LocalTimer,
        user_proof::user_proof,
    },
    conn::ReceivedReply,
    message::control::{TERMINATE, TerminateRequest},
};

/// Calls terminate, and waits as long as the server announced that its drain may take.
pub(super) async fn terminate(mut call: InFlightCall<'_>, origin: Bytes) -> Result<ReceivedReply, Error> {
    errors::check_runtime()?;
    call.connect_within(FIRST_ANSWER);
    let wanted = call.instance();
    loop {
        let on = call.wait_for_hello().await?;
        let (request, key) = terminate_request(&on, wanted.clone(), origin.clone());
        let result = ask(&mut call, &request).await;
        if !call.is_unbound() {
            return result.map_err(|error| explain(error, key));
        }
    }
}

/// Sends terminate, one-way.
pub(super) async fn send_terminate(mut call: InFlightCall<'_>) -> Result<(), Error> {
    let wanted = call.instance();
    loop {
        let on = call.wait_for_hello().await?;
        let (request, _) = terminate_request(&on, wanted.clone(), Bytes::new());
        let result = call.send(&request).await;
        if !call.is_unbound() {
            return result;
        }
    }
}

/// Makes the request that terminates the server at the other end of `on`, or the one that is `wanted` and no other. `origin` is
/// the server whose handler asks. Beside it comes why it does not prove our user, if it should.
///
/// A server that has taken over the address before the request arrives refuses it.
fn terminate_request(
    on: &ClientConnection,
    wanted: Option<Bytes>,
    origin: Bytes,
) -> (TerminateRequest, io::Result<()>) {
    let (proof, key) = match user_proof(on) {
        Ok(proof) => (proof, Ok(())),
        Err(error) => (Bytes::new(), Err(error)),
    };
    let request = TerminateRequest {
        instance_id: wanted.unwrap_or_else(|| on.instance().unwrap_or_default()),
        origin,
        proof,
    };
    (request, key)
}

/// Sends the request, and waits for the report.
async fn ask(call: &mut InFlightCall<'_>, request: &TerminateRequest) -> Result<ReceivedReply, Error> {
    let mut patience = LocalTimer::new(Instant::now() + FIRST_ANSWER);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = call.poll_call(request, cx) {
                return Poll::Ready(result);
            }
            ready!(patience.poll(cx));
            match drained_by(call) {
                Some(at) if at > Instant::now() => patience.reset(at),
                Some(_) => {
                    return Poll::Ready(Err(silent(
                        "the server's drain took longer than it announced: its ServerBuilder::drain_timeout",
                    )));
                }
                None => return Poll::Ready(Err(silent("the server did not begin to drain within 30s"))),
            }
        }
    })
    .await
}

/// Adds to an error what the server does not know; `key` is why the request did not prove our user.
fn explain(error: Error, key: io::Result<()>) -> Error {
    if is_hard_stop(&error) {
        return hard_stop(&error);
    }
    match key {
        Err(missing) if error.code() == Code::PermissionDenied => {
            error.with_hint(&format!("this client has no key of the server: {missing}"))
        }
        _ => error,
    }
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
