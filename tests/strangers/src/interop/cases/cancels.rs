//! Cancelled calls and missed deadlines.

use std::time::Duration;

use interop::{
    Outcome,
    check::{has_code, must_fail, same},
};
use rpc_runtime::{Code, Error};

use super::streams::{REPLIES, REQUESTS, expect_reply, request};
use crate::interop::{
    Site,
    grpc::testing::{
        Empty, StreamingInputCallRequest, StreamingOutputCallRequest, StreamingOutputCallResponse,
        TestServiceClient,
    },
};

/// A stream that is dropped before its first message is CANCELLED, whichever half of it is dropped.
pub(super) async fn cancel_after_begin(site: &Site) -> Outcome {
    let client = site.client().await?;
    let (sender, reply) = client.send_recv().streaming_input_call().await?;
    drop(sender);
    let error = must_fail("a reply whose requests were given up", reply.await)?;
    has_code(&error, Code::Cancelled)?;

    let (mut sender, reply) = client.send_recv().streaming_input_call().await?;
    drop(reply);
    let sent = sender.send(StreamingInputCallRequest::default()).await;
    let error = must_fail("a request whose reply was given up", sent)?;
    has_code(&error, Code::Cancelled)?;
    goes_on(&client).await
}

/// A stream that is dropped after its first reply is CANCELLED, whichever half of it is dropped.
pub(super) async fn cancel_after_first_response(site: &Site) -> Outcome {
    let client = site.client().await?;
    let (mut sender, mut replies) = client.send_recv().full_duplex_call().await?;
    sender.send(request(REQUESTS[0], REPLIES[0])).await?;
    expect_reply(&mut replies, REPLIES[0]).await?;
    drop(sender);
    let error = must_fail("a cancelled stream", replies.message().await)?;
    has_code(&error, Code::Cancelled)?;

    let (mut sender, mut replies) = client.send_recv().full_duplex_call().await?;
    sender.send(request(REQUESTS[0], REPLIES[0])).await?;
    expect_reply(&mut replies, REPLIES[0]).await?;
    drop(replies);
    let sent = sender.send(request(REQUESTS[1], REPLIES[1])).await;
    let error = must_fail("a request of a cancelled stream", sent)?;
    has_code(&error, Code::Cancelled)?;
    goes_on(&client).await
}

/// A call to a server that does not answer ends with DEADLINE_EXCEEDED.
pub(super) async fn timeout_on_sleeping_server(site: &Site) -> Outcome {
    let client = site.client().await?;
    // A deadline of a millisecond may pass at any step.
    let result: Result<Option<StreamingOutputCallResponse>, Error> = async {
        let call = client.send_recv().timeout(Duration::from_millis(1));
        let (mut sender, mut replies) = call.full_duplex_call().await?;
        // It waits for more, since it was asked for no reply.
        let silent = StreamingOutputCallRequest {
            response_parameters: Vec::new(),
            ..request(REQUESTS[0], 1)
        };
        sender.send(silent).await?;
        replies.message().await
    }
    .await;
    let error = must_fail("a call of a sleeping server", result)?;
    has_code(&error, Code::DeadlineExceeded)?;
    goes_on(&client).await
}

/// The connection takes the next call.
async fn goes_on(client: &TestServiceClient) -> Outcome {
    same(
        "the reply",
        client.send_recv().empty_call(Empty {}).await?,
        Empty {},
    )
}
