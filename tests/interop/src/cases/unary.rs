//! One request, one reply.

use crate::{
    Outcome, Site, body,
    check::is_body_of,
    interop::v1::{TestServiceClient, UnaryRequest},
};

/// An empty request gets an empty reply.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn empty_unary(site: &Site) -> Outcome {
    let client = site.client().await?;
    client.send_recv().empty_call().await?;
    Ok(())
}

/// A request of 271,828 bytes gets a reply of 314,159 bytes with the right contents.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn large_unary(site: &Site) -> Outcome {
    call_large(&site.client().await?).await
}

/// Makes the call of [`large_unary`], which the soaks repeat.
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
