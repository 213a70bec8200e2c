//! The trace context without a subscriber: it goes from call to call unchanged.

use rpc_runtime::{
    Client, Limits, Server,
    codec::{Flags, Frame, Kind},
    trace::TraceContext,
};
use test_support::{serve, serve_one, within};

use super::{Hop, PARENT, SAY, TELL, call_hop, elsewhere};

/// What a handler says of [`elsewhere`].
const SAID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 vendor=1 tenant=acme";

#[tokio::test(crate = "test_support::gate")]
async fn calls_of_a_handler_inherit_its_trace_unchanged() {
    let (last, last_server) = Hop::serve(None).await;
    let (_first, server) = Hop::serve(Some(&last_server)).await;
    let client = server.client().await;
    assert_eq!(call_hop(&client, Some(elsewhere()), "inherited").await, [SAID; 3]);
    assert_eq!(last.told(), [SAID]);
    assert_eq!(call_hop(&client, None, "inherited").await, ["none"; 3]);
}

#[tokio::test(crate = "test_support::gate")]
async fn only_calls_within_the_handler_inherit_its_trace() {
    let (_last, last_server) = Hop::serve(None).await;
    let (_first, server) = Hop::serve(Some(&last_server)).await;
    let client = server.client().await;
    for (way, said) in [
        ("task", "none"),
        ("detached", "none"),
        ("within", SAID),
        (
            "given",
            "00-00000000000000000000000000000007-0000000000000008-01  ",
        ),
    ] {
        assert_eq!(
            call_hop(&client, Some(elsewhere()), way).await,
            [said; 3],
            "{way}"
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_trace_goes_beside_the_metadata_and_not_in_it() {
    let hop = Hop::default();
    let server = serve_one(hop.clone()).await;
    let client = server.client().await;
    // As much metadata as there may be, and as much baggage.
    let baggage = format!("a={}", "x".repeat(TraceContext::MAX_BAGGAGE - 2));
    let trace = elsewhere().with_baggage(&baggage);
    let call = client
        .call()
        .metadata("k", vec![7; 8 * 1024 - 1])
        .trace_context(trace);
    let said: String = within(call.send_recv(&SAY, ())).await.unwrap();
    assert!(
        said == format!("{PARENT} vendor=1 {baggage}"),
        "{} bytes",
        said.len()
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn one_way_calls_keep_their_traces_and_their_order() {
    let hop = Hop::default();
    let server = serve_one(hop.clone()).await;
    let client = server.client().await;
    for number in 1..=3_u64 {
        let trace = TraceContext::new(number.into(), 5, false).unwrap();
        within(client.call().trace_context(trace).send(&TELL, ()))
            .await
            .unwrap();
        within(client.call().send(&TELL, ())).await.unwrap();
    }
    within(client.barrier()).await.unwrap();
    let traced = |number: u64| format!("00-{number:032x}-0000000000000005-00  ");
    let none = || "none".to_owned();
    assert_eq!(
        hop.told(),
        [traced(1), none(), traced(2), none(), traced(3), none()]
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_trace_counts_in_the_memory_of_open_requests() {
    let hop = Hop::default();
    let limits = Limits::default().metadata_bytes(4 * 1024);
    let builder = Server::builder().service(hop).limits(limits).signals(false);
    let server = serve(builder.listener("tcp://127.0.0.1:0")).await;
    let client: Client = server.client().await;
    let call = |len: usize| {
        let trace = elsewhere().with_baggage(&format!("a={}", "x".repeat(len)));
        within(
            client
                .call()
                .trace_context(trace)
                .send_recv::<_, String>(&SAY, ()),
        )
    };
    call(1000).await.unwrap();
    let error = call(8000).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("metadata of open requests exceeds the server's Limits::metadata_bytes"),
        "{error}"
    );
}

#[test]
fn a_frame_is_read_with_its_trace() {
    let frame = Frame::new(Kind::Call, 1)
        .with_flags(Flags::END)
        .with_trace(elsewhere());
    assert_eq!(frame.trace(), Some(&elsewhere()));
    assert!(!format!("{frame:?}").contains("acme"), "baggage may be secret");
}
