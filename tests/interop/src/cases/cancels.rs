//! Cancelled calls and missed deadlines.

use std::time::Duration;

use rpc_runtime::Code;
use tokio::time::timeout;

use super::streams::{REPLIES, REQUESTS, expect_reply, request};
use crate::{
    Failed, Outcome, Site, body,
    check::{has_code, must_fail},
    interop::v1::{InputRequest, OutputReply, OutputRequest, Wish},
};

/// A stream that is dropped before its first message is CANCELLED on both sides. Whichever half is dropped,
/// the other half reports it, and the handler ends.
///
/// # Errors
///
/// The first difference from the expected behaviour.
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
    // The connection accepts the next call. It is unknown whether the handlers had started. The drain shows that
    // none of them is left.
    Ok(client.send_recv().empty_call().await?)
}

/// A stream that is dropped after its first reply is CANCELLED, and its handler is dropped.
///
/// # Errors
///
/// The first difference from the expected behaviour.
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

/// A call to a handler that sleeps beyond the deadline ends with DEADLINE_EXCEEDED.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn timeout_on_sleeping_server(site: &Site) -> Outcome {
    let client = site.client().await?;
    // A deadline of a millisecond may pass at any step.
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

/// Makes a request whose reply takes an hour.
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

/// The number of the server's handlers that were dropped before their end.
struct Dropped(tokio::sync::watch::Receiver<u64>);

impl Dropped {
    fn watch(site: &Site) -> Self {
        Self(site.tester().dropped())
    }

    /// Waits until the next handler is dropped.
    async fn one_more(&mut self) -> Outcome {
        match timeout(NET, self.0.changed()).await {
            Ok(changed) => Ok(changed?),
            Err(_) => Err(Failed::new("the handler of a cancelled call was not dropped")),
        }
    }
}

/// A guard against hanging.
const NET: Duration = Duration::from_secs(60);
