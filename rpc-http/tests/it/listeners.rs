//! Several listeners of one server: each takes native and gRPC callers.

use bytes::Bytes;
use demo_api::demo::kv::v1::{FetchReply, FetchRequest, KvClient, KvServer};
use demo_server::Store;
use rpc_http::Http;
use rpc_runtime::Server;
use test_support::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
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
    for authority in [path, &path.replace('/', "%2F")] {
        let first = [
            &[POST, HTTP][..],
            &field(4, "/demo.kv.v1.Kv/rpc_fetch"),
            &field(1, authority),
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
