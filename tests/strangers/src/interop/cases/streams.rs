//! Streams in each direction, with exact sizes.

use interop::{Failed, Outcome, check::same};
use rpc_runtime::Streaming;

use super::unary::{has_zeros, payload};
use crate::interop::{
    Site,
    grpc::testing::{
        ResponseParameters, StreamingInputCallRequest, StreamingOutputCallRequest,
        StreamingOutputCallResponse,
    },
};

/// The sizes of the requests.
pub(super) const REQUESTS: [usize; 4] = [27_182, 8, 1_828, 45_904];
/// The sizes of the replies.
pub(super) const REPLIES: [usize; 4] = [31_415, 9, 2_653, 58_979];

/// The server counts 74,922 bytes in four requests.
pub(super) async fn client_streaming(site: &Site) -> Outcome {
    let client = site.client().await?;
    let (mut sender, reply) = client.send_recv().streaming_input_call().await?;
    for len in REQUESTS {
        let request = StreamingInputCallRequest {
            payload: payload(len),
            ..Default::default()
        };
        sender.send(request).await?;
    }
    sender.finish();
    same(
        "the sum of all lengths",
        reply.await?.aggregated_payload_size,
        74_922,
    )
}

/// One request gets four replies, and then the end.
pub(super) async fn server_streaming(site: &Site) -> Outcome {
    let client = site.client().await?;
    let request = StreamingOutputCallRequest {
        response_parameters: REPLIES.iter().copied().map(wanted).collect(),
        ..Default::default()
    };
    let mut replies = client.send_recv().streaming_output_call(request).await?;
    for len in REPLIES {
        expect_reply(&mut replies, len).await?;
    }
    expect_end(&mut replies).await
}

/// Four requests, each after the reply to the previous one. Then both sides end.
pub(super) async fn ping_pong(site: &Site) -> Outcome {
    let client = site.client().await?;
    let (mut sender, mut replies) = client.send_recv().full_duplex_call().await?;
    for (request_len, reply_len) in REQUESTS.into_iter().zip(REPLIES) {
        sender.send(request(request_len, reply_len)).await?;
        expect_reply(&mut replies, reply_len).await?;
    }
    sender.finish();
    expect_end(&mut replies).await
}

/// Four requests and their end come before four replies and their end.
pub(super) async fn half_duplex(site: &Site) -> Outcome {
    let client = site.client().await?;
    let (mut sender, mut replies) = client.send_recv().half_duplex_call().await?;
    for (request_len, reply_len) in REQUESTS.into_iter().zip(REPLIES) {
        sender.send(request(request_len, reply_len)).await?;
    }
    sender.finish();
    for len in REPLIES {
        expect_reply(&mut replies, len).await?;
    }
    expect_end(&mut replies).await
}

/// An empty stream of requests gets an empty stream of replies.
pub(super) async fn empty_stream(site: &Site) -> Outcome {
    let client = site.client().await?;
    let (sender, mut replies) = client.send_recv().full_duplex_call().await?;
    sender.finish();
    expect_end(&mut replies).await
}

/// Makes a request of one length that asks for a reply of another length.
pub(super) fn request(request_len: usize, reply_len: usize) -> StreamingOutputCallRequest {
    StreamingOutputCallRequest {
        response_parameters: vec![wanted(reply_len)],
        payload: payload(request_len),
        ..Default::default()
    }
}

pub(super) async fn expect_reply(
    replies: &mut Streaming<StreamingOutputCallResponse>,
    len: usize,
) -> Outcome {
    let reply = replies.message().await?;
    let reply =
        reply.ok_or_else(|| Failed::new(format!("the stream ended before the reply of {len} bytes")))?;
    has_zeros("a reply of the stream", reply.payload, len)
}

pub(super) async fn expect_end(replies: &mut Streaming<StreamingOutputCallResponse>) -> Outcome {
    match replies.message().await? {
        None => Ok(()),
        Some(_) => Err(Failed::new("one more reply came where the end should be")),
    }
}

fn wanted(len: usize) -> ResponseParameters {
    ResponseParameters {
        size: len as i32,
        ..Default::default()
    }
}
