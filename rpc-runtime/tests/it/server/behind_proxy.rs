//! Listeners behind proxies: whom they believe, and what becomes of other peers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Error, Limits, Server,
    middleware::{ServerCall, from_fn},
    server::{Counters, Endpoint, Peer, ServerBuilder, TerminatePolicy},
};
use test_support::{Lab, Logged, Running, lab::*, serve, unix, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use crate::metrics::number;

/// A proxy that begins each connection to a server with a header of its own.
struct Proxy {
    /// Where its clients connect, without a scheme.
    place: String,
    passing: JoinHandle<()>,
}

impl Proxy {
    async fn to(server: &str, header: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let server = server.split_once("://").unwrap().1.to_owned();
        let passing = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = TcpStream::connect(&server).await.unwrap();
                let header = header.clone();
                tokio::spawn(async move {
                    server.write_all(&header).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { place, passing }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

/// A header of version 2: version and command, family and protocol, the announced length, and what follows.
fn header(command: u8, family: u8, len: u16, rest: &[u8]) -> Vec<u8> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [&signature[..], &[command, family], &len.to_be_bytes(), rest].concat()
}

/// A header that names `client`, with a TLV that says nothing.
fn naming(client: &str) -> Vec<u8> {
    let (rest, family) = match client.parse().unwrap() {
        SocketAddr::V4(client) => {
            let addresses = [client.ip().octets(), [127, 0, 0, 1]].concat();
            (
                [addresses, client.port().to_be_bytes().to_vec(), vec![0, 80]].concat(),
                0x11,
            )
        }
        SocketAddr::V6(client) => {
            let addresses = [client.ip().octets(), [0; 16]].concat();
            (
                [addresses, client.port().to_be_bytes().to_vec(), vec![0, 80]].concat(),
                0x21,
            )
        }
    };
    let rest = [rest, vec![4, 0, 1, 0]].concat();
    header(0x21, family, rest.len() as u16, &rest)
}

/// The peers of the calls that a server has got.
type Peers = Arc<Mutex<Vec<Peer>>>;

/// Serves a lab behind proxies on this machine, and notes the peer of each call.
async fn behind(address: &str, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Running, Peers) {
    let peers = Peers::default();
    let noted = Arc::clone(&peers);
    let note = from_fn(move |call: ServerCall, next| {
        noted.lock().unwrap().push(call.peer().clone());
        async move { next.run(call).await }
    });
    let server = Server::builder()
        .service(Lab::default())
        .layer(note)
        .listener(Endpoint::new(address).behind_proxies(["127.0.0.0/8", "::1"]))
        .signals(false);
    (serve(configure(server)).await, peers)
}

/// Waits until the server has counted what `counted` looks for.
async fn counted(server: &Running, counted: impl Fn(&Counters) -> bool) {
    within(async {
        while !counted(&server.handle.counters()) {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Connects to the server itself, writes `bytes`, and waits until the server has closed the connection.
async fn is_cut_off(server: &Running, bytes: &[u8]) {
    let place = server.address.strip_prefix("tcp://").unwrap();
    let mut stream = TcpStream::connect(place).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    is_closed(&mut stream).await;
}

/// Waits until the server has closed a connection on which it has nothing to say.
async fn is_closed(stream: &mut TcpStream) {
    // It may be reset, since the server has not read all.
    if let Ok(count) = within(stream.read(&mut [0; 100])).await {
        assert_eq!(count, 0, "the server says something");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_handler_sees_the_client_that_the_proxy_names() {
    let (server, peers) = behind("tcp://127.0.0.1:0", |server| server).await;
    for client in ["192.0.2.1:513", "[2001:db8::9]:8080"] {
        let proxy = Proxy::to(&server.address, naming(client)).await;
        let caller = within(Client::connect(format!("tcp://{}", proxy.place)))
            .await
            .unwrap();
        assert_eq!(text(&caller, &ECHO, "through").await.unwrap(), "through");
        let peer = peers.lock().unwrap().pop().unwrap();
        assert_eq!(peer.address(), format!("tcp://{client}"));
        assert_eq!(peer.socket_addr(), Some(client.parse().unwrap()));
        assert!(peer.proxy().unwrap().ip().is_loopback());
        assert!(!peer.is_local());
    }
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_proxy_that_speaks_for_itself_is_the_peer() {
    let (server, peers) = behind("tcp://127.0.0.1:0", |server| server).await;
    // LOCAL, and a client of a Unix socket.
    for header in [header(0x20, 0, 0, b""), header(0x21, 0x31, 216, &[7; 216])] {
        let proxy = Proxy::to(&server.address, header).await;
        let caller = within(Client::connect(format!("tcp://{}", proxy.place)))
            .await
            .unwrap();
        text(&caller, &ECHO, "check").await.unwrap();
        let peer = peers.lock().unwrap().pop().unwrap();
        assert_eq!(peer.socket_addr(), peer.proxy());
        assert!(peer.proxy().unwrap().ip().is_loopback() && !peer.is_local());
    }
    server.stop().await;
}

#[cfg(feature = "_tls")]
#[tokio::test(crate = "test_support::gate")]
async fn the_header_comes_before_tls() {
    let world = crate::tls::certs::World::new();
    let tls = world.server().build().unwrap();
    let (server, peers) = behind("tls://127.0.0.1:0", |server| server.tls(tls)).await;
    let proxy = Proxy::to(&server.address, naming("192.0.2.1:513")).await;
    let caller = Client::builder(format!("tls://{}", proxy.place)).tls(world.client().build().unwrap());
    let caller: Client = within(caller.connect()).await.unwrap();
    assert_eq!(text(&caller, &ECHO, "secret").await.unwrap(), "secret");
    let peer = peers.lock().unwrap().pop().unwrap();
    assert_eq!(peer.address(), "tls://192.0.2.1:513");
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_loopback_address_that_a_proxy_names_may_not_terminate() {
    for policy in [TerminatePolicy::default(), TerminatePolicy::loopback()] {
        let (server, _) = behind("tcp://127.0.0.1:0", |server| server.terminate_policy(policy)).await;
        let proxy = Proxy::to(&server.address, naming("127.0.0.1:513")).await;
        let caller = within(Client::connect(format!("tcp://{}", proxy.place)))
            .await
            .unwrap();
        let error: Error = within(caller.terminate()).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        assert_eq!(text(&caller, &ECHO, "alive").await.unwrap(), "alive");
        server.stop().await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn what_is_no_header_of_a_trusted_proxy_is_closed_counted_and_logged() {
    let logged = Logged::here();
    let (server, peers) = behind("tcp://127.0.0.1:0", |server| server).await;
    let (metric, kind) = ("rpc_server_accept_problems_total", [("kind", "proxy_header")]);
    let before = number(metric, &kind);
    let wrong: [&[u8]; 5] = [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        b"PROXY UNKNOWN\r\n",
        // What a client of ours sends, and one of TLS.
        &[0, 0, 0, 20, 1],
        &[0x16, 3, 1, 0, 1],
        // It announces less than its address has, and more than anyone needs.
        &header(0x21, 0x11, 3, &[1, 2, 3]),
    ];
    for (number, bytes) in wrong.iter().enumerate() {
        is_cut_off(&server, bytes).await;
        counted(&server, |counters| {
            counters.proxy_headers_refused() == number as u64 + 1
        })
        .await;
    }
    is_cut_off(&server, &header(0x21, 0x11, u16::MAX, &[0; 500])).await;
    counted(&server, |counters| counters.proxy_headers_refused() == 6).await;
    assert!(number(metric, &kind) >= before + 6.0);
    let error = within(Client::connect(&server.address)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(peers.lock().unwrap().is_empty());
    let message = "a connection was closed: it has no PROXY header of a trusted proxy";
    let faults = logged.picked(message, &["fault"]);
    assert!(faults[0].contains("send-proxy-v2"), "{faults:?}");
    // The listener goes on.
    let proxy = Proxy::to(&server.address, naming("192.0.2.1:513")).await;
    let caller = within(Client::connect(format!("tcp://{}", proxy.place)))
        .await
        .unwrap();
    text(&caller, &ECHO, "still").await.unwrap();
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_proxy_that_is_not_trusted_is_closed_without_a_look_at_its_header() {
    let endpoint = Endpoint::new("tcp://127.0.0.1:0").behind_proxies(["192.0.2.0/24"]);
    let server = Server::builder()
        .service(Lab::default())
        .listener(endpoint)
        .signals(false);
    let server = serve(server).await;
    is_cut_off(&server, &naming("192.0.2.1:513")).await;
    // Not even one byte is waited for.
    is_cut_off(&server, b"").await;
    counted(&server, |counters| counters.proxy_headers_refused() == 2).await;
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn half_a_header_has_the_time_of_a_handshake_and_keeps_no_honest_client_out() {
    let limits = Limits::default().handshake_timeout(Duration::from_secs(2));
    let (server, _) = behind("tcp://127.0.0.1:0", |server| {
        server.limits(limits).max_handshakes(4)
    })
    .await;
    let place = server.address.strip_prefix("tcp://").unwrap();
    let proxy = Proxy::to(&server.address, naming("192.0.2.1:513")).await;
    let whole = naming("192.0.2.2:2");
    let mut slow = Vec::new();
    for len in [0, 1, 11, 12, 13, 16, 20, whole.len() - 1] {
        let mut stream = TcpStream::connect(place).await.unwrap();
        stream.write_all(&whole[..len]).await.unwrap();
        slow.push(stream);
    }
    let caller = within(Client::connect(format!("tcp://{}", proxy.place)))
        .await
        .unwrap();
    text(&caller, &ECHO, "honest").await.unwrap();
    for stream in &mut slow {
        // The server closes it: early if an honest client needed its place, and at the limit otherwise.
        is_closed(stream).await;
    }
    counted(&server, |counters| {
        counters.handshakes_timed_out() + counters.handshakes_evicted() == 8
    })
    .await;
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_drain_waits_for_no_header() {
    let (server, _) = behind("tcp://127.0.0.1:0", |server| server).await;
    let place = server.address.strip_prefix("tcp://").unwrap();
    let mut mute = TcpStream::connect(place).await.unwrap();
    let proxy = Proxy::to(&server.address, naming("192.0.2.1:513")).await;
    let caller = within(Client::connect(format!("tcp://{}", proxy.place)))
        .await
        .unwrap();
    text(&caller, &ECHO, "before").await.unwrap();
    assert!(server.stop().await.is_clean());
    is_closed(&mut mute).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn an_endpoint_that_cannot_be_behind_proxies_does_not_bind() {
    for (address, networks, says) in [
        ("mem:behind-proxies", &["::1"][..], "tcp:// and tls:// only"),
        (&unix("nowhere-behind"), &["::1"], "tcp:// and tls:// only"),
        ("tcp://127.0.0.1:0", &[], "names no address"),
        (
            "tcp://127.0.0.1:0",
            &["10.0.0.0/33"],
            "\"10.0.0.0/33\" is no IP address and no network",
        ),
        ("127.0.0.1:5005", &["::1"], "write tcp://127.0.0.1:5005"),
    ] {
        let endpoint = Endpoint::new(address).behind_proxies(networks.iter().copied());
        let server = Server::builder().service(Lab::default()).listener(endpoint);
        let error = server.bind().await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(says), "{error}");
    }
}
