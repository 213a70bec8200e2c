//! gRPC: from an HTTP/2 request to a call of the server, and back.

mod answer;
mod call;
pub(crate) mod call_number;
mod deadline;
pub(crate) mod encoding;
pub(crate) mod headers;
mod initial_metadata;
mod messages;
pub(crate) mod names;
pub(crate) mod prefixed;
pub(crate) mod status;
pub(crate) mod timeout;
pub(crate) mod trace;

use h2::{RecvStream, server::SendResponse};
use http::{Method, Request, StatusCode, header::CONTENT_TYPE};
use rpc_runtime::{Status, server::Procedure};
use tokio::time::Instant;

pub use self::initial_metadata::add_initial_metadata;
use self::{
    answer::Answer,
    call::{Asked, Ended},
    encoding::CallCompression,
    initial_metadata::InitialMetadata,
    messages::Messages,
};
use crate::{
    connection::{Shared, header_list},
    held_bytes::HeldBytes,
    reset_budget::CallEnd,
};

/// Checks that a request is a gRPC call.
///
/// # Errors
///
/// The status of HTTP for a request that is none, as the specification of gRPC over HTTP/2 has it.
pub(crate) fn is_call<B>(request: &Request<B>) -> Result<(), StatusCode> {
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    match () {
        () if !is_grpc(content_type) => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        () if request.method() != Method::POST => Err(StatusCode::METHOD_NOT_ALLOWED),
        () => Ok(()),
    }
}

/// True for the content type of gRPC with messages of protobuf.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => {
            let rest = rest.strip_prefix(b"+proto").unwrap_or(rest);
            rest.is_empty() || rest.starts_with(b";")
        }
        None => false,
    }
}

/// Makes the call, and answers with what becomes of it.
pub(crate) async fn answer(
    shared: &Shared,
    request: Request<RecvStream>,
    respond: SendResponse<HeldBytes>,
    compression: CallCompression,
) -> CallEnd {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let mut answer = Answer::new(shared, respond, compression);
    // Of earlier attempts, which a proxy may have made, nothing is known here.
    let is_first = !parts.headers.contains_key(&names::EARLIER_ATTEMPTS);
    let refuse = |answer: Answer<'_>, status| {
        match is_first {
            true => answer.end_unexecuted(&status),
            false => answer.end(Err(&status)),
        }
        CallEnd::Other
    };
    let mut asked = match ask(shared, &parts) {
        Ok(asked) => asked,
        Err(status) => return refuse(answer, status),
    };
    let encoding = match compression.request(&parts.headers) {
        Ok(encoding) => encoding,
        Err(status) => return refuse(answer, status),
    };
    if shared.has_initial_metadata() {
        let (initial, (key, number)) = InitialMetadata::new(&shared.server);
        answer.set_initial_metadata(initial);
        asked.metadata.insert(key, number);
    }
    let messages = match Messages::new(shared, body, encoding, header_list(&parts.headers)) {
        Ok(messages) => messages,
        Err(status) => return refuse(answer, status),
    };
    drop(parts);
    let deadline = asked.deadline;
    let ended = asked.run(shared, messages, &mut answer).await;
    match ended {
        Ended::With(Ok(metadata)) => {
            shared.server.note_good_request();
            answer.end(Ok(&metadata));
            CallEnd::Answered
        }
        Ended::With(Err(status)) => {
            answer.end(Err(&status));
            CallEnd::Other
        }
        Ended::Unexecuted(status) => refuse(answer, status),
        Ended::Refused(status) => {
            answer.refuse(&status);
            CallEnd::Other
        }
        // There is nobody to tell. Dropping the call has cancelled it.
        Ended::Gone if !answer.has_begun() && is_early(begun, deadline) => CallEnd::GivenUp,
        Ended::Gone => CallEnd::Other,
    }
}

/// True if less than half of the time of a call is over: its caller did not wait for it.
fn is_early(begun: Instant, deadline: Option<Instant>) -> bool {
    deadline.is_none_or(|at| begun.elapsed() < at.saturating_duration_since(begun) / 2)
}

fn ask(shared: &Shared, parts: &http::request::Parts) -> Result<Asked, Status> {
    let path = parts.uri.path().strip_prefix('/').unwrap_or_default();
    let procedure: &'static Procedure = shared.server.procedure(path).ok_or_else(|| {
        let metadata = headers::to_metadata(&parts.headers).ok();
        let trace = metadata.and_then(|mut metadata| trace::take(&mut metadata));
        shared.server.refuse_unknown(path, trace)
    })?;
    let mut metadata = headers::to_metadata(&parts.headers)?;
    Ok(Asked {
        procedure,
        // A time that no clock can represent is never.
        deadline: timeout::read(&parts.headers)?.and_then(|time| Instant::now().checked_add(time)),
        trace: trace::take(&mut metadata),
        metadata,
    })
}
