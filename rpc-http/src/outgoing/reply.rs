//! The answer to a call: headers, messages, and trailers with the end.

use h2::client::ResponseFuture;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, DATE},
};
use rpc_runtime::{
    Code, Executed, Metadata, Result, Status,
    protocol::{OutgoingFailure, OutgoingReplies},
};

use super::{
    connection::Shared,
    failure::CallDeadline,
    foreign,
    messages::{Broken, Messages},
    reply_headers::HeadersSink,
};
use crate::grpc::{encoding::Encoding, headers::to_metadata, is_grpc, names, status::read_end};

/// Waits for the answer to a call, and hands its replies on. Returns the metadata of its trailers, and of its headers unless `sink` takes that.
///
/// # Errors
///
/// How the call failed, and whether its handler ran.
pub(super) async fn receive(
    shared: &Shared,
    response: ResponseFuture,
    mut replies: OutgoingReplies,
    sink: HeadersSink,
    deadline: &CallDeadline,
) -> Result<Metadata, OutgoingFailure> {
    let (mut head, body) = response
        .await
        .map_err(|error| shared.failure(&error, deadline))?
        .into_parts();
    let (encoding, headers) = match read_head(head.status, &mut head.headers, body.is_end_stream())? {
        Head::End(metadata) => return Ok(metadata),
        Head::Foreign => return Err(foreign::failure(head.status, content_type(&head.headers), body).await),
        Head::Messages { encoding, metadata } => (encoding, metadata),
    };
    let headers = sink.put(headers).unwrap_or_default();
    let mut messages = Messages::new(body, encoding, shared.max_message);
    let broken = |broken| match broken {
        // The answer has begun, so the handler may have run, whatever the server says now.
        Broken::Peer(error) => {
            OutgoingFailure::new(shared.failure(&error, deadline).status().clone(), Executed::Maybe)
        }
        Broken::Body(status) => malformed(status),
    };
    let mut replied = Replied::No;
    while let Some(message) = messages.next().await.map_err(broken)? {
        replied = Replied::Yes;
        replies.send(message).await.map_err(malformed)?;
        messages.read_arrived(|arrived| replies.add_all(arrived));
    }
    let trailers = messages.trailers().await.map_err(broken)?;
    let trailers = trailers.ok_or_else(|| malformed(Status::internal(NO_TRAILERS)))?;
    end(&trailers, headers, replied)
}

/// What the headers of an answer say.
#[derive(Debug)]
pub(super) enum Head {
    /// The call has ended well, with this metadata.
    End(Metadata),
    /// The answer is not gRPC.
    Foreign,
    /// Messages follow, and then trailers.
    Messages { encoding: Encoding, metadata: Metadata },
}

/// Reads the headers of an answer. `is_end` says that nothing follows.
///
/// # Errors
///
/// How the call failed, if the headers are its end or make no sense.
pub(super) fn read_head(
    status: StatusCode,
    headers: &mut HeaderMap,
    is_end: bool,
) -> Result<Head, OutgoingFailure> {
    // It is HTTP's, and many servers add it. As metadata it would cost more than the rest of the headers.
    headers.remove(DATE);
    let is_grpc = status == StatusCode::OK && is_grpc(content_type(headers));
    // An answer without a body has its end in its headers.
    if headers.contains_key(&names::STATUS) && (is_end || !is_grpc) {
        return end(headers, Metadata::new(), Replied::No).map(Head::End);
    }
    if !is_grpc {
        return Ok(Head::Foreign);
    }
    Ok(Head::Messages {
        encoding: Encoding::of_reply(headers).map_err(malformed)?,
        metadata: read_metadata(headers)?,
    })
}

pub(super) fn content_type(headers: &HeaderMap) -> &[u8] {
    headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes())
}

/// The end of a call, as its trailers say it; without a body they are its headers. Adds their metadata to `metadata`.
pub(super) fn end(
    trailers: &HeaderMap,
    mut metadata: Metadata,
    replied: Replied,
) -> Result<Metadata, OutgoingFailure> {
    metadata.extend(read_metadata(trailers)?);
    match read_end(trailers) {
        Ok(()) => Ok(metadata),
        Err(status) => {
            let executed = match replied {
                Replied::No if says_unexecuted(trailers) => Executed::No,
                _ => executed(status.code()),
            };
            Err(OutgoingFailure::new(status.with_metadata(metadata), executed))
        }
    }
}

/// Whether any message of an answer came. A handler makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replied {
    Yes,
    No,
}

/// True if a server of this library says that the handler surely did not run. A foreign server may say so, too: it is believed as is its
/// REFUSED_STREAM, which says the same.
fn says_unexecuted(trailers: &HeaderMap) -> bool {
    trailers.get(&names::EXECUTED).is_some_and(|value| value == "no")
}

fn read_metadata(headers: &HeaderMap) -> Result<Metadata, OutgoingFailure> {
    to_metadata(headers).map_err(malformed)
}

/// Says whether the handler ran, by the code of its end.
///
/// gRPC libraries never make these codes, so a handler did. A library or a proxy may make the others, before or after the handler.
fn executed(code: Code) -> Executed {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::DataLoss => Executed::Yes,
        _ => Executed::Maybe,
    }
}

/// The answer makes no sense, or cannot be taken.
fn malformed(status: Status) -> OutgoingFailure {
    OutgoingFailure::new(status, Executed::Maybe)
}

const NO_TRAILERS: &str = "the server ended the call without trailers, so its replies may be cut short";
