//! Connections, their bytes, their memory, and drains.

use rpc_runtime::{Client, Server, metrics::Side};
use test_support::{serve, serve_one, until, wire, within};

use super::{Counted, ECHO, WAIT, call, called, grown, number, procedures, served};

procedures!(ENDS, "metrics.v1.Ends", 0x1_2350_0000);

/// The numbers of a side that tests of connections compare.
fn closed(side: Side, transport: &str, end: &str) -> f64 {
    let name = format!("rpc_{side}_connections_closed_total");
    number(
        &name,
        &[("transport", transport), ("protocol", "native"), ("end", end)],
    )
}

#[tokio::test(crate = "test_support::gate")]
async fn connections_are_counted_by_transport_and_by_why_they_end() {
    let tcp = [("transport", "tcp"), ("protocol", "native")];
    let opened = |side: &str| number(&format!("rpc_{side}_connections_opened_total"), &tcp);
    let before = (opened("server"), opened("client"));
    let ended = (
        closed(Side::Server, "tcp", "closed"),
        closed(Side::Client, "tcp", "closed"),
    );
    let server = serve_one(Counted::new(&ENDS)).await;
    let client = server.client().await;
    assert!(opened("server") >= before.0 + 1.0 && opened("client") >= before.1 + 1.0);
    assert!(number("rpc_server_connections", &tcp) >= 1.0);
    assert!(number("rpc_client_connections", &tcp) >= 1.0);
    within(client.close()).await.unwrap();
    let least = |side, end, before| {
        let name = format!("rpc_{side}_connections_closed_total");
        async move { grown(&name, &[("transport", "tcp"), ("end", end)], before + 1.0).await }
    };
    least("server", "closed", ended.0).await;
    least("client", "closed", ended.1).await;
    // A peer that speaks something else.
    let rejected = closed(Side::Server, "tcp", "handshake_rejected");
    let mut stranger = wire::HandPeer::connect(&server.address).await;
    stranger.write(b"GET / HTTP/1.1\r\n\r\n").await;
    least("server", "handshake_rejected", rejected).await;
    drop(stranger);
    // A server that drains.
    let drained = (
        closed(Side::Server, "tcp", "drained"),
        closed(Side::Client, "tcp", "drained"),
    );
    let client = server.client().await;
    server.stop().await;
    least("server", "drained", drained.0).await;
    least("client", "drained", drained.1).await;
    drop(client);
}

procedures!(BYTES, "metrics.v1.Bytes", 0x1_2351_0000);

#[tokio::test(crate = "test_support::gate")]
async fn bytes_are_counted_on_both_sides() {
    let names = [
        "rpc_server_received_bytes_total",
        "rpc_server_sent_bytes_total",
        "rpc_client_received_bytes_total",
        "rpc_client_sent_bytes_total",
    ];
    let now = || names.map(|name| number(name, &[("protocol", "native")]));
    let server = serve_one(Counted::new(&BYTES)).await;
    let client = server.client().await;
    let before = now();
    call(&client, &BYTES[ECHO], &"a".repeat(100_000)).await.unwrap();
    for ((name, before), after) in names.into_iter().zip(before).zip(now()) {
        assert!(after >= before + 100_000.0, "{name}: {before} and {after}");
    }
}

procedures!(MEMORY, "metrics.v1.Memory", 0x1_2352_0000);

#[tokio::test(crate = "test_support::gate")]
async fn the_memory_of_servers_is_shown_against_its_limit() {
    let service = Counted::new(&MEMORY);
    let server = Server::builder()
        .service(service.clone())
        .listener("tcp://127.0.0.1:0")
        .max_buffered_bytes(2_000_000)
        .signals(false);
    let server = serve(server).await;
    let client = server.client().await;
    let call = tokio::spawn(async move { call(&client, &MEMORY[WAIT], &"a".repeat(400_000)).await });
    // The request counts until its handler is gone. Other servers of other tests hold much less of more.
    until(|| server.handle.buffered_bytes() >= 400_000).await;
    assert!(number("rpc_server_buffered_bytes", &[]) >= 400_000.0);
    assert!(number("rpc_server_buffered_limit_bytes", &[]) >= 2_000_000.0);
    assert!(number("rpc_server_buffered_ratio", &[]) >= 0.2);
    service.release();
    within(call).await.unwrap().unwrap();
}

procedures!(DRAINS, "metrics.v1.Drains", 0x1_2353_0000);

#[tokio::test(crate = "test_support::gate")]
async fn drains_and_what_became_of_their_calls_are_counted() {
    let service = Counted::new(&DRAINS);
    let server = serve_one(service.clone()).await;
    let client = server.client().await;
    let completed = || number("rpc_server_drained_calls_total", &[("outcome", "completed")]);
    let (drains, before) = (number("rpc_server_drains_total", &[]), completed());
    let call = tokio::spawn(async move { call(&client, &DRAINS[WAIT], "a").await });
    until(|| {
        rpc_runtime::metrics::snapshot().procedures().iter().any(|one| {
            one.side() == Side::Server && one.path() == DRAINS[WAIT].path() && one.in_flight() == 1
        })
    })
    .await;
    server.handle.drain();
    assert!(number("rpc_server_drains_total", &[]) >= drains + 1.0);
    assert!(number("rpc_server_draining", &[]) >= 1.0);
    service.release();
    within(call).await.unwrap().unwrap();
    server.report().await;
    assert!(completed() >= before + 1.0);
}

procedures!(AGAIN, "metrics.v1.Again", 0x1_2354_0000);

#[tokio::test(crate = "test_support::gate")]
async fn a_connection_that_replaces_another_is_a_reconnect_and_a_call_that_moves_is_a_retry() {
    let reconnects = number("rpc_client_reconnects_total", &[("protocol", "native")]);
    let service = Counted::new(&AGAIN);
    let first = test_support::serve_at("mem:metrics-again", service.clone()).await;
    let client = within(Client::connect("mem:metrics-again")).await.unwrap();
    call(&client, &AGAIN[ECHO], "a").await.unwrap();
    first.stop().await;
    let second = test_support::serve_at("mem:metrics-again", service).await;
    call(&client, &AGAIN[ECHO], "a").await.unwrap();
    assert!(number("rpc_client_reconnects_total", &[("protocol", "native")]) >= reconnects + 1.0);
    // However often it was sent, it is one call.
    assert_eq!(
        (called(&AGAIN[ECHO]).started(), called(&AGAIN[ECHO]).handled()),
        (2, 2)
    );
    assert_eq!(served(&AGAIN[ECHO]).started(), 2);
    within(client.close()).await.unwrap();
    second.stop().await;
}
