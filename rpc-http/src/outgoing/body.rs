//! Body: sends the bytes of a body, as fast as the server takes them.

use std::future::poll_fn;

use bytes::Buf;
use h2::SendStream;

use super::message_bytes::MessageBytes;

/// Where bytes stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Middle,
    /// Behind them the body ends.
    Last,
}

/// The server has ended the stream, or its connection is lost.
pub(super) struct Over;

/// Sends some bytes, at least one, once the server has room for them.
pub(super) async fn send(
    body: &mut SendStream<MessageBytes>,
    mut bytes: MessageBytes,
    part: Part,
) -> Result<(), Over> {
    body.reserve_capacity(bytes.remaining());
    while bytes.has_remaining() {
        if body.capacity() == 0 {
            let room = poll_fn(|cx| body.poll_capacity(cx)).await;
            room.ok_or(Over)?.map_err(|_| Over)?;
        }
        let chunk = bytes.split_to(bytes.remaining().min(body.capacity()));
        if chunk.has_remaining() {
            let is_end = part == Part::Last && !bytes.has_remaining();
            body.send_data(chunk, is_end).map_err(|_| Over)?;
        }
    }
    Ok(())
}
