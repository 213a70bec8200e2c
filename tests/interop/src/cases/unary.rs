//! One request, one reply.

use crate::{
    Outcome, Site, body,
    check::is_body_of,
    interop::v1::{TestServiceClient, UnaryRequest},
};

/// Nothing is answered with nothing.
///
/// # Errors
///
/// What was not as it should be.
pub async fn empty_unary(site: &Site) -> Outcome {
    let client = site.client().await?;
    client.send_recv().empty_call().await?;
    Ok(())
}

/// 271,828 bytes are answered with 314,159, each where it belongs.
///
/// # Errors
///
/// What was not as it should be.
pub async fn large_unary(site: &Site) -> Outcome {
    call_large(&site.client().await?).await
}

/// The one call of [`large_unary`], which the soaks make again and again.
pub(super) async fn call_large(client: &TestServiceClient) -> Outcome {
    let request = UnaryRequest {
        body: body(LARGE_REQUEST),
        reply_len: LARGE_REPLY as u32,
        status: None,
    };
    let reply = client.send_recv().unary_call(request).await?;
    is_body_of("the reply", &reply.body, LARGE_REPLY)
}

const LARGE_REQUEST: usize = 271_828;
const LARGE_REPLY: usize = 314_159;
