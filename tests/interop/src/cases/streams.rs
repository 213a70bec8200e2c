//! Streams in each direction, with exact sizes.

use rpc_runtime::Streaming;

use crate::{
    Failed, Outcome, Site, body,
    check::{is_body_of, same},
    interop::v1::{InputRequest, OutputReply, OutputRequest, Wish},
};

/// The sizes of the requests.
pub(super) const REQUESTS: [usize; 4] = [27_182, 8, 1_828, 45_904];
/// The sizes of the replies.
pub(super) const REPLIES: [usize; 4] = [31_415, 9, 2_653, 58_979];

/// The server counts 74,922 bytes in four requests of 27,182, 8, 1,828 and 45,904 bytes.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn client_streaming(site: &Site) -> Outcome {
    let client = site.client().await?;
    let (mut sender, reply) = client.send_recv().streaming_input_call().await?;
    for len in REQUESTS {
        sender.send(InputRequest { body: body(len) }).await?;
    }
    sender.finish();
    same("the sum of all lengths", reply.await?.total_len, 74_922)
}

/// One request gets replies of 31,415, 9, 2,653 and 58,979 bytes, and then the end.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn server_streaming(site: &Site) -> Outcome {
    let client = site.client().await?;
    let request = OutputRequest {
        wishes: REPLIES.iter().copied().map(wish).collect(),
        ..OutputRequest::default()
    };
    let mut replies = client.send_recv().streaming_output_call(request).await?;
    for len in REPLIES {
        expect_reply(&mut replies, len).await?;
    }
    expect_end(&mut replies).await
}

/// Four requests, each after the reply to the previous one. Then both sides end.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn ping_pong(site: &Site) -> Outcome {
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
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn half_duplex(site: &Site) -> Outcome {
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
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn empty_stream(site: &Site) -> Outcome {
    let client = site.client().await?;
    let (sender, mut replies) = client.send_recv().full_duplex_call().await?;
    sender.finish();
    expect_end(&mut replies).await
}

/// Makes a request of one length that asks for a reply of another length.
pub(super) fn request(request_len: usize, reply_len: usize) -> OutputRequest {
    OutputRequest {
        body: body(request_len),
        wishes: vec![wish(reply_len)],
        status: None,
    }
}

pub(super) async fn expect_reply(replies: &mut Streaming<OutputReply>, len: usize) -> Outcome {
    let reply = replies.message().await?;
    let reply =
        reply.ok_or_else(|| Failed::new(format!("the stream ended before the reply of {len} bytes")))?;
    is_body_of("a reply of the stream", &reply.body, len)
}

pub(super) async fn expect_end(replies: &mut Streaming<OutputReply>) -> Outcome {
    match replies.message().await? {
        None => Ok(()),
        Some(reply) => Err(Failed::new(format!(
            "one more reply, of {} bytes, came where the end should be",
            reply.body.len()
        ))),
    }
}

fn wish(len: usize) -> Wish {
    Wish {
        // All lengths are far below 4 GiB.
        len: len as u32,
        interval_us: 0,
    }
}
