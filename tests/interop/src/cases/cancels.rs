//! Calls that the caller does not want any more, or not any longer.

use std::time::Duration;

use rpc_runtime::Code;
use tokio::time::timeout;

use super::streams::{REPLIES, REQUESTS, expect_reply, request};
use crate::{
    Failed, Outcome, Site, body,
    check::{has_code, must_fail},
    interop::v1::{InputRequest, OutputReply, OutputRequest, Wish},
};

/// A stream that is given up before its first message is CANCELLED on both sides: whichever of its halves is dropped,
/// the other one says so, and its handler ends.
///
/// # Errors
///
/// What was not as it should be.
pub async fn cancel_after_begin(site: &Site) -> Outcome {
    let client = site.client().await?;
    let (sender, reply) = client.send_recv().streaming_input_call().await?;
    drop(sender);
    has_code(
        &must_fail("a reply whose requests were given up", reply.await)?,
        Code::Cancelled,
    )?;

    let (mut sender, reply) = client.send_recv().streaming_input_call().await?;
    drop(reply);
    let sent = sender.send(InputRequest { body: body(8) }).await;
    has_code(
        &must_fail("a request whose reply was given up", sent)?,
        Code::Cancelled,
    )?;
    drop(sender);
    // The connection takes the next call as if nothing had been. Whether the handlers had begun, nobody can say; that
    // nothing is left of them shows when the server drains.
    Ok(client.send_recv().empty_call().await?)
}

/// A stream that is given up after its first reply is CANCELLED, and its handler is dropped.
///
/// # Errors
///
/// What was not as it should be.
pub async fn cancel_after_first_response(site: &Site) -> Outcome {
    let client = site.client().await?;
    let mut dropped = Dropped::watch(site);
    let (mut sender, mut replies) = client.send_recv().full_duplex_call().await?;
    sender.send(request(REQUESTS[0], REPLIES[0])).await?;
    expect_reply(&mut replies, REPLIES[0]).await?;
    drop(sender);
    has_code(
        &must_fail("a cancelled stream", replies.message().await)?,
        Code::Cancelled,
    )?;
    dropped.one_more().await?;

    let (mut sender, mut replies) = client.send_recv().full_duplex_call().await?;
    sender.send(request(REQUESTS[0], REPLIES[0])).await?;
    expect_reply(&mut replies, REPLIES[0]).await?;
    drop(replies);
    let sent = sender.send(request(REQUESTS[1], REPLIES[1])).await;
    has_code(
        &must_fail("a request of a cancelled stream", sent)?,
        Code::Cancelled,
    )?;
    dropped.one_more().await?;
    Ok(client.send_recv().empty_call().await?)
}

/// A call of a server that sleeps longer than its deadline ends with DEADLINE_EXCEEDED.
///
/// # Errors
///
/// What was not as it should be.
pub async fn timeout_on_sleeping_server(site: &Site) -> Outcome {
    let client = site.client().await?;
    // A deadline of a millisecond may pass at any step, but it does pass.
    let result: Result<Option<OutputReply>, rpc_runtime::Error> = async {
        let call = client.send_recv().timeout(Duration::from_millis(1));
        let (mut sender, mut replies) = call.full_duplex_call().await?;
        sender.send(sleepy()).await?;
        replies.message().await
    }
    .await;
    has_code(
        &must_fail("a call of a sleeping server", result)?,
        Code::DeadlineExceeded,
    )?;
    Ok(client.send_recv().empty_call().await?)
}

/// A request whose reply is an hour away.
fn sleepy() -> OutputRequest {
    OutputRequest {
        body: body(REQUESTS[0]),
        wishes: vec![Wish {
            len: 1,
            interval_us: 3_600_000_000,
        }],
        status: None,
    }
}

/// The server's handlers that were dropped before their end.
struct Dropped(tokio::sync::watch::Receiver<u64>);

impl Dropped {
    fn watch(site: &Site) -> Self {
        Self(site.tester().dropped())
    }

    /// Waits for the next one.
    async fn one_more(&mut self) -> Outcome {
        match timeout(NET, self.0.changed()).await {
            Ok(changed) => Ok(changed?),
            Err(_) => Err(Failed::new("the handler of a cancelled call was not dropped")),
        }
    }
}

/// A net against hanging.
const NET: Duration = Duration::from_secs(60);
