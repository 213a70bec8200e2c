//! Calls, one-way calls and streams, on both sides.

use std::time::Duration;

use rpc_runtime::{
    Client, Code, Error, Streaming,
    metrics::{Protocol, Side, Snapshot, snapshot},
    server::Procedure,
};
use test_support::{serve_one, until, wire, within};

use super::{BLOCK, COUNT, Counted, ECHO, FAIL, WAIT, call, called, grown, number, of, procedures, served};

procedures!(CODES, "metrics.v1.Codes", 0x1_2345_0000);

#[tokio::test(crate = "test_support::gate")]
async fn calls_are_counted_by_procedure_and_code_on_both_sides() {
    let server = serve_one(Counted::new(&CODES)).await;
    let client = server.client().await;
    let begin = snapshot();
    let queued = number("rpc_server_queue_age_seconds", &[("protocol", "native")]);
    for _ in 0..3 {
        call(&client, &CODES[ECHO], "a").await.unwrap();
    }
    for _ in 0..2 {
        let error = call(&client, &CODES[FAIL], "a").await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
    }
    let middle = snapshot();
    call(&client, &CODES[ECHO], "a").await.unwrap();
    let since = |now: &Snapshot, then: &Snapshot| {
        let calls = now.since(then).into_iter();
        let calls = calls.filter(|one| one.path() == CODES[ECHO].path());
        calls
            .map(|one| (one.handled(), one.latency().count()))
            .collect::<Vec<_>>()
    };
    assert_eq!(since(&middle, &begin), [(3, 3), (3, 3)]);
    assert_eq!(since(&snapshot(), &middle), [(1, 1), (1, 1)]);
    for (procedure, count, code) in [(&CODES[ECHO], 4, Code::Ok), (&CODES[FAIL], 2, Code::NotFound)] {
        for calls in [served(procedure), called(procedure)] {
            assert_eq!(
                (calls.started(), calls.handled(), calls.in_flight()),
                (count, count, 0)
            );
            assert_eq!(calls.codes().collect::<Vec<_>>(), [(code, count)]);
            assert_eq!(calls.latency().count(), count);
            assert!(calls.latency().quantile(0.5).unwrap() < Duration::from_secs(60));
            assert_eq!(calls.service(), "metrics.v1.Codes");
            assert!(calls.one_ways().next().is_none());
        }
        // A caller waits for all of it.
        assert!(called(procedure).latency().sum() >= served(procedure).latency().sum());
    }
    assert!(number("rpc_server_queue_age_seconds", &[("protocol", "native")]) >= queued + 6.0);
    let handled = |name, code| {
        let labels = [
            ("service", "metrics.v1.Codes"),
            ("method", "rpc_fail"),
            ("code", code),
        ];
        number(name, &labels)
    };
    assert_eq!(handled("rpc_server_handled_total", "NOT_FOUND"), 2.0);
    assert_eq!(handled("rpc_client_handled_total", "NOT_FOUND"), 2.0);
    assert_eq!(handled("rpc_client_handled_total", "OK"), 0.0);
}

procedures!(OPEN, "metrics.v1.Open", 0x1_2346_0000);

#[tokio::test(crate = "test_support::gate")]
async fn a_call_is_in_flight_until_it_ends_and_one_that_is_given_up_is_cancelled() {
    let service = Counted::new(&OPEN);
    let server = serve_one(service.clone()).await;
    let client = server.client().await;
    let waiting = |client: &Client| {
        let client = client.clone();
        tokio::spawn(async move { call(&client, &OPEN[WAIT], "a").await })
    };
    let tasks = number("rpc_server_handler_tasks", &[]);
    let (kept, given_up) = (waiting(&client), waiting(&client));
    until(|| of(Side::Server, Protocol::Native, &OPEN[WAIT]).is_some_and(|calls| calls.in_flight() == 2))
        .await;
    assert_eq!(called(&OPEN[WAIT]).in_flight(), 2);
    // Other tests have handlers, too, but none of theirs ends ours.
    grown("rpc_server_handler_tasks", &[], 2.0).await;
    assert!(tasks >= 0.0 && number("rpc_server_handler_tasks_limit", &[]) >= 10_000.0);
    given_up.abort();
    until(|| served(&OPEN[WAIT]).in_flight() == 1 && called(&OPEN[WAIT]).in_flight() == 1).await;
    service.release();
    within(kept).await.unwrap().unwrap();
    for calls in [served(&OPEN[WAIT]), called(&OPEN[WAIT])] {
        assert_eq!(
            calls.codes().collect::<Vec<_>>(),
            [(Code::Ok, 1), (Code::Cancelled, 1)]
        );
        assert_eq!(calls.in_flight(), 0);
    }
}

procedures!(LOST, "metrics.v1.Lost", 0x1_2347_0000);

