//! A process that serves and calls in each way that is counted, so that each metric has samples. `.ci/strangers` shows it to a real Prometheus.
//!
//! Usage: busy-process FOLDER, where it may write certificates. It prints `listening ADDRESS` and `admin ADDRESS`, and goes on until it is
//! killed.

use std::{env, error::Error, sync::Arc, thread, time::Duration};

use demo_api::demo::kv::v1::{KvClient, KvServer};
use demo_server::Store;
use rpc_http::{Grpc, Http};
use rpc_runtime::{
    Client, Server, limit,
    server::{Handler, Incoming, Procedure, ServerBuilder, Service},
    tls::{self, ClientTls, Identity, ServerTls},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).ok_or("usage: busy-process FOLDER")?;
    let ca = tls::dev()?;
    ca.write_to(&folder)?;
    let identity =
        |name: &str| Identity::pem_files(format!("{folder}/{name}.pem"), format!("{folder}/{name}.key"));
    let tls = ServerTls::builder(identity("server")).client_roots(ca.roots());
    let server = kv()
        .service(Rough)
        .guest(Http::new().grpc())
        .layer_for("demo.kv.v1.Kv/rpc_fetch", limit::rate(1))
        .listener("tcp://127.0.0.1:0")
        .listener("tls://localhost:0")
        .tls(tls.build()?)
        .bind()
        .await?;
    let addresses = server.addresses().to_vec();
    let serving = tokio::spawn(server.serve());
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await?;
    println!("listening {}", addresses[0]);
    println!("admin {}", admin.address());

    let tls = ClientTls::builder()
        .roots(ca.roots())
        .identity(identity("client"));
    let plain = KvClient::connect(&addresses[0]).await?;
    let secure = KvClient::builder(&addresses[1])
        .tls(tls.build()?)
        .connect()
        .await?;
    let grpc = addresses[0].replace("tcp://", "grpc://");
    let grpc = KvClient::builder(grpc).protocol(Grpc::new()).connect().await?;
    while !serving.is_finished() {
        for kv in [&plain, &secure, &grpc] {
            well_and_ill(kv).await?;
        }
        let client = plain.client();
        client.call().send_recv::<(), ()>(&BLOCK, ()).await?;
        // The server does not have it.
        client.call().send_recv::<(), ()>(&NONE, ()).await.unwrap_err();
        short_lives().await?;
        tokio::time::sleep(SHORT).await;
    }
    Err("the server has ended".into())
}

/// A server of the demo's store.
fn kv() -> ServerBuilder {
    Server::builder()
        .service(KvServer::new(Arc::<Store>::default()))
        .signals(false)
}

/// Calls that succeed, calls that are refused, and calls that are late.
async fn well_and_ill(kv: &KvClient) -> Result<(), rpc_runtime::Error> {
    for _ in 0..10 {
        kv.send_recv().noop().await?;
        kv.send().update("key", "value").await?;
    }
    // A key must not be empty.
    kv.send_recv().update("", "value").await.unwrap_err();
    kv.send().update("", "value").await?;
    // Over its limit of rate, sometimes; each says when to come back.
    for _ in 0..3 {
        let _ = kv.send_recv().timeout(SHORT).fetch("key").await;
    }
    kv.send_recv().timeout(SHORT).sleep(60_000).await.unwrap_err();
    kv.barrier().await.map(drop)
}

/// Servers that drain, and a client that moves on.
async fn short_lives() -> Result<(), Box<dyn Error>> {
    let (first, second) = (
        kv().listener("tcp://127.0.0.1:0")
            .max_connections(1)
            .bind()
            .await?,
        kv().listener("tcp://127.0.0.1:0").bind().await?,
    );
    let (from, to) = (first.addresses()[0].clone(), second.addresses()[0].clone());
    let (leaves, stays) = (first.handle(), second.handle());
    let (first, second) = (tokio::spawn(first.serve()), tokio::spawn(second.serve()));
    let client = KvClient::builder(&from).fallback(to).connect().await?;
    client.send_recv().noop().await?;
    // There is no place for it.
    let waits = Client::connect_lazy(&from);
    let _ = waits.call().timeout(SHORT).send_recv::<(), ()>(&NONE, ()).await;
    leaves.drain();
    client.send_recv().noop().await?;
    first.await??;
    drop((client, waits));
    stays.drain();
    second.await??;
    // Nobody listens there any more.
    KvClient::connect(&from).await.unwrap_err();
    Ok(())
}

/// A service whose handler blocks its thread, and does not say so.
struct Rough;

impl Service for Rough {
    fn name(&self) -> &'static str {
        "strangers.v1.Rough"
    }

    fn procedures(&self) -> &'static [Procedure] {
        std::slice::from_ref(&BLOCK)
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_, (): ()| async {
            thread::sleep(SHORT);
            Ok(())
        })
    }
}

static BLOCK: Procedure = Procedure::new("strangers.v1.Rough/block", 1);
static NONE: Procedure = Procedure::new("strangers.v1.Rough/none", 2);
const SHORT: Duration = Duration::from_millis(50);
