//! Several listeners of one server: each takes native and gRPC callers.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use demo_api::demo::kv::v1::{FetchReply, FetchRequest, KvClient, KvServer};
use demo_server::Store;
use rpc_http::Http;
use rpc_runtime::{
    Server,
    middleware::{self, ServerCall},
    server::Endpoint,
};
use test_support::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use crate::{
    TestServer,
    caller::{Caller, prefixed},
    certificates::Ca,
};

#[tokio::test]
async fn each_listener_of_a_server_takes_both_protocols() {
    let ca = Ca::new();
    let path = std::env::temp_dir().join(format!("rpc-http-listeners-{}", std::process::id()));
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .guest(Http::new().grpc())
        .listener("tcp://127.0.0.1:0")
        .listener("tls://127.0.0.1:0")
        // As the callers of containerd and of storage plugins write it.
        .listener(format!("unix://{}", path.display()))
        .tls(ca.server_tls().build().unwrap())
        .signals(false)
        .bind()
        .await
        .unwrap();
    let addresses = server.addresses().to_vec();
    assert_eq!(addresses[2], format!("unix:{}", path.display()));
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    for (number, address) in addresses.iter().enumerate() {
        let client = KvClient::builder(address).tls(ca.client_tls().build().unwrap());
        let native: KvClient = client.connect().await.unwrap();
        let value = Bytes::from(number.to_string());
        native.send_recv().update("number", value.clone()).await.unwrap();
        let grpc = match address.starts_with("tls://") {
            true => Caller::over(ca.dial(address, None, &[b"h2"]).await.unwrap()).await,
            false => Caller::connect(address).await,
        };
        let key = "number".to_owned();
        let answer = grpc
            .call("/demo.kv.v1.Kv/rpc_fetch", &[], prefixed(&FetchRequest { key }))
            .await;
        assert_eq!(answer.code(), "0", "{address}");
        assert_eq!(answer.messages::<FetchReply>()[0].value, Some(value), "{address}");
    }
    handle.drain();
    serving.await.unwrap().unwrap();
}

/// Connects as a proxy on this machine that names 192.0.2.1:513 as its client.
async fn through_proxy(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address.split_once("://").unwrap().1)
        .await
        .unwrap();
    // PROXY over TCP and IPv4: 12 bytes of addresses and ports.
    let header = [
        &b"\r\n\r\n\0\r\nQUIT\n"[..],
        &[0x21, 0x11, 0, 12],
        &[192, 0, 2, 1, 127, 0, 0, 1, 2, 1, 0, 80],
    ];
    stream.write_all(&header.concat()).await.unwrap();
    stream
}

#[tokio::test]
async fn grpc_callers_behind_a_proxy_are_the_clients_that_it_names() {
    let ca = Ca::new();
    let peers = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&peers);
    let note = middleware::from_fn(move |call: ServerCall, next| {
        noted.lock().unwrap().push(call.peer().address().to_owned());
        async move { next.run(call).await }
    });
    let behind = |address| Endpoint::new(address).behind_proxies(["127.0.0.1"]);
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .guest(Http::new().grpc())
        .layer(note)
        .listener(behind("tcp://127.0.0.1:0"))
        .listener(behind("tls://127.0.0.1:0"))
        .tls(ca.server_tls().build().unwrap())
        .signals(false)
        .bind()
        .await
        .unwrap();
    let addresses = server.addresses().to_vec();
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    for address in &addresses {
        let stream = within(through_proxy(address)).await;
        let caller = match address.starts_with("tls://") {
            true => Caller::over(ca.shake_hands(stream, None, &[b"h2"]).await.unwrap()).await,
            false => Caller::over(stream).await,
        };
        let request = prefixed(&FetchRequest::default());
        let answer = within(caller.call("/demo.kv.v1.Kv/rpc_fetch", &[], request)).await;
        assert_eq!(answer.code(), "0", "{address}");
    }
    assert_eq!(
        *peers.lock().unwrap(),
        ["tcp://192.0.2.1:513", "tls://192.0.2.1:513"]
    );
    // Without a header, the preface of HTTP/2 is none.
    let mut direct = TcpStream::connect(addresses[0].trim_start_matches("tcp://"))
        .await
        .unwrap();
    direct
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let read = within(direct.read(&mut [0; 9])).await;
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    assert_eq!(handle.counters().proxy_headers_refused(), 1);
    handle.drain();
    serving.await.unwrap().unwrap();
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    [&len.to_be_bytes()[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A field of HPACK whose name has an index, and which gets one.
fn field(name: u8, value: &str) -> Vec<u8> {
    [&[0x40 | name, value.len() as u8][..], value.as_bytes()].concat()
}

#[tokio::test]
async fn a_caller_that_names_the_path_of_the_socket_as_authority_is_served() {
    const POST: u8 = 0x83;
    const HTTP: u8 = 0x86;
    let path = std::env::temp_dir().join(format!("rpc-http-authority-{}", std::process::id()));
    let path = path.to_str().unwrap();
    let server = TestServer::start(&format!("unix://{path}")).await;
    let encoded = path.replace('/', "%2F");
    // gRPC in C spells the name out, too.
    let spelled = [&b"\x40\x0a:authority"[..], &field(1, &encoded)[1..]].concat();
    for authority in [field(1, path), field(1, &encoded), spelled] {
        let first = [
            &[POST, HTTP][..],
            &field(4, "/demo.kv.v1.Kv/rpc_fetch"),
            &authority,
            &field(31, "application/grpc"),
        ]
        .concat();
        // The indexes of the same three fields.
        let second = vec![POST, HTTP, 0x80 | 64, 0x80 | 63, 0x80 | 62];
        let mut stream = UnixStream::connect(path).await.unwrap();
        let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, b"")].concat();
        stream.write_all(&preface).await.unwrap();
        for (id, block) in [(1, first), (3, second)] {
            let request = prefixed(&FetchRequest::default());
            let call = [frame(1, 0x4, id, &block), frame(0, 0x1, id, &request)].concat();
            stream.write_all(&call).await.unwrap();
            loop {
                let mut head = [0; 9];
                within(stream.read_exact(&mut head)).await.unwrap();
                let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
                within(stream.read_exact(&mut payload)).await.unwrap();
                assert_ne!(head[3], 3, "reset: {payload:?}");
                // The trailers end the stream.
                if (head[3], head[4] & 0x1, head[8]) == (1, 1, id) {
                    break;
                }
            }
        }
    }
    server.stop().await;
}
