//! The program's own answers, over HTTP/1.1 and HTTP/2, on the port of gRPC and the native protocol.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use demo_api::demo::kv::v1::PingRequest;
use http::{Request, Response, StatusCode};
use rpc_http::Http;
use rpc_runtime::{
    Limits,
    server::{Counters, Peer},
};
use test_support::within;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Notify,
    time::sleep,
};

use crate::{
    TestServer,
    caller::{Caller, prefixed},
    certificates::Ca,
};

const SHORT: Duration = Duration::from_millis(50);

/// The routes of the tests.
async fn page(request: Request<Bytes>) -> Response<Bytes> {
    let path = request.uri().path().to_owned();
    match &*path {
        "/echo" => Response::new(request.into_body()),
        "/peer" => {
            let peer = request.extensions().get::<Peer>().expect("it is there");
            Response::new(peer.address().to_owned().into())
        }
        "/hang" => pending().await,
        "/panic" => panic!("the test wants it"),
        "/big" => Response::new(vec![b'x'; BIG].into()),
        _ => {
            let mut answer = Response::new(format!("{} {path}", request.method()).into());
            if path == "/none" {
                *answer.status_mut() = StatusCode::NOT_FOUND;
            }
            answer
        }
    }
}

/// More than any buffer of the OS.
const BIG: usize = 64 << 20;

fn guest() -> Http {
    Http::new().grpc().routes(page)
}

async fn start() -> TestServer {
    TestServer::with_guest(guest()).await
}

/// A client of HTTP/1 that sends just what a test says.
struct Plain<S>(BufReader<S>);

impl Plain<TcpStream> {
    async fn connect(server: &TestServer) -> Self {
        let socket = TcpStream::connect(server.address.trim_start_matches("tcp://"))
            .await
            .unwrap();
        Self(BufReader::new(socket))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Plain<S> {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may close before it has read all.
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// Reads the head of an answer, up to its empty line.
    async fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let len = within(self.0.read_line(&mut head)).await.unwrap();
            assert!(len > 0, "the server closed after {head:?}");
        }
        head
    }

    /// Reads an answer that has a length: its status, its head and its body.
    async fn answer(&mut self) -> (u16, String, String) {
        let head = self.head().await;
        let (_, length) = head
            .split_once("content-length: ")
            .unwrap_or_else(|| panic!("{head}"));
        let (length, _) = length.split_once('\r').unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        within(self.0.read_exact(&mut body)).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, String::from_utf8(body).unwrap())
    }

    /// Sends a request, and reads the answer.
    async fn ask(&mut self, request: impl AsRef<[u8]>) -> (u16, String, String) {
        self.send(request).await;
        self.answer().await
    }

    /// Reads until the server closes; returns what came before. A reset is an end, too.
    async fn closed(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = within(self.0.read_to_end(&mut rest)).await;
        rest
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: kv\r\n\r\n")
}

