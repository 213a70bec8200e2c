//! Metadata of requests and replies.

use interop::{Failed, Outcome, check::same};
use rpc_http::ReplyHeaders;
use rpc_runtime::{Bytes, Metadata};

use super::{
    streams::{expect_end, expect_reply, request},
    unary::{is_large_reply, large_request},
};
use crate::interop::{
    Site,
    server::{ECHO_INITIAL, ECHO_TRAILING},
};

/// An entry comes back in the headers, and another one in the trailers, of a unary call and of a stream.
pub(super) async fn custom_metadata(site: &Site) -> Outcome {
    let client = site.client().await?;
    let headers = ReplyHeaders::new();
    let call = client
        .send_recv()
        .metadata(ReplyHeaders::KEY, &headers)
        .metadata(ECHO_INITIAL, TEXT)
        .metadata(ECHO_TRAILING, BYTES);
    let (reply, receipt) = call.unary_call(large_request()).with_receipt().await?;
    is_large_reply(reply.payload)?;
    check(headers.get(), receipt.metadata())?;

    let headers = ReplyHeaders::new();
    let call = client
        .send_recv()
        .metadata(ReplyHeaders::KEY, &headers)
        .metadata(ECHO_INITIAL, TEXT)
        .metadata(ECHO_TRAILING, BYTES);
    let (mut sender, mut replies) = call.full_duplex_call().await?;
    sender.send(request(271_828, 314_159)).await?;
    expect_reply(&mut replies, 314_159).await?;
    same("headers before the end", headers.get().is_some(), true)?;
    sender.finish();
    expect_end(&mut replies).await?;
    let trailers = replies.metadata();
    check(
        headers.get(),
        trailers.ok_or_else(|| Failed::new("a stream that ended has no metadata"))?,
    )
}

fn check(headers: Option<Metadata>, trailers: &Metadata) -> Outcome {
    let headers = headers.ok_or_else(|| Failed::new("the answer had no headers"))?;
    same(
        "the entry in the headers",
        headers.get_str(ECHO_INITIAL),
        Some(TEXT),
    )?;
    same(
        "the entry in the trailers",
        trailers.get(ECHO_TRAILING),
        Some(&BYTES),
    )?;
    same(
        "the headers' entry in the trailers",
        trailers.get(ECHO_INITIAL),
        None,
    )
}

const TEXT: &str = "test_initial_metadata_value";
const BYTES: Bytes = Bytes::from_static(&[0xab, 0xab, 0xab]);
