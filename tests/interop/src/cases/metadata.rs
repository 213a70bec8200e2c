//! Metadata of requests and replies.

use rpc_runtime::{Bytes, Metadata};

use super::streams::{expect_end, expect_reply, request};
use crate::{
    Failed, Outcome, Site, body,
    check::{is_body_of, same},
    interop::v1::UnaryRequest,
    service::{ECHO_INITIAL, ECHO_TRAILING},
};

/// A text entry and a binary entry come back with the end of a unary call and of a stream.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn custom_metadata(site: &Site) -> Outcome {
    let client = site.client().await?;
    let call = client
        .send_recv()
        .metadata(ECHO_INITIAL, TEXT)
        .metadata(ECHO_TRAILING, BINARY);
    let wanted = UnaryRequest {
        body: body(REQUEST),
        reply_len: REPLY as u32,
        status: None,
    };
    let (reply, receipt) = call.unary_call(wanted).with_receipt().await?;
    is_body_of("the reply", &reply.body, REPLY)?;
    check(receipt.metadata())?;

    let call = client
        .send_recv()
        .metadata(ECHO_INITIAL, TEXT)
        .metadata(ECHO_TRAILING, BINARY);
    let (mut sender, mut replies) = call.full_duplex_call().await?;
    sender.send(request(REQUEST, REPLY)).await?;
    expect_reply(&mut replies, REPLY).await?;
    same("metadata before the end", replies.metadata().is_some(), false)?;
    sender.finish();
    expect_end(&mut replies).await?;
    let metadata = replies.metadata();
    check(metadata.ok_or_else(|| Failed::new("a stream that ended has no metadata"))?)
}

fn check(metadata: &Metadata) -> Outcome {
    same("the text entry", metadata.get_str(ECHO_INITIAL), Some(TEXT))?;
    same("the binary entry", metadata.get(ECHO_TRAILING), Some(&BINARY))
}

const REQUEST: usize = 271_828;
const REPLY: usize = 314_159;
const TEXT: &str = "test_initial_metadata_value";
const BINARY: Bytes = Bytes::from_static(&[0xab, 0xab, 0xab]);
