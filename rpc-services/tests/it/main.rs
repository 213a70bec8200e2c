//! Health, reflection and inspection, over the native protocol and over gRPC.

#[path = "../../../rpc-http/tests/it/caller.rs"]
#[allow(dead_code, reason = "the tests of rpc-http use all of it")]
mod caller;
mod descriptors;
mod health;
mod inspect;
mod policy;
mod reflection;

use demo_api::demo::kv::v1::KvServer;
use demo_server::Store;
use rpc_http::Http;
use rpc_runtime::{Server, server::ServerBuilder};
use test_support::{Running, serve};

/// A server of the demo's store at a TCP port, which speaks gRPC, too.
async fn served(configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Running {
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .guest(Http::new().grpc())
        .listener("tcp://127.0.0.1:0")
        .signals(false);
    serve(configure(server)).await
}