async fn counted(server: &TestServer, count: impl Fn(&Counters) -> u64) {
    within(async {
        while count(&server.handle.counters()) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_of_http1_takes_one_request_after_the_other() {
    let server = start().await;
    let mut curl = Plain::connect(&server).await;
    let (status, head, body) = curl.ask(get("/one")).await;
    assert_eq!((status, &*body), (200, "GET /one"));
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("date: "),
        "{head}"
    );
    assert!(!head.contains("connection: close"), "{head}");
    let (status, _, body) = curl.ask(get("/none")).await;
    assert_eq!((status, &*body), (404, "GET /none"));
    let posted = "POST /echo HTTP/1.1\r\nHost: kv\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(curl.ask(posted).await.2, "abc");
    let chunked = "POST /echo HTTP/1.1\r\nHost: kv\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(curl.ask(chunked).await.2, "abcde");
    let (_, _, peer) = curl.ask(get("/peer")).await;
    assert_eq!(peer, format!("tcp://{}", curl.0.get_ref().local_addr().unwrap()));
    // A HEAD has the length of the body, and no body.
    curl.send("HEAD /one HTTP/1.1\r\nHost: kv\r\n\r\n").await;
    let head = curl.head().await;
    assert!(head.contains("content-length: 9\r\n"), "{head}");
    // Pipelined requests are answered in their order.
    curl.send([get("/a"), get("/b"), get("/c")].concat()).await;
    for path in ["/a", "/b", "/c"] {
        assert_eq!(curl.answer().await.2, format!("GET {path}"));
    }
    curl.send("GET /last HTTP/1.0\r\n\r\n").await;
    assert!(curl.head().await.starts_with("HTTP/1.0 200 OK\r\n"));
    assert_eq!(curl.closed().await, b"GET /last");
    server.stop().await;
}

#[tokio::test]
async fn requests_of_http2_go_to_the_routes_unless_they_are_grpc_calls() {
    let server = start().await;
    let caller = Caller::connect(&server.address).await;
    let answer = caller
        .call("/echo", &[("content-type", "text/plain")], vec![b'x'; 500_000])
        .await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 500_000));
    assert_eq!(answer.headers["content-length"], "500000");
    let answer = caller.call("/none", &[("content-type", "")], Bytes::new()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (404, &b"POST /none"[..])
    );
    let ping = prefixed(&PingRequest {
        text: "hello".to_owned(),
    });
    let answer = caller.call("/demo.kv.v1.Kv/rpc_ping", &[], ping).await;
    assert_eq!(answer.code(), "0");
    let answer = caller.call("/one", &[], Bytes::new()).await;
    assert_eq!(answer.code(), "12", "it has gRPC's content type");
    // The native protocol is there, too.
    server.native().await.send_recv().ping("hello").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn tls_agrees_on_either_http() {
    let ca = Ca::new();
    let tls = ca.server_tls().build().unwrap();
    let server = TestServer::start_with("tls://127.0.0.1:0", |server| server.tls(tls).guest(guest())).await;
    let http1 = ca.dial(&server.address, None, &[b"http/1.1"]).await.unwrap();
    let mut curl = Plain(BufReader::new(http1));
    assert_eq!(curl.ask(get("/one")).await.2, "GET /one");
    let http2 = ca
        .dial(&server.address, None, &[b"h2", b"http/1.1"])
        .await
        .unwrap();
    let caller = Caller::over(http2).await;
    let answer = caller
        .call("/one", &[("content-type", "a/b")], Bytes::new())
        .await;
    assert_eq!(&answer.body[..], b"POST /one");
    drop(curl);
    server.stop().await;
}

#[tokio::test]
async fn what_a_request_may_bring_is_bounded() {
    let server = TestServer::with_guest(guest().max_header_list(9 << 10).max_body(1000)).await;
    let mut curl = Plain::connect(&server).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: kv\r\nLong: {}\r\n\r\n",
        "x".repeat(9 << 10)
    );
    let head = {
        curl.send(long).await;
        curl.head().await
    };
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    curl.closed().await;
    counted(&server, Counters::ended_by_protocol).await;

    let mut curl = Plain::connect(&server).await;
    // Its length alone is enough, so a peer that waits for 100 sends nothing.
    let announced = "POST /echo HTTP/1.1\r\nHost: kv\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n";
    let (status, head, body) = curl.ask(announced).await;
    assert_eq!(status, 413);
    assert_eq!(body, "the body of the request is too long: Http::max_body\n");
    assert!(head.contains("connection: close\r\n"), "{head}");
    curl.closed().await;

    let mut curl = Plain::connect(&server).await;
    let chunks = "3e8\r\n".to_owned() + &"x".repeat(1000) + "\r\n1\r\nx\r\n";
    let chunked = format!("POST /echo HTTP/1.1\r\nHost: kv\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    assert_eq!(curl.ask(chunked).await.0, 413);
    curl.closed().await;

    let caller = Caller::connect(&server.address).await;
    let answer = caller
        .call("/echo", &[("content-type", "a/b")], vec![0; 1001])
        .await;
    assert_eq!(answer.status, 413);
    let answer = caller
        .call("/echo", &[("content-type", "a/b")], vec![0; 1000])
        .await;
    assert_eq!(answer.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_request_has_its_time() {
    let server = TestServer::with_guest(guest().request_timeout(SHORT)).await;
    let mut curl = Plain::connect(&server).await;
    let (status, _, body) = curl.ask(get("/hang")).await;
    assert_eq!(status, 503);
    assert_eq!(
        body,
        "the server took too long for this request: Http::request_timeout\n"
    );
    assert_eq!(curl.ask(get("/one")).await.0, 200, "the connection goes on");
    let half = "POST /echo HTTP/1.1\r\nHost: kv\r\nContent-Length: 10\r\n\r\nhalf";
    let (status, head, body) = curl.ask(half).await;
    assert_eq!(status, 408);
    assert_eq!(
        body,
        "the body of the request did not come in time: Http::request_timeout\n"
    );
    assert!(head.contains("connection: close\r\n"), "{head}");
    curl.closed().await;
    let caller = Caller::connect(&server.address).await;
    let answer = caller
        .call("/hang", &[("content-type", "a/b")], Bytes::new())
        .await;
    assert_eq!(answer.status, 503);
    server.stop().await;
}

#[tokio::test]
async fn a_panic_is_answered_and_ends_no_connection() {
    let server = start().await;
    let mut curl = Plain::connect(&server).await;
    assert_eq!(curl.ask(get("/panic")).await.0, 500);
    assert_eq!(curl.ask(get("/one")).await.0, 200);
    let caller = Caller::connect(&server.address).await;
    let answer = caller
        .call("/panic", &[("content-type", "a/b")], Bytes::new())
        .await;
    assert_eq!(answer.status, 500);
    server.stop().await;
}

#[tokio::test]
async fn headers_that_do_not_come_end_the_connection() {
    // The first request counts as the handshake.
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server
            .guest(guest())
            .limits(Limits::default().handshake_timeout(SHORT))
    })
    .await;
    let mut slow = Plain::connect(&server).await;
    slow.send("GET / HTTP/1.1\r\nHost: kv\r\nX: ").await;
    slow.closed().await;
    counted(&server, Counters::handshakes_timed_out).await;
    server.stop().await;

    let server = TestServer::with_guest(guest().header_timeout(SHORT)).await;
    let mut slow = Plain::connect(&server).await;
    // The next one has begun before the first is answered.
    slow.send(get("/one") + "GET /two HT").await;
    assert_eq!(slow.answer().await.2, "GET /one");
    slow.closed().await;
    counted(&server, Counters::ended_by_silence).await;
    // An idle connection is closed as well, and that is nobody's fault.
    let mut idle = Plain::connect(&server).await;
    assert_eq!(idle.ask(get("/one")).await.0, 200);
    assert_eq!(idle.closed().await, b"");
    assert_eq!(server.handle.counters().ended_by_silence(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_first_request_without_an_end_loses_its_place_to_others() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.guest(guest()).max_handshakes(1)
    })
    .await;
    let mut slow = Plain::connect(&server).await;
    slow.send("GET / HTTP/1.1\r\nHost: kv\r\n").await;
    let mut first = Plain::connect(&server).await;
    assert_eq!(first.ask(get("/one")).await.0, 200);
    // A peer that has asked something needs no place any more.
    let mut second = Plain::connect(&server).await;
    assert_eq!(second.ask(get("/one")).await.0, 200);
    assert_eq!(first.ask(get("/one")).await.0, 200);
    slow.closed().await;
    assert_eq!(server.handle.counters().handshakes_evicted(), 1);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let server = start().await;
    for (sent, status) in [
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400 "),
        ("GET / FTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        // Two lengths are how requests are smuggled.
        (
            "POST /echo HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            "HTTP/1.1 400 ",
        ),
        ("CONNECT kv:80 HTTP/1.1\r\nHost: kv:80\r\n\r\n", "HTTP/1.1 405 "),
    ] {
        let mut curl = Plain::connect(&server).await;
        curl.send(sent).await;
        let head = curl.head().await;
        assert!(head.starts_with(status), "{sent:?}: {head}");
    }
    counted(&server, Counters::ended_by_protocol).await;
    let mut curl = Plain::connect(&server).await;
    assert_eq!(curl.ask(get("/one")).await.0, 200);
    drop(curl);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_is_closed_after_many_requests() {
    let server = start().await;
    let mut curl = Plain::connect(&server).await;
    for number in 1..=1000 {
        let (status, head, _) = curl.ask(get("/one")).await;
        assert_eq!(status, 200);
        assert_eq!(head.contains("connection: close\r\n"), number == 1000, "{number}");
    }
    assert_eq!(curl.closed().await, b"");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_takes_no_answer_is_cut_off() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.guest(guest()).limits(Limits::default().write_stall(SHORT))
    })
    .await;
    let mut curl = Plain::connect(&server).await;
    curl.send(get("/big")).await;
    counted(&server, Counters::ended_by_write_stall).await;
    assert!(curl.closed().await.len() < BIG);
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_memory_answers_so() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.guest(guest()).max_buffered_bytes(1 << 20)
    })
    .await;
    let mut curl = Plain::connect(&server).await;
    // The answer is too long, and then the request.
    assert_eq!(curl.ask(get("/big")).await.0, 503);
    let long = format!(
        "POST /echo HTTP/1.1\r\nHost: kv\r\nContent-Length: 400000\r\n\r\n{}",
        "x".repeat(400_000)
    );
    assert_eq!(curl.ask(long).await.0, 503);
    let mut curl = Plain::connect(&server).await;
    assert_eq!(curl.ask(get("/one")).await.0, 200);
    drop(curl);
    server.stop().await;
}