#[tokio::test(crate = "test_support::gate")]
async fn calls_of_a_caller_that_is_lost_end_as_cancelled() {
    let service = Counted::new(&LOST);
    let server = serve_one(service.clone()).await;
    let mut peer = wire::HandPeer::greeted(&server.address).await;
    peer.send(&wire::call(1, &LOST[WAIT], &"a".to_owned())).await;
    until(|| of(Side::Server, Protocol::Native, &LOST[WAIT]).is_some_and(|calls| calls.in_flight() == 1))
        .await;
    drop(peer);
    until(|| served(&LOST[WAIT]).in_flight() == 0).await;
    assert_eq!(served(&LOST[WAIT]).ended(Code::Cancelled), 1);
}

static MISSING: Procedure = Procedure::new("metrics.v1.Missing/rpc_missing", 0x1_2348_0000);
procedures!(PRESENT, "metrics.v1.Present", 0x1_2349_0000);

#[tokio::test(crate = "test_support::gate")]
async fn calls_of_procedures_that_a_server_does_not_have_share_one_label() {
    let server = serve_one(Counted::new(&PRESENT)).await;
    let client = server.client().await;
    let other = [
        ("service", "_other"),
        ("method", "_other"),
        ("code", "UNIMPLEMENTED"),
    ];
    let before = number("rpc_server_handled_total", &other);
    let faults = number("rpc_server_faults_total", &[("kind", "unknown_procedure")]);
    let error = call(&client, &MISSING, "a").await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(number("rpc_server_handled_total", &other) >= before + 1.0);
    assert!(number("rpc_server_faults_total", &[("kind", "unknown_procedure")]) >= faults + 1.0);
    assert!(of(Side::Server, Protocol::Native, &MISSING).is_none());
    assert_eq!(called(&MISSING).ended(Code::Unimplemented), 1);
}

procedures!(UNHEARD, "metrics.v1.Unheard", 0x1_234a_0000);

#[tokio::test(crate = "test_support::gate")]
async fn a_call_that_finds_no_server_is_counted_at_the_client_alone() {
    let failures = number("rpc_client_connect_failures_total", &[("protocol", "native")]);
    let client = Client::connect_lazy("mem:metrics-nobody");
    let call = client
        .call()
        .fail_fast()
        .send_recv::<_, String>(&UNHEARD[ECHO], String::new());
    let error: Error = within(call).await.unwrap_err();
    assert_eq!(called(&UNHEARD[ECHO]).ended(error.code()), 1);
    assert_eq!(called(&UNHEARD[ECHO]).in_flight(), 0);
    assert!(of(Side::Server, Protocol::Native, &UNHEARD[ECHO]).is_none());
    let labels = [("protocol", "native")];
    assert!(number("rpc_client_connect_failures_total", &labels) >= failures + 1.0);
}

procedures!(ONE_WAYS, "metrics.v1.OneWays", 0x1_234b_0000);

#[tokio::test(crate = "test_support::gate")]
async fn one_way_calls_are_counted_by_what_became_of_them() {
    let server = serve_one(Counted::new(&ONE_WAYS)).await;
    let client = server.client().await;
    let native = [("protocol", "native")];
    let told = |fate| {
        number(
            "rpc_client_one_ways_total",
            &[("protocol", "native"), ("fate", fate)],
        )
    };
    let sent = number("rpc_client_one_ways_sent_total", &native);
    let (handled, failed) = (told("handled"), told("failed"));
    for _ in 0..100 {
        within(client.call().send(&ONE_WAYS[ECHO], "a".to_owned()))
            .await
            .unwrap();
    }
    for _ in 0..5 {
        within(client.call().send(&ONE_WAYS[FAIL], "a".to_owned()))
            .await
            .unwrap();
    }
    within(client.settled()).await.unwrap();
    assert_eq!(
        served(&ONE_WAYS[ECHO]).one_ways().collect::<Vec<_>>(),
        [("handled", 100)]
    );
    assert_eq!(
        served(&ONE_WAYS[FAIL]).one_ways().collect::<Vec<_>>(),
        [("failed", 5)]
    );
    // They are no calls.
    assert_eq!(served(&ONE_WAYS[ECHO]).started(), 0);
    let labels = [("service", "metrics.v1.OneWays"), ("fate", "handled")];
    assert_eq!(number("rpc_server_one_ways_total", &labels), 100.0);
    assert!(number("rpc_client_one_ways_sent_total", &native) >= sent + 105.0);
    assert!(told("handled") >= handled + 100.0 && told("failed") >= failed + 5.0);
}

procedures!(STREAMS, "metrics.v1.Streams", 0x1_234c_0000);

