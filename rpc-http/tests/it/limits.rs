//! The limits of messages.

use std::sync::Arc;

use demo_api::demo::kv::v1::{FetchReply, FetchRequest, UpdateRequest};
use demo_server::Store;
use rpc_runtime::Limits;

use crate::{
    TestServer,
    caller::{Caller, prefixed},
};

#[tokio::test]
async fn a_reply_may_be_longer_than_a_request() {
    let store = Arc::new(Store::default());
    let roomy = TestServer::start_store("tcp://127.0.0.1:0", Arc::clone(&store), |server| server).await;
    let value = vec![b'x'; 70_000];
    roomy
        .native()
        .await
        .send_recv()
        .update("long", value.clone())
        .await
        .unwrap();
    let narrow = TestServer::start_store("tcp://127.0.0.1:0", store, |server| {
        server.limits(Limits::default().max_message(1000))
    })
    .await;
    let grpc = Caller::connect(&narrow.address).await;
    let request = prefixed(&FetchRequest {
        key: "long".to_owned(),
    });
    let answer = grpc.call("/demo.kv.v1.Kv/rpc_fetch", &[], request).await;
    assert_eq!(answer.code(), "0", "{answer:?}");
    assert_eq!(
        answer.messages::<FetchReply>()[0].value.as_deref(),
        Some(&value[..])
    );
    let request = prefixed(&UpdateRequest {
        key: "long".to_owned(),
        value: value.into(),
    });
    let answer = grpc.call("/demo.kv.v1.Kv/rpc_update", &[], request).await;
    assert_eq!(answer.code(), "8", "{answer:?}");
    narrow.stop().await;
    roomy.stop().await;
}
