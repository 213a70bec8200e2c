//! One call at a gRPC server.

use std::{pin::pin, sync::Arc};

use h2::{SendStream, client::SendRequest};
use rpc_runtime::{
    Executed, Metadata, Result,
    protocol::{OutgoingCall, OutgoingFailure, OutgoingRequests},
};

use super::{
    body::{self, Part},
    connection::Shared,
    failure::CallDeadline,
    message_bytes::MessageBytes,
    reply::receive,
    reply_headers::HeadersSink,
    request::head,
};

/// Makes a call. Returns the metadata beside its reply.
///
/// # Errors
///
/// How the call failed, and whether its handler ran.
///
/// # Cancel safety
///
/// Dropping the future resets the stream: the server is told.
pub(super) async fn make(
    mut requests: SendRequest<MessageBytes>,
    shared: Arc<Shared>,
    call: OutgoingCall,
) -> Result<Metadata, OutgoingFailure> {
    let _open = shared.enter();
    let metadata = call.metadata();
    let head =
        head(&shared, &call, &metadata).map_err(|status| OutgoingFailure::new(status, Executed::No))?;
    let has_stream = call.procedure().has_request_stream();
    let deadline = CallDeadline::after(call.remaining());
    let headers = HeadersSink::of(&metadata);
    let (messages, replies) = call.into_streams();
    let (response, body) = requests
        .send_request(head, false)
        .map_err(|error| shared.unsent(&error))?;
    drop(requests);
    let mut sent = pin!(send(&shared, messages, body, has_stream));
    let mut received = pin!(receive(&shared, response, replies, headers, &deadline));
    tokio::select! {
        biased;
        received = &mut received => received,
        sent = &mut sent => {
            let () = sent?;
            received.await
        }
    }
}

/// Sends the requests. It also ends well if the server takes no more of them: then the answer says why.
async fn send(
    shared: &Shared,
    mut messages: OutgoingRequests,
    mut body: SendStream<MessageBytes>,
    has_stream: bool,
) -> Result<(), OutgoingFailure> {
    let part = match has_stream {
        true => Part::Middle,
        false => Part::Last,
    };
    while let Some(message) = messages.message().await.map_err(broken)? {
        let bytes = MessageBytes::new(message.0, shared.encoding);
        if body::send(&mut body, bytes, part).await.is_err() || part == Part::Last {
            return Ok(());
        }
    }
    // The server may have ended the stream.
    let _ = body.send_data(MessageBytes::default(), true);
    Ok(())
}

/// The caller's stream broke. What the server has of it is not all.
fn broken(status: rpc_runtime::Status) -> OutgoingFailure {
    OutgoingFailure::new(status, Executed::Maybe)
}
