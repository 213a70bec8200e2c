//! What gRPC lacks, and addresses that cannot be used.

use demo_api::demo::kv::v1::{KvClient, KvServer, Watcher, WatcherServer};
use rpc_http::Grpc;
use rpc_runtime::{Client, Code, Context, Error, Executed, Result, Server};
use test_support::{Logged, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{builder, connect, grpc, raw::RawServer};
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
async fn an_http_address_is_answered_with_that_of_grpc() {
    for (address, native, grpc) in [
        ("http://kv:80", "tcp://kv:80", "grpc://kv:80"),
        ("https://kv:80/path", "tls://kv:80", "grpcs://kv:80"),
    ] {
        let why = format!("bad address {address:?}: the scheme belongs to another protocol; write");
        let error = builder(address).connect().await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.message(), format!("{why} {grpc}"));
        let error = KvClient::connect(address).await.unwrap_err();
        let both =
            format!("{why} {native}, or for a gRPC server {grpc} and .protocol(rpc_http::Grpc::new())");
        assert_eq!(error.message(), both);
    }
}

#[tokio::test]
async fn a_native_client_at_a_grpc_server_is_told_of_the_protocol() {
    let server = RawServer::bind().await;
    let address = server.address().replacen("grpc:", "tcp:", 1);
    let greet = tokio::spawn(async move {
        let mut stream = server.accept_stream().await;
        // An empty SETTINGS.
        stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let error = KvClient::connect(&address).await.unwrap_err();
    assert_refused(
        &error,
        "peer speaks HTTP/2 instead of this protocol: for a gRPC server write grpc:// and \
         .protocol(rpc_http::Grpc::new())",
    );
    greet.await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_guest_logs_what_grpc_callers_need() {
    let logged = Logged::here();
    let server = Server::builder()
        .service(KvServer::new(demo_server::Store::default()))
        .listener("tcp://127.0.0.1:0")
        .signals(false)
        .bind()
        .await
        .unwrap();
    let address = grpc(&server.addresses()[0]);
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    builder(&address).connect().await.unwrap_err();
    until(|| !logged.picked("connection cut off", &["text"]).is_empty()).await;
    let lines = logged.picked("connection cut off", &["text"]);
    let says =
        "peer speaks HTTP/2 instead of this protocol: gRPC callers need .guest(rpc_http::Http::new().grpc())";
    assert!(lines[0].contains(says), "{lines:?}");
    handle.drain();
    serving.await.unwrap().unwrap();
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
