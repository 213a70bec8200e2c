//! A caller that reads slowly slows its own handler, and no other.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use demo_api::demo::kv::v1::PingRequest;
use rpc_runtime::{
    Bytes,
    inspect::{CallState, Side, calls},
    server::{Handler, Incoming, Procedure, Service},
    stream,
};
use test_support::within;

use crate::{
    TestServer,
    caller::{Caller, prefixed, read_chunk},
};

static FLOOD: [Procedure; 1] =
    [Procedure::new("readers.v1.Flood/rpc_flood", 0x2_1235_0000).with_reply_stream()];

/// Replies without end, and counts the messages that were taken from it.
struct Flood(Arc<AtomicU64>);

impl Service for Flood {
    fn name(&self) -> &'static str {
        "readers.v1.Flood"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &FLOOD
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let made = Arc::clone(&self.0);
        call.handle_reply_stream(move |_, (): (), replies| async move {
            let flood = stream(async move |out| {
                loop {
                    out.send(Bytes::from_static(&[7; MESSAGE])).await;
                    made.fetch_add(1, SeqCst);
                }
            });
            replies.forward(flood).await
        })
    }
}

/// How many bytes a message has.
const MESSAGE: usize = 1000;

/// What the handler waits for; none if it is not in the list.
fn waits_for() -> Option<CallState> {
    let calls = calls();
    let mut calls = calls.iter().filter(|call| call.side() == Side::Server);
    calls
        .find(|call| call.procedure() == FLOOD[0].path())
        .map(|call| call.state())
}

/// Makes calls by `other` until `made` stands still during 50 of them, while its handler waits. Returns it.
async fn stands_still(made: &AtomicU64, other: &Caller) -> u64 {
    let (mut before, mut same) = (0, 0);
    while same < 50 {
        let ping = prefixed(&PingRequest::default());
        let answer = other.call("/demo.kv.v1.Kv/rpc_ping", &[], ping).await;
        assert_eq!(answer.code(), "0");
        let now = made.load(SeqCst);
        let is_waiting = matches!(
            waits_for(),
            Some(CallState::WaitsForCredit | CallState::WaitsForRoom)
        );
        same = if now == before && is_waiting { same + 1 } else { 0 };
        before = now;
    }
    before
}

#[tokio::test]
async fn a_slow_grpc_reader_slows_its_own_handler_alone() {
    let made = Arc::new(AtomicU64::new(0));
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.service(Flood(Arc::clone(&made)))
    })
    .await;
    let (slow, other) = (
        Caller::connect(&server.address).await,
        Caller::connect(&server.address).await,
    );
    let (response, mut stream) = slow.open("/readers.v1.Flood/rpc_flood", &[]).await;
    stream.send_data(prefixed(&()), true).unwrap();
    let mut body = response.await.unwrap().into_body();

    let first = within(stands_still(&made, &other)).await;
    assert!(first > 0);
    // More than all windows on the way have, so it has to go on for that.
    let mut left = (first as usize + 1) * MESSAGE;
    within(async {
        while let Some(rest) = left.checked_sub(read_chunk(&mut body).await.unwrap().len()) {
            left = rest;
        }
    })
    .await;
    let second = within(stands_still(&made, &other)).await;
    assert!(second > first, "{first} messages, then {second}");
    drop((stream, body, slow, other));
    server.stop().await;
}
