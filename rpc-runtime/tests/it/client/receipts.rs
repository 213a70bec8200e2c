//! Receipts: reply metadata and timings of calls of every shape.

use std::time::Duration;

use rpc_runtime::{
    Bytes, Client, Code, Context, Error, Executed, Requests, Result, Status, Streaming,
    client::Receipt,
    server::{Handler, Incoming, Procedure, Service},
    stream,
};
use test_support::within;

/// How long each handler takes, at least.
const RUN: Duration = Duration::from_millis(20);

/// Answers what comes beside its outcome: by one of four shapes, and well or not.
#[derive(Clone)]
struct Beside;

static PLAIN: Procedure = Procedure::new("beside.v1.Beside/rpc_plain", 301);
static REPLIES: Procedure = Procedure::new("beside.v1.Beside/rpc_replies", 302).with_reply_stream();
static REQUESTS: Procedure = Procedure::new("beside.v1.Beside/rpc_requests", 303).with_request_stream();
static BOTH: Procedure = Procedure::new("beside.v1.Beside/rpc_both", 304)
    .with_request_stream()
    .with_reply_stream();
static BESIDE: [Procedure; 4] = [PLAIN, REPLIES, REQUESTS, BOTH];

impl Beside {
    async fn outcome(cx: &Context, is_good: bool) -> Result<()> {
        tokio::time::sleep(RUN).await;
        cx.add_reply_metadata("note", if is_good { "good" } else { "bad" })?;
        if is_good {
            return Ok(());
        }
        let mut metadata = rpc_runtime::Metadata::new();
        metadata.insert("why", "it was to");
        Err(Status::new(Code::FailedPrecondition, "it is bad")
            .with_metadata(metadata)
            .with_details_bytes(Bytes::from_static(b"typed")))
    }
}

impl Service for Beside {
    fn name(&self) -> &'static str {
        "beside.v1.Beside"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &BESIDE
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match index {
            0 => call.handle(|cx: Context, is_good: bool| async move { Self::outcome(&cx, is_good).await }),
            1 => call.handle_reply_stream(|cx: Context, is_good: bool, replies| async move {
                let written = stream(async |out| {
                    out.send(1u64).await;
                    Self::outcome(&cx, is_good).await
                });
                replies.forward(written).await
            }),
            2 => call.handle_request_stream(|cx: Context, mut requests: Requests<bool>| async move {
                let is_good = requests.message().await?.unwrap_or_default();
                Self::outcome(&cx, is_good).await
            }),
            3 => call.handle_both_streams(|cx: Context, mut requests: Requests<bool>, replies| async move {
                let written = stream(async |out| {
                    let is_good = requests.message().await?.unwrap_or_default();
                    out.send(1u64).await;
                    Self::outcome(&cx, is_good).await
                });
                replies.forward(written).await
            }),
            _ => call.unknown(),
        }
    }
}

/// What arrived beside the outcome of a call of whatever shape.
#[track_caller]
fn check(outcome: std::result::Result<Receipt, Error>, is_good: bool) {
    match outcome {
        Ok(receipt) => {
            assert!(is_good);
            assert_eq!(receipt.metadata().get_str("note"), Some("good"));
            assert!(receipt.ran() >= RUN, "{receipt:?}");
            assert!(receipt.queued() < RUN, "{receipt:?}");
        }
        Err(error) => {
            assert!(!is_good, "{error}");
            assert_eq!(
                (error.code(), error.executed()),
                (Code::FailedPrecondition, Executed::Yes)
            );
            let status = error.status().unwrap();
            assert_eq!(status.metadata().get_str("why"), Some("it was to"));
            assert_eq!(status.metadata().get_str("note"), Some("bad"));
            assert_eq!(status.details(), &b"typed"[..]);
        }
    }
}

/// Reads a stream of one message to its end.
async fn to_its_end(replies: &mut Streaming<u64>) -> std::result::Result<Receipt, Error> {
    assert_eq!(within(replies.message()).await.unwrap(), Some(1));
    assert!(
        replies.metadata().is_none() && replies.receipt().is_none(),
        "not yet"
    );
    let end = within(replies.message()).await;
    assert_eq!(replies.receipt().is_some(), end.is_ok());
    assert_eq!(replies.metadata(), replies.receipt().map(Receipt::metadata));
    end?;
    Ok(replies.receipt().unwrap().clone())
}

// Time is paused: then only the handlers take any.
#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn metadata_and_timings_of_the_end_are_in_the_receipt() {
    let client = Client::in_process(Beside);
    for is_good in [true, false] {
        let call = client.call().send_recv::<_, ()>(&PLAIN, is_good);
        check(
            within(call.with_receipt()).await.map(|((), receipt)| receipt),
            is_good,
        );

        let call = client.call().reply_stream(&REPLIES, is_good);
        let mut replies = within(call).await.unwrap();
        check(to_its_end(&mut replies).await, is_good);

        let call = client.call().request_stream(&REQUESTS, Ok::<(), Error>);
        let (mut sender, reply) = within(call).await.unwrap();
        within(sender.send(is_good)).await.unwrap();
        check(
            within(reply.with_receipt()).await.map(|((), receipt)| receipt),
            is_good,
        );

        let (mut sender, mut replies) = within(client.call().both_streams(&BOTH)).await.unwrap();
        within(sender.send(is_good)).await.unwrap();
        check(to_its_end(&mut replies).await, is_good);
    }
}
