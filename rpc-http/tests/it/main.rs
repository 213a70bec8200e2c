//! gRPC calls of a server that serves the native protocol on the same port, and of our clients at gRPC servers.

mod blocking;
mod caller;
mod calls;
mod certificates;
mod compression;
mod handshakes;
mod hostile;
mod initial_metadata;
mod lifecycle;
mod limits;
mod listeners;
mod memory;
mod metrics;
mod outgoing;
mod refusals;
#[cfg(feature = "routes")]
mod routes;
mod slow_readers;
mod tls;
mod trace;

use std::sync::Arc;

use demo_api::demo::kv::v1::{KvClient, KvServer};
use demo_server::Store;
use rpc_http::Http;
use rpc_runtime::{
    DrainReport, Error, Server,
    server::{ServerBuilder, ServerHandle},
};
use tokio::task::JoinHandle;

/// A server of the demo's store, with gRPC on the port of the native protocol.
struct TestServer {
    address: String,
    handle: ServerHandle,
    serving: JoinHandle<Result<DrainReport, Error>>,
}

impl TestServer {
    async fn start(listener: &str) -> Self {
        Self::start_with(listener, |server| server).await
    }

    async fn with_guest(guest: Http) -> Self {
        Self::start_with("tcp://127.0.0.1:0", |server| server.guest(guest)).await
    }

    async fn start_with(listener: &str, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        Self::start_store(listener, Arc::default(), configure).await
    }

    async fn start_store(
        listener: &str,
        store: Arc<Store>,
        configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let server = Server::builder()
            .service(KvServer::new(store))
            .guest(Http::new().grpc())
            .listener(listener)
            .signals(false);
        let server = configure(server).bind().await.unwrap();
        Self {
            address: server.addresses()[0].clone(),
            handle: server.handle(),
            serving: tokio::spawn(server.serve()),
        }
    }

    async fn native(&self) -> KvClient {
        KvClient::connect(&self.address).await.unwrap()
    }

    async fn stop(self) -> DrainReport {
        self.handle.drain();
        self.serving.await.unwrap().unwrap()
    }
}
