//! The end of connections and servers: drains, restarts, and what becomes of calls.

use std::time::Duration;

use demo_api::demo::kv::v1::KvClient;
use rpc_http::Grpc;
use rpc_runtime::{Code, Executed};
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

use super::{builder, connect, grpc};
use crate::TestServer;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_client_comes_back_to_a_server_that_was_started_again() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let address = server.address.clone();
    let kv = connect(&address).await;
    kv.send_recv().noop().await.unwrap();
    assert!(timeout(LONG, server.stop()).await.unwrap().is_clean());
    let again = TestServer::start(&address).await;
    kv.send_recv().noop().await.unwrap();
    drop(kv);
    again.stop().await;
}

#[tokio::test]
async fn calls_that_are_open_in_a_drain_end_well_and_others_go_elsewhere() {
    let (first, second) = (
        TestServer::start("tcp://127.0.0.1:0").await,
        TestServer::start("tcp://127.0.0.1:0").await,
    );
    second
        .native()
        .await
        .send_recv()
        .update("here", &b"second"[..])
        .await
        .unwrap();
    let kv: KvClient = builder(&grpc(&first.address))
        .fallback(grpc(&second.address))
        .connect()
        .await
        .unwrap();
    let open = {
        let kv = kv.clone();
        tokio::spawn(async move { kv.send_recv().sleep(300).await })
    };
    while first.handle.load().handler_tasks() == 0 {
        tokio::task::yield_now().await;
    }
    let stopped = tokio::spawn(first.stop());
    while kv.send_recv().fetch("here").await.unwrap().is_none() {
        sleep(Duration::from_millis(1)).await;
    }
    open.await.unwrap().unwrap();
    assert!(timeout(LONG, stopped).await.unwrap().unwrap().is_clean());
    drop(kv);
    second.stop().await;
}

#[tokio::test]
async fn a_client_takes_whichever_protocol_a_server_speaks() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let silent = super::raw::RawServer::bind().await;
    for (address, fallback) in [
        (
            silent.address().replace("grpc://", "tcp://"),
            grpc(&server.address),
        ),
        (grpc(&server.address), server.address.clone()),
    ] {
        let kv: KvClient = builder(&address).fallback(fallback).connect_lazy();
        kv.send_recv().noop().await.unwrap();
    }
    // A server that speaks only gRPC, asked first in our own protocol.
    let foreign = super::raw::RawServer::bind().await;
    let address = foreign.address();
    let native = address.replace("grpc://", "tcp://");
    let kv: KvClient = builder(&native).fallback(address).connect_lazy();
    let call = tokio::spawn(async move { kv.send_recv().noop().await });
    let mut wrong = foreign.accept_stream().await;
    wrong.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut connection = foreign.accept().await;
    let stream = connection.request().await;
    connection.answer(stream, &()).await;
    call.await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_or_not() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let address = server.address.clone();
    server.stop().await;
    let error = builder(&grpc(&address)).connect().await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert!(error.message().contains("no server listens there"), "{error}");
    let kv = builder(&grpc(&address)).connect_lazy();
    let waiting = {
        let kv: KvClient = kv.clone();
        tokio::spawn(async move { kv.send_recv().noop().await })
    };
    let error = kv.send_recv().fail_fast().noop().await.unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    let server = TestServer::start(&address).await;
    waiting.await.unwrap().unwrap();
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn a_dropped_client_leaves_no_connection_behind() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let kv = connect(&server.address).await;
    kv.send_recv().noop().await.unwrap();
    assert!(server.handle.load().connections() > 0);
    kv.send().update("last", &b"v"[..]).await.unwrap();
    drop(kv);
    let gone = async {
        while server.handle.load().connections() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, gone).await.unwrap();
    // One-way calls are still made.
    let native = server.native().await;
    while native.send_recv().fetch("last").await.unwrap().is_none() {
        sleep(Duration::from_millis(1)).await;
    }
    drop(native);
    server.stop().await;
}

#[tokio::test]
async fn keep_alive_asks_a_quiet_server_again_and_again_and_gives_up_a_dead_one() {
    let quiet = super::raw::RawServer::bind().await;
    let quick = Grpc::new()
        .keep_alive(Duration::from_millis(5))
        .keep_alive_timeout(LONG);
    let kv: KvClient = KvClient::builder(quiet.address()).protocol(quick).connect_lazy();
    let call = tokio::spawn(async move { kv.send_recv().timeout(None).noop().await });
    let mut connection = quiet.accept().await;
    let stream = connection.request().await;
    // It has no answer yet, and lives.
    connection.answer_pings(3).await;
    connection.answer(stream, &()).await;
    timeout(LONG, call).await.unwrap().unwrap().unwrap();
    let dead = super::raw::RawServer::bind().await;
    let quick = Grpc::new()
        .keep_alive(Duration::from_millis(5))
        // Time for a slow machine to make the call.
        .keep_alive_timeout(Duration::from_secs(1));
    let kv: KvClient = KvClient::builder(dead.address()).protocol(quick).connect_lazy();
    let call = tokio::spawn(async move { kv.send_recv().timeout(None).noop().await });
    let mut connection = dead.accept().await;
    connection.request().await;
    // From here on it reads nothing, so it answers no PING.
    let error = timeout(LONG, call).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    assert!(
        error
            .message()
            .contains("does not answer PINGs: Grpc::keep_alive_timeout"),
        "{error}"
    );
}

#[tokio::test]
async fn a_ping_is_waited_for_after_the_last_call_has_ended() {
    let dead = super::raw::RawServer::bind().await;
    let quick = Grpc::new()
        .keep_alive(Duration::from_millis(5))
        // Time for a slow machine to make the call.
        .keep_alive_timeout(Duration::from_secs(1));
    let kv: KvClient = KvClient::builder(dead.address()).protocol(quick).connect_lazy();
    let call = tokio::spawn({
        let kv = kv.clone();
        async move { kv.send_recv().timeout(None).noop().await }
    });
    let mut connection = dead.accept().await;
    connection.request().await;
    connection.unanswered_ping().await;
    call.abort();
    connection.closed().await;
}
