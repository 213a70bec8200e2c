//! What gRPC lacks, and addresses that cannot be used.

use demo_api::demo::kv::v1::{KvClient, Watcher, WatcherServer};
use rpc_http::Grpc;
use rpc_runtime::{Client, Code, Context, Error, Executed, Result};

use super::{builder, connect, grpc};
use crate::TestServer;

struct Deaf;

impl Watcher for Deaf {
    async fn rpc_changed(&self, _: &Context, _: String, _: rpc_runtime::Bytes) -> Result<()> {
        Ok(())
    }

    async fn rpc_missed(&self, _: &Context, _: u64) -> Result<()> {
        Ok(())
    }
}

fn assert_refused(error: &Error, says: &str) {
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert_eq!(error.executed(), Executed::No);
    assert!(error.message().contains(says), "{error}");
}

#[tokio::test]
async fn what_grpc_lacks_is_refused_with_a_sentence() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let kv = connect(&server.address).await;
    assert_refused(
        &kv.terminate().await.unwrap_err(),
        "stop the server in its own way",
    );
    assert_refused(
        &kv.send().terminate().await.unwrap_err(),
        "stop the server in its own way",
    );
    assert_refused(&kv.ping().await.unwrap_err(), "call a procedure");
    let serving = builder(&grpc(&server.address)).service(WatcherServer::new(Deaf));
    assert_refused(
        &serving.connect().await.unwrap_err(),
        "use a stream of replies instead",
    );
    kv.send_recv().noop().await.unwrap();
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn without_the_protocol_the_error_names_the_crate_and_the_method() {
    for address in ["grpc://127.0.0.1:1", "grpcs://127.0.0.1:1", "grpc+unix:/run/kv"] {
        let error = KvClient::connect(address).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains("crate rpc-http"), "{error}");
        assert!(
            error.message().contains(".protocol(rpc_http::Grpc::new())"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_bad_address_or_authority_is_said() {
    let error = builder("grpc://kv").connect().await.unwrap_err();
    assert_eq!(
        error.message(),
        "bad address \"grpc://kv\": the port is missing; write grpc://kv:<port>"
    );
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let client = Client::builder(grpc(&server.address)).protocol(Grpc::new().authority("a b"));
    let error = client.connect().await.map(|_: Client| ()).unwrap_err();
    assert_refused(&error, "\"a b\" is no authority of HTTP");
    // Addresses of our own protocol go on as before.
    let native = builder(&server.address).connect().await.unwrap();
    native.send_recv().noop().await.unwrap();
    native.ping().await.unwrap();
    drop(native);
    server.stop().await;
}
