//! One request, one reply.

use interop::{Outcome, check::same};

use crate::interop::{
    Site,
    grpc::testing::{Empty, Payload, SimpleRequest, TestServiceClient},
};

/// An empty request gets an empty reply.
pub(super) async fn empty_unary(site: &Site) -> Outcome {
    let client = site.client().await?;
    same(
        "the reply",
        client.send_recv().empty_call(Empty {}).await?,
        Empty {},
    )
}

/// A request of 271,828 bytes gets a reply of 314,159 zeros.
pub(super) async fn large_unary(site: &Site) -> Outcome {
    call_large(&site.client().await?).await
}

/// Makes the call of [`large_unary`], which the soaks repeat.
pub(super) async fn call_large(client: &TestServiceClient) -> Outcome {
    let reply = client.send_recv().unary_call(large_request()).await?;
    is_large_reply(reply.payload)
}

/// A request of 271,828 bytes that wants a reply of 314,159.
pub(super) fn large_request() -> SimpleRequest {
    SimpleRequest {
        response_size: LARGE_REPLY as i32,
        payload: payload(271_828),
        ..Default::default()
    }
}

pub(super) fn is_large_reply(payload: Option<Payload>) -> Outcome {
    has_zeros("the reply", payload, LARGE_REPLY)
}

/// A payload of `len` zeros.
pub(super) fn payload(len: usize) -> Option<Payload> {
    Some(Payload {
        body: vec![0; len].into(),
        ..Default::default()
    })
}

/// Fails unless a payload has `len` zeros; `what` names it.
pub(super) fn has_zeros(what: &str, payload: Option<Payload>, len: usize) -> Outcome {
    let body = payload.unwrap_or_default().body;
    same(&format!("length of {what}"), body.len(), len)?;
    let others = body.iter().filter(|byte| **byte != 0).count();
    same(&format!("bytes of {what} that are no zeros"), others, 0)
}

const LARGE_REPLY: usize = 314_159;
