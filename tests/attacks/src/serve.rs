//! Serve: the target of the attacks.

use std::{
    future::pending,
    io::{BufRead, stdin},
    time::Duration,
};

use rpc_runtime::{Bytes, Context, Limits, Requests, Result, Server, server::ServerHandle};

use crate::target::v1::{EchoRequest, Target, TargetServer, Tree};

struct Attacked;

impl Target for Attacked {
    async fn rpc_echo(&self, _: &Context, payload: Bytes) -> Result<Bytes> {
        Ok(payload)
    }

    async fn rpc_large(&self, _: &Context, len: u32) -> Result<Bytes> {
        Ok(vec![7; len.min(4 << 20) as usize - 16].into())
    }

    async fn rpc_hang(&self, _: &Context) -> Result<()> {
        pending().await
    }

    async fn rpc_note(&self, _: &Context, _: Bytes) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }

    async fn rpc_tree(&self, _: &Context, _: Tree) -> Result<()> {
        Ok(())
    }

    async fn rpc_gather(&self, _: &Context, mut requests: Requests<EchoRequest>) -> Result<u32> {
        let mut count = 0;
        while requests.message().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// Serves until standard input ends. For each line of it, prints the counters.
///
/// # Errors
///
/// If the server cannot listen.
///
/// # Cancel safety
///
/// Dropping the future aborts the server.
pub async fn serve(limits: Limits, max_connections: Option<usize>) -> Result<(), rpc_runtime::Error> {
    let mut builder = Server::builder()
        .service(TargetServer::new(Attacked))
        .limits(limits)
        .drain_timeout(Duration::from_secs(1))
        .listener("tcp://127.0.0.1:0");
    if let Some(connections) = max_connections {
        builder = builder.max_connections(connections);
    }
    let server = builder.bind().await?;
    println!("listening {}", server.addresses().join(" "));
    let handle = server.handle();
    std::thread::spawn(move || answer(&handle));
    let report = server.serve().await?;
    println!("drained {report}");
    Ok(())
}

fn answer(handle: &ServerHandle) {
    for line in stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        println!("counters {}", handle.counters());
    }
    handle.abort();
}
