//! Compression is negotiated, and bounded.

use demo_api::demo::kv::v1::{FetchReply, FetchRequest};

use crate::{
    TestServer,
    caller::{Answer, Caller, prefixed},
};

const FETCH: &str = "/demo.kv.v1.Kv/rpc_fetch";

async fn fetch_long(accepted: &str) -> Answer {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let native = server.native().await;
    native.send_recv().update("k", vec![7; 100_000]).await.unwrap();
    let grpc = Caller::connect(&server.address).await;
    let fetch = prefixed(&FetchRequest { key: "k".to_owned() });
    let answer = grpc
        .call(FETCH, &[("grpc-accept-encoding", accepted)], fetch)
        .await;
    assert_eq!(answer.code(), "0");
    server.stop().await;
    answer
}

#[tokio::test]
async fn a_long_reply_is_compressed_as_its_caller_accepts() {
    let plain = fetch_long("identity,br").await;
    assert!(!plain.headers.contains_key("grpc-encoding"));
    assert_eq!(
        plain.messages::<FetchReply>()[0].value.as_ref().unwrap().len(),
        100_000
    );
    for name in ["gzip", "zstd"] {
        if !plain.headers["grpc-accept-encoding"]
            .to_str()
            .unwrap()
            .contains(name)
        {
            continue;
        }
        let answer = fetch_long(&format!("identity, {name}")).await;
        assert_eq!(answer.headers["grpc-encoding"], name);
        assert!(
            answer.body.len() < 1000 && answer.body[0] == 1,
            "{name}: {}",
            answer.body.len()
        );
    }
}

#[tokio::test]
async fn a_caller_that_names_no_encoding_learns_which_ones_are_taken() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let answer = grpc.call(FETCH, &[], prefixed(&FetchRequest::default())).await;
    let names = answer.headers["grpc-accept-encoding"].to_str().unwrap();
    assert!(names.ends_with("identity"), "{names}");
    assert!(!answer.headers.contains_key("grpc-encoding"));
    server.stop().await;
}

#[cfg(feature = "gzip")]
#[tokio::test]
async fn a_compressed_request_is_read_and_a_bomb_is_refused() {
    use std::io::Write;

    use bytes::{BufMut, Bytes, BytesMut};
    use prost::Message;

    let gzip = |message: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(message).unwrap();
        let message = encoder.finish().unwrap();
        let mut bytes = BytesMut::new();
        bytes.put_u8(1);
        bytes.put_u32(message.len() as u32);
        bytes.put_slice(&message);
        bytes.freeze()
    };
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let encoded = [("grpc-encoding", "gzip")];
    let fetch = FetchRequest { key: "k".to_owned() };
    let read = grpc.call(FETCH, &encoded, gzip(&fetch.encode_to_vec())).await;
    assert_eq!(read.code(), "0");
    let refused = grpc.call(FETCH, &encoded, gzip(&vec![0; 5 << 20])).await;
    assert_eq!(refused.code(), "8");
    assert!(
        refused.text().contains("Limits::max_message"),
        "{}",
        refused.text()
    );
    let malformed = grpc
        .call(FETCH, &encoded, Bytes::from_static(b"\x01\0\0\0\x03abc"))
        .await;
    assert_eq!(malformed.code(), "13");
    assert_eq!(server.handle.counters().malformed_messages(), 1);
    server.stop().await;
}
