//! What is refused, shed and made again.

use std::time::Duration;

use rpc_runtime::{
    Client, Code, Limits, Result, Server, Status, limit,
    middleware::{Answer, Next, ServerCall, from_fn},
    server::Procedure,
};
use test_support::{Logged, serve, serve_one, within};

use super::{Counted, ECHO, WAIT, call, called, grown, number, procedures, served};

procedures!(HINTS, "metrics.v1.Hints", 0x1_2360_0000);

#[tokio::test(crate = "test_support::gate")]
async fn a_call_over_its_rate_is_refused_and_comes_back() {
    let rate = || number("rpc_server_limited_total", &[("limit", "rate")]);
    let by_middleware = [("reason", "limit"), ("limit", "middleware")];
    let refused = || number("rpc_server_rejected_total", &by_middleware);
    let retries = || {
        number(
            "rpc_client_retries_total",
            &[("protocol", "native"), ("reason", "hint")],
        )
    };
    let before = (rate(), refused(), retries());
    let server = Server::builder()
        .service(Counted::new(&HINTS))
        .listener("tcp://127.0.0.1:0")
        .layer(limit::rate(1).per(Duration::from_millis(50)))
        .signals(false);
    let server = serve(server).await;
    let client = server.client().await;
    let mut calls = 0;
    // On a slow machine each of two calls may have a time of its own.
    loop {
        call(&client, &HINTS[ECHO], "a").await.unwrap();
        calls += 1;
        if served(&HINTS[ECHO]).ended(Code::ResourceExhausted) > 0 {
            break;
        }
    }
    assert!(rate() >= before.0 + 1.0);
    assert!(refused() >= before.1 + 1.0);
    assert!(retries() >= before.2 + 1.0);
    // The server has seen each try.
    assert_eq!(
        called(&HINTS[ECHO]).codes().collect::<Vec<_>>(),
        [(Code::Ok, calls)]
    );
    assert_eq!(served(&HINTS[ECHO]).ended(Code::Ok), calls);
}

procedures!(BUDGET, "metrics.v1.Budget", 0x1_2361_0000);

#[tokio::test(crate = "test_support::gate")]
async fn an_empty_retry_budget_is_seen() {
    let denied = || number("rpc_client_retries_denied_total", &[("protocol", "native")]);
    let concurrency = || number("rpc_server_limited_total", &[("limit", "concurrency")]);
    let before = (denied(), concurrency());
    let service = Counted::new(&BUDGET);
    let server = Server::builder()
        .service(service.clone())
        .listener("tcp://127.0.0.1:0")
        .layer(limit::concurrency(1).retry_after(Duration::from_millis(1)))
        .signals(false);
    let server = serve(server).await;
    let client = server.client().await;
    let holds = {
        let client = client.clone();
        tokio::spawn(async move { call(&client, &BUDGET[WAIT], "a").await })
    };
    grown(
        "rpc_server_started_total",
        &[("service", "metrics.v1.Budget")],
        1.0,
    )
    .await;
    // Each comes back three times, and there are ten tokens.
    for _ in 0..4 {
        call(&client, &BUDGET[ECHO], "a").await.unwrap_err();
    }
    assert!(denied() >= before.0 + 1.0);
    assert!(concurrency() >= before.1 + 10.0);
    // Of a family that is not there the sum is 0, too.
    let snapshot = rpc_runtime::metrics::snapshot();
    let budgets = snapshot.family("rpc_client_retry_budget_ratio");
    assert_eq!(budgets.map(|family| family.samples().len()), Some(1));
    assert!(number("rpc_client_retry_budget_ratio", &[]) < 0.1);
    service.release();
    within(holds).await.unwrap().unwrap();
}

procedures!(MOVED, "metrics.v1.Moved", 0x1_2362_0000);