/// Says when it is dropped.
struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_peer_that_leaves_ends_the_answer() {
    let (entered, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let guest = Http::new().grpc().routes({
        let (entered, ended) = (Arc::clone(&entered), Arc::clone(&ended));
        move |_| {
            let (entered, ended) = (Arc::clone(&entered), OnDrop(Arc::clone(&ended)));
            async move {
                let _ended = ended;
                entered.notify_one();
                pending().await
            }
        }
    });
    let server = TestServer::with_guest(guest).await;
    let mut curl = Plain::connect(&server).await;
    curl.send(get("/hang")).await;
    within(entered.notified()).await;
    drop(curl);
    within(ended.notified()).await;
    let caller = Caller::connect(&server.address).await;
    let (answer, mut stream) = caller.open("/hang", &[("content-type", "a/b")]).await;
    stream.send_data(Bytes::new(), true).unwrap();
    within(entered.notified()).await;
    drop((answer, stream));
    within(ended.notified()).await;
    server.stop().await;
}

/// A server whose drain would wait for an hour.
async fn patient(guest: Http) -> TestServer {
    TestServer::start_with("tcp://127.0.0.1:0", |server| {
        let hour = Duration::from_secs(3600);
        server.guest(guest.header_timeout(hour)).drain_timeout(hour)
    })
    .await
}

#[tokio::test]
async fn a_drain_closes_idle_connections_at_once() {
    let server = patient(guest()).await;
    let mut idle = Plain::connect(&server).await;
    assert_eq!(idle.ask(get("/one")).await.0, 200);
    // One whose first request is not complete, and one whose second is not.
    let mut first = Plain::connect(&server).await;
    first.send("GET / HTTP/1.1\r\nHost: kv\r\n").await;
    let mut second = Plain::connect(&server).await;
    second.send(get("/one") + "GET / HT").await;
    assert_eq!(second.answer().await.0, 200);
    server.handle.drain();
    for curl in [idle, first, second] {
        assert_eq!(curl.closed().await, b"");
    }
    within(server.stop()).await;
}

#[tokio::test]
async fn a_drain_lets_an_open_request_end_and_takes_no_further_one() {
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let guest = Http::new().grpc().routes({
        let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
        move |_| {
            let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
            async move {
                entered.notify_one();
                gate.notified().await;
                Response::new(Bytes::from_static(b"done"))
            }
        }
    });
    let server = patient(guest).await;
    let mut curl = Plain::connect(&server).await;
    curl.send(get("/one") + &get("/two")).await;
    within(entered.notified()).await;
    server.handle.drain();
    // Until the connection has seen the drain.
    within(async {
        while TcpStream::connect(server.address.trim_start_matches("tcp://"))
            .await
            .is_ok()
        {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    gate.notify_one();
    let (status, head, body) = curl.answer().await;
    assert_eq!((status, &*body), (200, "done"));
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert_eq!(curl.closed().await, b"", "the second request gets no answer");
    within(server.stop()).await;
}
