//! The pages of a process, as Prometheus, kubelet and curl see them.

mod debug;
mod listener;
mod metrics;
mod pages;
mod probes;
#[cfg(feature = "tls")]
mod tls;
mod web;

use std::sync::Arc;

use demo_api::demo::kv::v1::{KvClient, KvServer};
use demo_server::Store;
use rpc_runtime::{DrainReport, Error, Server, server::ServerHandle};
use rpc_services::{Health, HealthHandle};
use tokio::task::JoinHandle;

/// A server of the demo's store, with health.
struct Demo {
    address: String,
    health: HealthHandle,
    handle: ServerHandle,
    serving: JoinHandle<Result<DrainReport, Error>>,
}

impl Demo {
    async fn start() -> Self {
        let health = Health::new();
        let handle = health.handle();
        let server = Server::builder()
            .service(KvServer::new(Arc::<Store>::default()))
            .service(health)
            .listener("tcp://127.0.0.1:0")
            .signals(false)
            .bind()
            .await
            .unwrap();
        Self {
            address: server.addresses()[0].clone(),
            health: handle,
            handle: server.handle(),
            serving: tokio::spawn(server.serve()),
        }
    }

    async fn client(&self) -> KvClient {
        KvClient::connect(&self.address).await.unwrap()
    }

    /// Ends it, and drops what is open.
    async fn stop(self) {
        self.handle.abort();
        self.serving.await.unwrap().unwrap();
    }
}
