//! Body: sends the bytes of a body, as fast as the peer takes them.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use h2::SendStream;
use tokio::time::timeout;

/// Where bytes stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Middle,
    /// Behind them the body ends.
    Last,
}

/// Why bytes were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The peer has ended the stream, or its connection is lost.
    Over,
    /// The peer has taken nothing for too long.
    Stalled,
}

/// Sends some bytes, at least one, once the peer has room for them. It may take none for the time `stall`; `None` for any time.
pub(crate) async fn send(
    body: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    part: Part,
    stall: Option<Duration>,
) -> Result<(), Unsent> {
    body.reserve_capacity(bytes.len());
    while !bytes.is_empty() {
        if body.capacity() == 0 {
            let room = poll_fn(|cx| body.poll_capacity(cx));
            let room = match stall {
                None => room.await,
                Some(time) => timeout(time, room).await.map_err(|_| Unsent::Stalled)?,
            };
            room.ok_or(Unsent::Over)?.map_err(|_| Unsent::Over)?;
        }
        let chunk = bytes.split_to(bytes.len().min(body.capacity()));
        if !chunk.is_empty() {
            let is_end = part == Part::Last && bytes.is_empty();
            body.send_data(chunk, is_end).map_err(|_| Unsent::Over)?;
        }
    }
    Ok(())
}
