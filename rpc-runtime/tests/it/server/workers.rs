//! Servers with workers: threads that each drive connections of their own.

use std::{collections::BTreeMap, time::Duration};

use rpc_runtime::{Client, Code, Server, server::ServerBuilder};
use test_support::{Running, lab::*, own_host, unix, within};

fn three(server: ServerBuilder) -> ServerBuilder {
    server.workers(3).drain_timeout(Duration::from_secs(5))
}

/// Clients of a server, by the thread that handles their calls.
async fn by_thread(server: &Running, count: usize, workers: usize) -> BTreeMap<String, Vec<Client>> {
    let mut clients = BTreeMap::<_, Vec<Client>>::new();
    while clients.values().map(Vec::len).sum::<usize>() < count || clients.len() < workers {
        let client = server.client().await;
        let thread = plain(&client, &THREAD).await.unwrap();
        assert!(thread.starts_with("rpc-worker-"), "{thread}");
        assert_eq!(
            plain(&client, &THREAD).await.unwrap(),
            thread,
            "one connection, one worker"
        );
        clients.entry(thread).or_default().push(client);
    }
    clients
}

#[tokio::test(crate = "test_support::gate")]
async fn every_transport_is_served_by_workers_and_drained() {
    for address in [
        "tcp://127.0.0.1:0",
        "tcp://[::1]:0",
        &unix("workers"),
        "mem:workers",
    ] {
        let lab = Lab::default();
        let server = lab.serve_with(address, three).await;
        // Linux spreads them; elsewhere the quickest worker accepts.
        let workers = if address.starts_with("tcp") { 2 } else { 1 };
        let clients = by_thread(&server, 32, workers).await;
        if cfg!(target_os = "linux") {
            // By chance all are with one worker once in 3^31.
            assert_eq!(clients.values().map(Vec::len).sum::<usize>(), 32, "{address}");
        }
        let mut calls = Vec::new();
        for (i, client) in clients.values().flatten().enumerate() {
            let name = format!("call {i}");
            calls.push(start(client, &WAIT, &name));
            lab.logged(&format!("{name} began")).await;
        }
        server.handle.drain();
        lab.release();
        for call in calls {
            within(call).await.unwrap().unwrap();
        }
        let report = server.report().await;
        assert!(report.is_clean(), "{address}: {report}");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_blocking_handler_delays_only_its_own_worker() {
    let lab = Lab::default();
    let server = lab.serve_with("tcp://127.0.0.1:0", three).await;
    let clients = by_thread(&server, 32, 2).await;
    let mut each = clients.values().map(|clients| &clients[0]);
    let (first, other) = (each.next().unwrap(), each.next().unwrap());
    let call = start(first, &BLOCK, "slow");
    lab.logged("slow began").await;
    assert_eq!(text(other, &ECHO, "fast").await.unwrap(), "fast");
    lab.release();
    assert_eq!(within(call).await.unwrap().unwrap(), "slow");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_ends_while_a_worker_is_blocked() {
    let lab = Lab::default();
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| server.workers(1))
        .await;
    let client = server.client().await;
    let call = start(&client, &BLOCK, "slow");
    lab.logged("slow began").await;
    server.handle.abort();
    assert_eq!(server.report().await.stuck(), 1);
    within(call).await.unwrap().unwrap_err();
    lab.release();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_declared_blocking_handler_delays_no_worker() {
    let lab = Lab::default();
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| server.workers(1))
        .await;
    let client = server.client().await;
    let call = start(&client, &BLOCK_BLOCKING, "slow");
    lab.logged("slow began").await;
    assert_eq!(text(&client, &ECHO, "fast").await.unwrap(), "fast");
    lab.release();
    assert_eq!(within(call).await.unwrap().unwrap(), "slow");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_port_of_workers_is_taken_by_one_server_and_free_after_it() {
    let lab = Lab::default();
    let server = lab.serve_with(&format!("tcp://{}:0", own_host(5)), three).await;
    let again = |workers: usize| {
        let builder = Server::builder().service(lab.clone()).signals(false);
        builder.workers(workers).listener(server.address.as_str()).bind()
    };
    for workers in [0, 3] {
        let error = again(workers).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(
            error.to_string().contains("another server listens there"),
            "{error}"
        );
    }
    let address = server.address.clone();
    let _ = server.client().await.terminate().await;
    server.report().await;
    let never_served = Server::builder()
        .service(lab.clone())
        .listener(&address)
        .workers(3)
        .bind()
        .await
        .unwrap();
    assert_eq!(never_served.addresses(), std::slice::from_ref(&address));
    drop(never_served);
    lab.serve_with(&address, |server| server).await;
}

#[test]
fn workers_end_when_the_runtime_of_their_server_goes() {
    let lab = Lab::default();
    let own = runtime();
    let server = own.block_on(lab.serve_with("tcp://127.0.0.1:0", three));
    let clients = runtime();
    let client = clients.block_on(server.client());
    let entered = clients.enter();
    let call = start(&client, &WAIT, "call");
    drop(entered);
    clients.block_on(lab.logged("call began"));
    own.shutdown_background();
    assert!(clients.block_on(within(call)).unwrap().is_err());
    clients.block_on(lab.logged("call dropped"));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
