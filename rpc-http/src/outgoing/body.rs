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
///
/// h2 gets the last bytes at once, unless they are many, and waits for room itself. A stream has no room before its headers are written. So a
/// request of one message goes out in one write with its headers, and not in two.
pub(super) async fn send(
    body: &mut SendStream<MessageBytes>,
    mut bytes: MessageBytes,
    part: Part,
) -> Result<(), Over> {
    if part == Part::Last && bytes.remaining() <= AT_ONCE {
        return body.send_data(bytes, true).map_err(|_| Over);
    }
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

/// How many bytes h2 gets before it has room for them.
const AT_ONCE: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use bytes::Bytes;
    use h2::client;
    use http::Request;
    use tokio::io::duplex;

    use super::*;
    use crate::grpc::encoding::Encoding;

    #[tokio::test]
    async fn only_the_last_bytes_go_with_the_headers() {
        let (stream, _server) = duplex(1 << 10);
        let (mut requests, _connection) = client::Builder::new().handshake(stream).await.unwrap();
        let long = vec![7; AT_ONCE].into();
        let short = Bytes::from_static(b"abc");
        for (message, part, goes) in [
            (short.clone(), Part::Last, true),
            (short, Part::Middle, false),
            (long, Part::Last, false),
        ] {
            let head = Request::post("http://kv/a").body(()).unwrap();
            let (_response, mut body) = requests.send_request(head, false).unwrap();
            let bytes = MessageBytes::new(message, Encoding::Identity);
            let mut sending = pin!(send(&mut body, bytes, part));
            // The connection is not driven, so the headers are not written, and there is no room.
            let polled = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(polled.is_ready(), goes, "{part:?}");
        }
    }
}
