//! Log lines about calls: each one, or the slow ones.

use std::time::Duration;

use rpc_runtime::{
    Bytes, Client, Server, Status,
    auth::Caller,
    middleware::{self, ServerCall},
    trace::TraceContext,
};
use test_support::{Lab, Logged, Running, lab, serve, serve_one, until, within};

/// Serves a lab with an access log, within which the user `ada` is known, and nobody may call `PEER`.
async fn logging(lab: &Lab) -> Running {
    let log_in = middleware::from_fn(async |mut call: ServerCall, next| {
        call.insert(Caller::new("ada"));
        next.run(call).await
    });
    let refuse = middleware::from_fn(async |_: ServerCall, _| Err(Status::permission_denied("not you")));
    let builder = Server::builder()
        .service(lab.clone())
        .layer(middleware::access_log());
    let builder = builder.layer(log_in).layer_for("lab.v1.Lab/peer", refuse);
    serve(builder.listener("tcp://127.0.0.1:0").signals(false)).await
}

const FIELDS: &[&str] = &[
    "procedure",
    "caller",
    "code",
    "executed",
    "one_way",
    "request_bytes",
    "reply_bytes",
    "call",
];

#[tokio::test(crate = "test_support::gate")]
async fn each_call_has_a_line() {
    let logged = Logged::here();
    let lab = Lab::default();
    let server = logging(&lab).await;
    let client = server.client().await;
    lab::echo(&client, vec![7; 100]).await.unwrap();
    lab::plain(&client, &lab::FAIL).await.unwrap_err();
    lab::plain(&client, &lab::PEER).await.unwrap_err();
    lab::plain(&client, &lab::PANIC).await.unwrap_err();
    lab::send(&client, &lab::NOTE, "dog").await;
    within(client.barrier()).await.unwrap();
    let mut numbers = within(client.call().reply_stream::<_, u64>(&lab::COUNT, 3_u64))
        .await
        .unwrap();
    lab::all(&mut numbers).await.1.unwrap();
    let lines = || logged.picked("call", FIELDS);
    until(|| lines().len() == 6).await;
    assert_eq!(
        lines(),
        [
            "lab.v1.Lab/echo ada OK yes false 102 102 1",
            "lab.v1.Lab/fail ada NOT_FOUND yes false 0  3",
            "lab.v1.Lab/peer ada PERMISSION_DENIED no false 0  5",
            "lab.v1.Lab/panic ada UNKNOWN yes false 0  7",
            "lab.v1.Lab/note ada OK yes true 5  9",
            "lab.v1.Lab/count ada OK yes false 2  11",
        ]
    );
    let peers = logged.picked("call", &["peer", "trace"]);
    assert!(
        peers
            .iter()
            .all(|peer| peer.starts_with("tcp://127.0.0.1:") && peer.ends_with(' ')),
        "{peers:?}"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_call_that_is_dropped_has_a_line() {
    let logged = Logged::here();
    let lab = Lab::default();
    let server = logging(&lab).await;
    let client = server.client().await;
    let given_up = lab::hang(&client);
    lab.until_hanging(1).await;
    given_up.abort();
    lab.until_hanging(0).await;
    let lines = || logged.picked("call", &["procedure", "code", "executed"]);
    until(|| !lines().is_empty()).await;
    assert_eq!(lines(), ["lab.v1.Lab/hang CANCELLED maybe"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_line_has_the_trace_of_its_call() {
    let logged = Logged::here();
    let lab = Lab::default();
    let server = logging(&lab).await;
    let client = server.client().await;
    let trace = TraceContext::new(0xabc, 1, true).unwrap();
    let call = client.call().trace_context(trace);
    let _: Bytes = within(call.send_recv(&lab::ECHO, Bytes::new())).await.unwrap();
    let lines = || logged.picked("call", &["trace"]);
    until(|| !lines().is_empty()).await;
    assert_eq!(lines(), ["00000000000000000000000000000abc"]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_slow_call_is_logged_once_on_each_side_with_where_its_time_went() {
    let logged = Logged::here();
    let slow = middleware::slow_calls(Duration::from_millis(10));
    let lab = Lab::default();
    let builder = Server::builder().service(lab.clone()).layer(slow);
    let server = serve(builder.listener("mem:slow-calls").signals(false)).await;
    let client: Client = within(Client::builder(&server.address).layer(slow).connect())
        .await
        .unwrap();
    // Only the second one is slow, by 10 ms of a clock that jumps.
    lab::text(&client, &lab::ECHO, "quick").await.unwrap();
    lab::text(&client, &lab::SLEEP, "slow").await.unwrap();
    let lines = || logged.picked("slow call", &["procedure", "code"]);
    until(|| lines().len() == 2).await;
    assert_eq!(lines(), ["lab.v1.Lab/sleep OK"; 2]);
    let micros = |field: &str| -> Vec<u64> {
        let values = logged.picked("slow call", &[field]);
        values.iter().filter_map(|value| value.parse().ok()).collect()
    };
    let told = |field: &str, count: usize, low: u64, high: u64| {
        let values = micros(field);
        assert_eq!(values.len(), count, "{field}: {values:?}");
        assert!(
            values.iter().all(|value| (low..=high).contains(value)),
            "{field}: {values:?}"
        );
    };
    let ids = micros("call");
    assert!(
        ids.len() == 2 && ids[0] == ids[1],
        "both sides have its number: {ids:?}"
    );
    told("took_us", 2, 10_000, 20_000);
    told("ran_us", 2, 10_000, 20_000);
    told("queued_us", 1, 0, 1_000);
    told("queued_here_us", 1, 0, 1_000);
    told("queued_there_us", 1, 0, 1_000);
    told("wire_us", 1, 0, 5_000);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_late_call_is_logged_as_slow() {
    let logged = Logged::here();
    let lab = Lab::default();
    let server = serve_one(lab.clone()).await;
    let slow = middleware::slow_calls(Duration::from_millis(50));
    let client: Client = within(Client::builder(&server.address).layer(slow).connect())
        .await
        .unwrap();
    let call = client.call().timeout(Duration::from_millis(60));
    let error = within(call.send_recv::<_, ()>(&lab::HANG, ())).await.unwrap_err();
    assert!(error.time_spent().is_some(), "{error}");
    let fields = ["procedure", "code", "ran_us", "wire_us"];
    assert_eq!(
        logged.picked("slow call", &fields),
        ["lab.v1.Lab/hang DEADLINE_EXCEEDED  "]
    );
    lab.until_hanging(0).await;
}