#[tokio::test(crate = "test_support::gate")]
async fn a_call_that_a_draining_server_did_not_take_is_sent_again() {
    let retries = || {
        number(
            "rpc_client_retries_total",
            &[("protocol", "native"), ("reason", "connection")],
        )
    };
    let before = retries();
    let client: Client = Client::builder("mem:metrics-first")
        .fallback("mem:metrics-second")
        .connect_lazy();
    let refuses = Counted::new(&MOVED);
    let first = Server::builder()
        .service(refuses)
        .listener("mem:metrics-first")
        // A refusal without a hint: the server is to blame.
        .layer(from_fn(
            async |_: ServerCall, _: Next<ServerCall>| -> Result<Answer> {
                Err(Status::unavailable("not here"))
            },
        ))
        .signals(false);
    let _first = serve(first).await;
    let error = call(&client, &MOVED[ECHO], "a").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(retries() >= before + 1.0);
    assert_eq!(called(&MOVED[ECHO]).handled(), 1);
    assert_eq!(served(&MOVED[ECHO]).ended(Code::Unavailable), 2);
}

procedures!(GONE, "metrics.v1.Gone", 0x1_2363_0000);
static MISSING: Procedure = Procedure::new("metrics.v1.Gone/rpc_missing", 0x1_2364_0000);

#[tokio::test(crate = "test_support::gate")]
async fn the_counters_of_a_server_stay_when_it_is_gone() {
    let faults = || number("rpc_server_faults_total", &[("kind", "unknown_procedure")]);
    let before = faults();
    let server = serve_one(Counted::new(&GONE)).await;
    let client = server.client().await;
    call(&client, &MISSING, "a").await.unwrap_err();
    within(client.close()).await.unwrap();
    server.stop().await;
    assert!(faults() >= before + 1.0);
}

procedures!(DELAYED, "metrics.v1.Delayed", 0x1_2372_0000);

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_that_waits_to_be_accepted_is_an_accept_problem() {
    let kind = [("kind", "max_connections")];
    let before = number("rpc_server_accept_problems_total", &kind);
    let server = Server::builder()
        .service(Counted::new(&DELAYED))
        .listener("tcp://127.0.0.1:0");
    let server = serve(server.max_connections(1)).await;
    let first = server.client().await;
    let second = Client::connect_lazy(&server.address);
    let waiting = tokio::spawn(async move { call(&second, &DELAYED[ECHO], "a").await });
    grown("rpc_server_accept_problems_total", &kind, before + 1.0).await;
    drop(first);
    assert_eq!(within(waiting).await.unwrap().unwrap(), "a");
}

procedures!(FULL, "metrics.v1.Full", 0x1_2373_0000);

#[tokio::test(crate = "test_support::gate")]
async fn a_refusal_is_counted_by_its_limit_and_logged_with_it() {
    let by = |limit| {
        number(
            "rpc_server_rejected_total",
            &[("reason", "limit"), ("limit", limit)],
        )
    };
    let before = (by("max_waiting_handlers"), by("metadata_bytes"));
    let logged = Logged::here();
    let service = Counted::new(&FULL);
    let server = Server::builder()
        .service(service.clone())
        .listener("tcp://127.0.0.1:0")
        .limits(Limits::default().metadata_bytes(64))
        .max_waiting_handlers(1)
        .signals(false);
    let server = serve(server).await;
    let client = server.client().await;
    let holds = {
        let client = client.clone();
        tokio::spawn(async move { call(&client, &FULL[WAIT], "a").await })
    };
    grown("rpc_server_started_total", &[("service", "metrics.v1.Full")], 1.0).await;
    for _ in 0..2 {
        let error = call(&client, &FULL[ECHO], "a").await.unwrap_err();
        assert!(error.message().contains("max_waiting_handlers"), "{error}");
    }
    for _ in 0..2 {
        let long = client.call().metadata("key", "v".repeat(100));
        let refused = within(long.send_recv::<String, String>(&FULL[ECHO], "a".to_owned())).await;
        let error = refused.unwrap_err();
        assert!(error.message().contains("metadata_bytes"), "{error}");
    }
    assert!(by("max_waiting_handlers") >= before.0 + 2.0);
    assert!(by("metadata_bytes") >= before.1 + 2.0);
    // How many lines there are depends on how long this takes.
    let mut lines = logged.picked("a limit refuses requests", &["limit", "procedure"]);
    lines.dedup();
    assert_eq!(
        lines,
        [
            "ServerBuilder::max_waiting_handlers metrics.v1.Full/rpc_echo",
            "Limits::metadata_bytes "
        ]
    );
    service.release();
    within(holds).await.unwrap().unwrap();
}
