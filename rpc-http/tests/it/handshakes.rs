//! Peers that do not end their handshake.

use std::time::Duration;

use demo_api::demo::kv::v1::FetchRequest;
use rpc_runtime::{
    Limits,
    server::{Counters, ServerHandle},
};
use test_support::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    TestServer,
    caller::{Caller, prefixed},
    certificates::Ca,
};

/// Connects, and sends the first bytes of a handshake.
async fn begin(address: &str, sent: &[u8]) -> TcpStream {
    let (_, socket) = address.split_once("://").unwrap();
    let mut stream = TcpStream::connect(socket).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

/// Waits until the server has counted what `is_counted` looks for.
async fn counted(server: &ServerHandle, is_counted: impl Fn(&Counters) -> bool) {
    within(async {
        while !is_counted(&server.counters()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn assert_closed(mut stream: TcpStream) {
    // A reset is an end, too.
    let _ = within(stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn a_peer_that_stops_in_its_handshake_is_cut_off_in_time() {
    let limits = Limits::default().handshake_timeout(Duration::from_millis(100));
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| server.limits(limits)).await;
    let mut peers = Vec::new();
    for sent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"\0"] {
        peers.push(begin(&server.address, sent).await);
    }
    for peer in peers {
        assert_closed(peer).await;
    }
    counted(&server.handle, |counters| counters.handshakes_timed_out() == 4).await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_stops_in_its_tls_handshake_is_cut_off_in_time() {
    let ca = Ca::new();
    let limits = Limits::default().handshake_timeout(Duration::from_millis(100));
    let tls = ca.server_tls().build().unwrap();
    let server = TestServer::start_with("tls://127.0.0.1:0", |server| server.tls(tls).limits(limits)).await;
    let mut peers = Vec::new();
    for sent in [&b""[..], b"\x16", b"\x16\x03\x01\x00\xff"] {
        peers.push(begin(&server.address, sent).await);
    }
    // One that has ended its TLS handshake and sends no preface. On a slow machine it may come too late for that, too.
    let silent = ca.dial(&server.address, None, &[b"h2"]).await;
    for peer in peers {
        assert_closed(peer).await;
    }
    counted(&server.handle, |counters| counters.handshakes_timed_out() == 4).await;
    drop(silent);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_stops_in_its_preface_loses_its_place_and_one_that_has_sent_it_does_not() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| server.max_handshakes(1)).await;
    let mute = begin(&server.address, b"P").await;
    // Each of them needs the only place.
    let first = Caller::connect(&server.address).await;
    let second = Caller::connect(&server.address).await;
    assert_closed(mute).await;
    for caller in [&first, &second] {
        let request = prefixed(&FetchRequest::default());
        let answer = caller.call("/demo.kv.v1.Kv/rpc_fetch", &[], request).await;
        assert_eq!(answer.code(), "0");
    }
    assert_eq!(server.handle.counters().handshakes_evicted(), 1);
    server.stop().await;
}

#[tokio::test]
async fn peers_in_a_tls_handshake_do_not_hold_up_a_drain() {
    let ca = Ca::new();
    let tls = ca.server_tls().build().unwrap();
    let server = TestServer::start_with("tls://127.0.0.1:0", |server| {
        server.tls(tls).drain_timeout(Duration::from_secs(3600))
    })
    .await;
    let mut peers = Vec::new();
    for sent in [&b""[..], b"\x16\x03\x01\x00\xff"] {
        peers.push(begin(&server.address, sent).await);
    }
    let silent = ca.dial(&server.address, None, &[b"h2"]).await.unwrap();
    within(server.stop()).await;
    drop((peers, silent));
}

#[tokio::test]
async fn a_tls_handshake_that_ends_in_a_drain_gives_an_http2_peer_no_frame_of_ours() {
    let ca = Ca::new();
    let tls = ca.server_tls().build().unwrap();
    let server = TestServer::start_with("tls://127.0.0.1:0", |server| server.tls(tls)).await;
    let stream = begin(&server.address, b"").await;
    let stopped = tokio::spawn(async move {
        server.handle.drain();
        server.serving.await.unwrap().unwrap()
    });
    tokio::task::yield_now().await;
    let mut heard = Vec::new();
    // The server may also have closed the stream before.
    if let Ok(mut stream) = ca.shake_hands(stream, None, &[b"h2"]).await {
        let _ = within(stream.read_to_end(&mut heard)).await;
    }
    assert_eq!(heard, b"");
    within(stopped).await.unwrap();
}
