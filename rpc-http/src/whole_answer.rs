//! WholeAnswer: writes an answer of HTTP/2 whose body is whole.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{SendStream, server::SendResponse};
use http::Response;
use rpc_runtime::server::HeldMemory;
use tokio::time::timeout_at;

use crate::{connection::Shared, held_bytes::HeldBytes, pace::Pace};

/// Answers a request. A connection that holds too much memory gets the status alone.
///
/// A peer must take 64 KiB of the body in the time of `Limits::write_stall`; otherwise the stream is reset.
pub(crate) async fn send_whole(
    shared: &Shared,
    mut respond: SendResponse<HeldBytes>,
    answer: Response<Bytes>,
) {
    let (head, body) = answer.into_parts();
    let mut head = Response::from_parts(head, ());
    let held = match body.is_empty() {
        true => None,
        false => shared.server.hold(body.len() as u64).ok(),
    };
    let Some(held) = held else {
        if !body.is_empty() {
            head.headers_mut().remove(http::header::CONTENT_LENGTH);
        }
        // The peer may be gone.
        let _ = respond.send_response(head, true);
        return;
    };
    if let Ok(stream) = respond.send_response(head, false) {
        send_body(shared, stream, body, held).await;
    }
}

/// Dropping the stream before the end of the body resets it.
async fn send_body(
    shared: &Shared,
    mut stream: SendStream<HeldBytes>,
    mut body: Bytes,
    mut held: HeldMemory,
) {
    let mut pace = Pace::new(shared.server.write_stall());
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        if stream.capacity() == 0 {
            let capacity = poll_fn(|cx| stream.poll_capacity(cx));
            let Ok(Some(Ok(_))) = timeout_at(pace.due(), capacity).await else {
                return;
            };
            continue;
        }
        let len = stream.capacity().min(body.len());
        pace.moved(len);
        let part = HeldBytes::new(body.split_to(len), held.split(len as u64), &shared.unwritten);
        if stream.send_data(part, body.is_empty()).is_err() {
            return;
        }
    }
}