#[tokio::test(crate = "test_support::gate")]
async fn streams_are_counted_when_they_end() {
    let server = serve_one(Counted::new(&STREAMS)).await;
    let client = server.client().await;
    let open = || async {
        let call = client.call().reply_stream(&STREAMS[COUNT], 1000_u64);
        within(call).await.unwrap()
    };
    let mut read: Streaming<u64> = open().await;
    while within(read.message()).await.unwrap().is_some() {}
    assert_eq!(called(&STREAMS[COUNT]).ended(Code::Ok), 1);
    // What is read after the end counts nothing.
    assert_eq!(within(read.message()).await.unwrap(), None);
    let mut left: Streaming<u64> = open().await;
    within(left.message()).await.unwrap();
    assert_eq!(called(&STREAMS[COUNT]).in_flight(), 1);
    drop(left);
    let codes = [(Code::Ok, 1), (Code::Cancelled, 1)];
    assert_eq!(called(&STREAMS[COUNT]).codes().collect::<Vec<_>>(), codes);
    until(|| served(&STREAMS[COUNT]).in_flight() == 0).await;
    assert_eq!(served(&STREAMS[COUNT]).started(), 2);
}

procedures!(BLOCKED, "metrics.v1.Blocked", 0x1_234d_0000);

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn each_handler_that_blocks_its_thread_is_counted() {
    let service = Counted::new(&BLOCKED);
    let server = serve_one(service.clone()).await;
    let client = server.client().await;
    let block = || {
        let client = client.clone();
        tokio::spawn(async move { call(&client, &BLOCKED[BLOCK], "a").await })
    };
    let first = block();
    let labels = [
        ("service", "metrics.v1.Blocked"),
        ("method", "rpc_block"),
        ("protocol", "native"),
    ];
    grown("rpc_server_blocked_handlers_total", &labels, 1.0).await;
    // The procedure is known to be slow now, so this handler has a task of its own from the start.
    let second = block();
    grown("rpc_server_blocked_handlers_total", &labels, 2.0).await;
    service.release();
    within(first).await.unwrap().unwrap();
    within(second).await.unwrap().unwrap();
    assert_eq!(served(&BLOCKED[BLOCK]).blocked(), 2);
    drop(server);
}

procedures!(IN_PROCESS, "metrics.v1.InProcess", 0x1_234e_0000);

#[tokio::test(crate = "test_support::gate")]
async fn a_client_in_process_counts_once_on_each_side() {
    let opened = [("transport", "in-process"), ("protocol", "native")];
    let before = number("rpc_server_connections_opened_total", &opened);
    let client = Client::in_process(Counted::new(&IN_PROCESS));
    call(&client, &IN_PROCESS[ECHO], "a").await.unwrap();
    for calls in [served(&IN_PROCESS[ECHO]), called(&IN_PROCESS[ECHO])] {
        assert_eq!((calls.started(), calls.ended(Code::Ok)), (1, 1));
    }
    assert!(number("rpc_server_connections_opened_total", &opened) >= before + 1.0);
    within(client.close()).await.unwrap();
}

procedures!(SHOWN, "metrics.v1.Shown", 0x1_2371_0000);

#[tokio::test(crate = "test_support::gate")]
async fn each_metric_of_calls_shows_what_was_counted() {
    let counted = Counted::new(&SHOWN);
    let server = serve_one(counted.clone()).await;
    let client = server.client().await;
    call(&client, &SHOWN[ECHO], "a").await.unwrap();
    call(&client, &SHOWN[FAIL], "a").await.unwrap_err();
    let waiting = tokio::spawn(async move { call(&client, &SHOWN[WAIT], "a").await });
    let of = |method| {
        [
            ("service", "metrics.v1.Shown"),
            ("method", method),
            ("protocol", "native"),
        ]
    };
    grown("rpc_server_in_flight", &of("rpc_wait"), 1.0).await;
    for side in ["server", "client"] {
        let shown = |what: &str, method| number(&format!("rpc_{side}_{what}"), &of(method));
        for method in ["rpc_echo", "rpc_fail", "rpc_wait"] {
            let has_ended = method != "rpc_wait";
            let ended = if has_ended { 1.0 } else { 0.0 };
            assert_eq!(shown("started_total", method), 1.0, "{side} {method}");
            assert_eq!(shown("in_flight", method), 1.0 - ended, "{side} {method}");
            assert_eq!(shown("handled_total", method), ended, "{side} {method}");
            assert_eq!(shown("handling_seconds", method), ended, "{side} {method}");
        }
        let coded = |code| [("service", "metrics.v1.Shown"), ("code", code)];
        let handled = format!("rpc_{side}_handled_total");
        assert_eq!(number(&handled, &coded("OK")), 1.0);
        assert_eq!(number(&handled, &coded("NOT_FOUND")), 1.0);
    }
    counted.release();
    within(waiting).await.unwrap().unwrap();
}
