//! gRPC over TLS: ALPN decides who serves a connection.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use demo_api::{
    demo::kv::v1::{
        Answer as SessionAnswer, Command, FetchReply, FetchRequest, ImportReply, KvClient, UpdateRequest,
        WatchEvent, WatchRequest,
    },
    hello::v1::{GreetReply, GreetRequest, Hello, HelloServer},
};
use rpc_http::Http;
use rpc_runtime::{
    Context, Result,
    server::{Guest, GuestConnection, Transport},
    tls::{Identity, ServerTls},
};
use test_support::{Logged, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    TestServer,
    caller::{Answer, Caller, prefixed, read_chunk, take_message},
    certificates::{CLIENT, Ca, Leaf},
};

async fn serve(tls: ServerTls) -> TestServer {
    TestServer::start_with("tls://127.0.0.1:0", |server| server.tls(tls)).await
}

fn update(key: &str, value: &'static [u8]) -> Bytes {
    prefixed(&UpdateRequest {
        key: key.to_owned(),
        value: Bytes::from_static(value),
    })
}

fn fetch(key: &str) -> Bytes {
    prefixed(&FetchRequest { key: key.to_owned() })
}

/// Makes calls of all four kinds.
async fn all_kinds(grpc: &Caller) {
    let stored = grpc
        .call("/demo.kv.v1.Kv/rpc_update", &[], update("dog", b"woof"))
        .await;
    assert_eq!(stored.code(), "0");

    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_import", &[]).await;
    stream.send_data(update("cat", b"meow"), false).unwrap();
    stream.send_data(update("cow", b"moo"), true).unwrap();
    let imported = Answer::read(response).await;
    assert_eq!(imported.messages::<ImportReply>(), [ImportReply { entries: 2 }]);

    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_watch", &[]).await;
    let watch = WatchRequest {
        prefix: "d".to_owned(),
    };
    stream.send_data(prefixed(&watch), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut chunk = read_chunk(&mut body).await.unwrap();
    assert_eq!(take_message::<WatchEvent>(&mut chunk).unwrap().key, "dog");
    stream.send_reset(h2::Reason::CANCEL);

    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_session", &[]).await;
    let command = Command {
        key: "dog".to_owned(),
        value: Some(Bytes::from_static(b"wag")),
    };
    stream.send_data(prefixed(&command), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut chunk = read_chunk(&mut body).await.unwrap();
    let answer = take_message::<SessionAnswer>(&mut chunk).unwrap();
    assert_eq!(answer.before.as_deref(), Some(&b"woof"[..]));
    stream.send_data(Bytes::new(), true).unwrap();
    assert!(read_chunk(&mut body).await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn calls_of_all_kinds_go_over_tls() {
    let ca = Ca::new();
    let server = serve(ca.server_tls().build().unwrap()).await;
    let stream = ca.dial(&server.address, None, &[b"h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    all_kinds(&Caller::over(stream).await).await;
    server.stop().await;
}

#[tokio::test]
async fn calls_of_all_kinds_go_over_mutual_tls_and_nobody_else_gets_in() {
    let ca = Ca::new();
    let tls = ca.server_tls().client_roots(ca.roots()).build().unwrap();
    let server = serve(tls).await;
    let client = ca.client();
    let stream = ca.dial(&server.address, Some(&client), &[b"h2"]).await.unwrap();
    all_kinds(&Caller::over(stream).await).await;

    let logged = Logged::here();
    let stranger = Ca::new().client();
    for shown in [None, Some(&stranger)] {
        // A client of TLS 1.3 learns that it is refused when it reads.
        let mut stream = ca.dial(&server.address, shown, &[b"h2"]).await.unwrap();
        within(stream.read_u8()).await.unwrap_err();
    }
    until(|| server.handle.counters().tls_handshakes_failed() == 2).await;
    // The log has one line a second.
    let lines = logged.picked("TLS handshake failed", &["fault"]);
    assert_eq!(lines[0], "NoCertificate");
    server.stop().await;
}

/// Tells its callers who they are.
struct Mirror;

impl Hello for Mirror {
    async fn rpc_greet(&self, cx: &Context, _: GreetRequest) -> Result<GreetReply> {
        assert_eq!(cx.peer().transport(), Transport::Tls);
        let id = cx.peer().certificate().and_then(|shown| shown.spiffe_id());
        let text = id.unwrap_or("nobody").to_owned();
        Ok(GreetReply { text })
    }
}

#[tokio::test]
async fn a_handler_sees_the_certificate_of_a_grpc_caller() {
    let ca = Ca::new();
    let tls = ca.server_tls().client_roots(ca.roots()).anonymous_clients(true);
    let tls = tls.build().unwrap();
    let server = TestServer::start_with("tls://127.0.0.1:0", |server| {
        server.tls(tls).service(HelloServer::new(Mirror))
    })
    .await;
    let client = ca.client();
    for (shown, id) in [(Some(&client), CLIENT), (None, "nobody")] {
        let stream = ca.dial(&server.address, shown, &[b"h2"]).await.unwrap();
        let grpc = Caller::over(stream).await;
        let request = prefixed(&GreetRequest::default());
        let answer = grpc.call("/hello.v1.Hello/rpc_greet", &[], request).await;
        assert_eq!(answer.messages::<GreetReply>()[0].text, id);
    }
    server.stop().await;
}

#[tokio::test]
async fn both_protocols_share_a_tls_port() {
    let ca = Ca::new();
    let server = serve(ca.server_tls().build().unwrap()).await;
    let client = KvClient::builder(&server.address).tls(ca.client_tls().build().unwrap());
    let native: KvClient = client.connect().await.unwrap();
    native.send_recv().update("dog", &b"woof"[..]).await.unwrap();
    let grpc = Caller::over(ca.dial(&server.address, None, &[b"h2"]).await.unwrap()).await;
    let answer = grpc.call("/demo.kv.v1.Kv/rpc_fetch", &[], fetch("dog")).await;
    assert_eq!(
        answer.messages::<FetchReply>()[0].value.as_deref(),
        Some(&b"woof"[..])
    );
    // A client that speaks both gets ours.
    let both = ca
        .dial(&server.address, None, &[b"h2", b"rustrpc"])
        .await
        .unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"rustrpc"[..]));
    drop(both);
    server.stop().await;
}

/// HTTP/2 that is not offered over TLS.
#[derive(Debug)]
struct WithoutAlpn(Http);

impl Guest for WithoutAlpn {
    fn takes(&self, first: u8) -> bool {
        self.0.takes(first)
    }

    fn serve(&self, connection: GuestConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.serve(connection)
    }
}

#[tokio::test]
async fn a_caller_whose_protocol_is_not_there_is_refused_by_name() {
    let ca = Ca::new();
    let with_h2 = "WrongProtocol the client does not offer the protocol \"rustrpc\" or \"h2\" in ALPN: it speaks another one \
                   over TLS";
    let without = "WrongProtocol the client does not offer the protocol \"rustrpc\" in ALPN: it speaks another one over TLS";
    let cases: [(bool, &[&[u8]], &str); 4] = [
        (true, &[], with_h2),
        (true, &[b"http/1.1"], with_h2),
        (false, &[], without),
        (false, &[b"h2"], without),
    ];
    for (has_h2, protocols, says) in cases {
        let logged = Logged::here();
        let tls = ca.server_tls().build().unwrap();
        let server = TestServer::start_with("tls://127.0.0.1:0", |server| match has_h2 {
            true => server.tls(tls),
            false => server.tls(tls).guest(WithoutAlpn(Http::new().grpc())),
        })
        .await;
        match ca.dial(&server.address, None, protocols).await {
            // The server has said nothing, and taken no byte as a frame.
            Ok(mut stream) => {
                let mut answer = Vec::new();
                let _ = within(stream.read_to_end(&mut answer)).await;
                assert_eq!((protocols.len(), &answer[..]), (0, &b""[..]));
            }
            Err(error) => assert!(error.to_string().contains("NoApplicationProtocol"), "{error}"),
        }
        until(|| server.handle.counters().tls_handshakes_failed() == 1).await;
        assert_eq!(
            logged.picked("TLS handshake failed", &["fault", "text"]),
            [says],
            "{protocols:?}"
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn http2_without_tls_on_a_tls_port_is_named_in_one_line() {
    let ca = Ca::new();
    let logged = Logged::here();
    let server = serve(ca.server_tls().build().unwrap()).await;
    let (_, socket) = server.address.split_once("://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(socket).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer.first(), Some(&0x15), "an alert, and no reset: {answer:?}");
    until(|| server.handle.counters().tls_handshakes_failed() == 1).await;
    assert_eq!(
        logged.picked("TLS handshake failed", &["fault", "text"]),
        ["NoTls the client speaks HTTP/2 without TLS on a TLS port: let it use TLS"]
    );
    server.stop().await;
}

#[tokio::test]
async fn tls_on_a_plain_port_is_named_in_one_line() {
    let logged = Logged::here();
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    Ca::new().dial(&server.address, None, &[b"h2"]).await.unwrap_err();
    until(|| server.handle.counters().handshakes_rejected() == 1).await;
    until(|| !logged.picked("connection cut off", &["text"]).is_empty()).await;
    let lines = logged.picked("connection cut off", &["text"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let says = "peer speaks TLS instead of this protocol: let it connect by tcp://, or listen on tls://";
    assert!(lines[0].contains(says), "{lines:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_drain_ends_a_connection_over_tls_well() {
    let ca = Ca::new();
    let server = serve(ca.server_tls().build().unwrap()).await;
    let grpc = Caller::over(ca.dial(&server.address, None, &[b"h2"]).await.unwrap()).await;
    let stored = grpc
        .call("/demo.kv.v1.Kv/rpc_update", &[], update("dog", b"woof"))
        .await;
    assert_eq!(stored.code(), "0");
    let (response, mut stream) = grpc.open("/demo.kv.v1.Kv/rpc_watch", &[]).await;
    stream
        .send_data(prefixed(&WatchRequest::default()), true)
        .unwrap();
    let mut body = response.await.unwrap().into_body();
    read_chunk(&mut body).await.unwrap();
    let stopped = tokio::spawn(server.stop());
    assert!(read_chunk(&mut body).await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    drop((stream, body));
    assert!(within(stopped).await.unwrap().is_clean());
    grpc.connection.await.unwrap().unwrap();
}

/// A folder with a certificate and its key, removed at the end of its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("rpc-http-tls-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Replaces both files, one after the other.
    fn replace(&self, leaf: &Leaf) {
        for (name, text) in [("chain.pem", leaf.certificate_pem()), ("key.pem", leaf.key_pem())] {
            let new = self.0.join(format!("{name}.new"));
            fs::write(&new, text).unwrap();
            fs::rename(new, self.0.join(name)).unwrap();
        }
    }

    fn identity(&self) -> Identity {
        Identity::pem_files(self.0.join("chain.pem"), self.0.join("key.pem"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a temporary folder does no harm.
        let _ = fs::remove_dir_all::<&Path>(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_the_load_of_both_protocols() {
    const ROTATIONS: usize = 10;
    let ca = Arc::new(Ca::new());
    let folder = Folder::new();
    folder.replace(&ca.server());
    let tls = ServerTls::builder(folder.identity()).reload_every(Duration::ZERO);
    let server = serve(tls.build().unwrap()).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let calls = [const { AtomicUsize::new(0) }; 2];
    let calls = Arc::new(calls);
    let mut callers = Vec::new();
    // Each call goes over a connection of its own.
    for _ in 0..2 {
        let (ca, is_over, calls) = (Arc::clone(&ca), Arc::clone(&is_over), Arc::clone(&calls));
        let address = server.address.clone();
        callers.push(tokio::spawn(async move {
            while !is_over.load(SeqCst) {
                let stream = within(ca.dial(&address, None, &[b"h2"])).await.unwrap();
                let grpc = Caller::over(stream).await;
                let answer = grpc.call("/demo.kv.v1.Kv/rpc_fetch", &[], fetch("dog")).await;
                assert_eq!(answer.code(), "0");
                calls[0].fetch_add(1, SeqCst);
            }
        }));
    }
    let client_tls = ca.client_tls().build().unwrap();
    let (over, counts, address) = (Arc::clone(&is_over), Arc::clone(&calls), server.address.clone());
    callers.push(tokio::spawn(async move {
        while !over.load(SeqCst) {
            let connecting = KvClient::builder(&address).tls(client_tls.clone()).connect();
            let native: KvClient = within(connecting).await.unwrap();
            native.send_recv().fetch("dog").await.unwrap();
            counts[1].fetch_add(1, SeqCst);
        }
    }));
    for _ in 0..ROTATIONS {
        let before = [0, 1].map(|which| calls[which].load(SeqCst));
        folder.replace(&ca.server());
        within(async {
            while [0, 1]
                .iter()
                .any(|&which| calls[which].load(SeqCst) < before[which] + 2)
                && callers.iter().all(|caller| !caller.is_finished())
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    is_over.store(true, SeqCst);
    for caller in callers {
        within(caller).await.unwrap();
    }
    assert_eq!(server.handle.counters().tls_handshakes_failed(), 0);

    // The server uses what it reads: callers of this CA trust no other.
    let last = Ca::new();
    folder.replace(&last.server());
    let stream = last.dial(&server.address, None, &[b"h2"]).await.unwrap();
    let answer = Caller::over(stream)
        .await
        .call("/demo.kv.v1.Kv/rpc_fetch", &[], fetch("dog"))
        .await;
    assert_eq!(answer.code(), "0");
    let client = KvClient::builder(&server.address).tls(last.client_tls().build().unwrap());
    let native: KvClient = client.connect().await.unwrap();
    native.send_recv().fetch("dog").await.unwrap();
    drop(native);
    server.stop().await;
}
