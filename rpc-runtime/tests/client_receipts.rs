//! What comes beside the outcome of a call, whatever its shape.

mod gate;
mod tape;

use rpc_runtime::{
    Bytes, Client, Code, Context, Error, Executed, Handler, Incoming, Procedure, Receipt, Requests, Result,
    Service, Status, Streaming, stream,
};
use tape::within;

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
    fn outcome(cx: &Context, is_good: bool) -> Result<()> {
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
            0 => call.handle(|cx: Context, is_good: bool| async move { Self::outcome(&cx, is_good) }),
            1 => call.handle_reply_stream(|cx: Context, is_good: bool, replies| async move {
                let written = stream(async |out| {
                    out.send(1u64).await;
                    Self::outcome(&cx, is_good)
                });
                replies.forward(written).await
            }),
            2 => call.handle_request_stream(|cx: Context, mut requests: Requests<bool>| async move {
                let is_good = requests.message().await?.unwrap_or_default();
                Self::outcome(&cx, is_good)
            }),
            3 => call.handle_both_streams(|cx: Context, mut requests: Requests<bool>, replies| async move {
                let written = stream(async |out| {
                    let is_good = requests.message().await?.unwrap_or_default();
                    out.send(1u64).await;
                    Self::outcome(&cx, is_good)
                });
                replies.forward(written).await
            }),
            _ => call.unknown(),
        }
    }
}

#[tokio::test(crate = "gate")]
async fn what_comes_beside_the_end_is_in_the_receipt() {
    let client = Client::in_process(Beside);
    let receipt = Receipt::new();
    let note = || receipt.metadata().get_str("note").map(str::to_owned);
    for is_good in [true, false] {
        let expected = Some(if is_good { "good" } else { "bad" }.to_owned());
        let check = |error: Option<Error>| {
            assert_eq!(note(), expected);
            assert_eq!(error.is_none(), is_good);
            assert_eq!(receipt.ran().is_some(), is_good);
            assert_eq!(receipt.queued().is_some(), is_good);
            if let Some(error) = error {
                assert_eq!(
                    (error.code(), error.executed()),
                    (Code::FailedPrecondition, Executed::Yes)
                );
                let status = error.status().unwrap();
                assert_eq!(status.metadata().get_str("why"), Some("it was to"));
                assert_eq!(status.metadata().get_str("note"), expected.as_deref());
                assert_eq!(status.details(), &b"typed"[..]);
            }
        };
        let call = client.call().receipt(&receipt);
        assert_eq!(note(), None, "of the call before");
        check(within(call.send_recv::<_, ()>(&PLAIN, is_good)).await.err());

        let call = client.call().receipt(&receipt);
        let mut replies: Streaming<u64> = within(call.reply_stream(&REPLIES, is_good)).await.unwrap();
        assert_eq!(within(replies.message()).await.unwrap(), Some(1));
        assert!(replies.metadata().is_none() && note().is_none(), "not yet");
        check(within(replies.message()).await.err());
        let beside = replies.metadata().map(|metadata| metadata.get_str("note"));
        assert_eq!(beside, is_good.then_some(Some("good")));

        let call = client.call().receipt(&receipt);
        let (mut sender, reply) = within(call.request_stream(&REQUESTS, Ok::<(), Error>))
            .await
            .unwrap();
        within(sender.send(is_good)).await.unwrap();
        check(within(reply).await.err());

        let call = client.call().receipt(&receipt);
        let (mut sender, mut replies): (_, Streaming<u64>) = within(call.both_streams(&BOTH)).await.unwrap();
        within(sender.send(is_good)).await.unwrap();
        assert_eq!(within(replies.message()).await.unwrap(), Some(1));
        check(within(replies.message()).await.err());
    }
}
