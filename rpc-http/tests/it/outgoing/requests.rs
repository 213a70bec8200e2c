//! What a server sees of a call: headers, and the frames of the body.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use demo_api::demo::kv::v1::{FetchReply, FetchRequest, KvClient, PingReply};
use h2::{RecvStream, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use rpc_http::Grpc;
use tokio::{net::TcpListener, runtime::Handle, task::JoinSet};

use crate::caller::{prefixed, read_chunk};

/// Answers one call of a new connection with `reply`. Returns what it saw: the head, and the body.
async fn serve_one(listener: TcpListener, reply: impl Message + 'static) -> (http::request::Parts, Bytes) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut connection = server::handshake(stream).await.unwrap();
    let (request, mut respond): (Request<RecvStream>, server::SendResponse<Bytes>) =
        connection.accept().await.unwrap().unwrap();
    let call = tokio::spawn(async move {
        let (head, mut body) = request.into_parts();
        let mut all = BytesMut::new();
        while let Some(chunk) = read_chunk(&mut body).await {
            all.extend_from_slice(&chunk);
        }
        let response = Response::builder().header("content-type", "application/grpc+proto");
        let mut answer = respond.send_response(response.body(()).unwrap(), false).unwrap();
        answer.send_data(prefixed(&reply), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        answer.send_trailers(trailers).unwrap();
        (head, all.freeze())
    });
    while connection.accept().await.is_some() {}
    call.await.unwrap()
}

#[tokio::test]
async fn a_call_has_the_headers_of_grpc() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(serve_one(listener, FetchReply::default()));
    let kv: KvClient = KvClient::builder(format!("grpc://{host}"))
        .protocol(Grpc::new())
        .connect_lazy();
    let call = kv
        .send_recv()
        .timeout(Duration::from_secs(20))
        .metadata("trace", "42");
    assert_eq!(call.fetch("dog").await.unwrap(), None);
    drop(kv);
    let (head, body) = serving.await.unwrap();
    assert_eq!(head.method, "POST");
    assert_eq!(
        head.uri.to_string(),
        format!("http://{host}/demo.kv.v1.Kv/rpc_fetch")
    );
    let accepted = match cfg!(feature = "zstd") {
        true => "zstd, gzip, identity",
        false => "gzip, identity",
    };
    for (name, value) in [
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-accept-encoding", accepted),
        ("trace", "42"),
    ] {
        assert_eq!(head.headers[name], value, "{name}");
    }
    let agent = head.headers["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("grpc-rust-rpc-http/"), "{agent}");
    let timeout = head.headers["grpc-timeout"].to_str().unwrap();
    let micros: u64 = timeout
        .strip_suffix('u')
        .expect("20 s are microseconds")
        .parse()
        .unwrap();
    assert!(micros <= 20_000_000, "{micros}");
    assert!(!head.headers.contains_key("grpc-encoding"));
    assert_eq!(
        body,
        prefixed(&FetchRequest {
            key: "dog".to_owned()
        })
    );
}

#[tokio::test]
async fn open_calls_have_no_tasks_of_their_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kv: KvClient = KvClient::builder(format!("grpc://{}", listener.local_addr().unwrap()))
        .protocol(Grpc::new())
        .connect_lazy();
    let mut callers = JoinSet::new();
    let mut call = || {
        let kv = kv.clone();
        callers.spawn(async move { kv.send_recv().fetch("dog").await })
    };
    call();
    let (stream, _) = listener.accept().await.unwrap();
    let mut connection = server::handshake(stream).await.unwrap();
    let mut open: Vec<(Request<RecvStream>, server::SendResponse<Bytes>)> = Vec::new();
    open.push(connection.accept().await.unwrap().unwrap());
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..20 {
        call();
    }
    while open.len() < 21 {
        open.push(connection.accept().await.unwrap().unwrap());
    }
    assert_eq!(tasks(), before + 20, "those of the callers alone");
}

#[tokio::test]
async fn a_call_without_a_timeout_has_no_deadline_and_gzip_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("grpc://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(serve_one(listener, PingReply::default()));
    let kv: KvClient = KvClient::builder(address)
        .protocol(Grpc::new().gzip().authority("kv.example"))
        .timeout(None)
        .connect_lazy();
    assert_eq!(kv.send_recv().ping("text".repeat(10_000)).await.unwrap(), "");
    drop(kv);
    let (head, body) = serving.await.unwrap();
    assert!(!head.headers.contains_key("grpc-timeout"));
    assert_eq!(head.headers["grpc-encoding"], "gzip");
    assert_eq!(head.uri.authority().unwrap(), "kv.example");
    assert_eq!(body[0], 1, "compressed");
    assert!(body.len() < 1000, "{}", body.len());
}
