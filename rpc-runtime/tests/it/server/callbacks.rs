//! Servers that call their clients, and what a client that serves does when either side ends.

use std::time::Duration;

use rpc_runtime::{Client, Code, Executed, client::ConnectionState};
use test_support::{Running, lab::*, within};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

/// A server, a client that serves, and what they do.
struct Scene {
    /// What the server serves.
    server: Lab,
    running: Running,
    /// What the client serves.
    served: Lab,
    client: Client,
    /// The server's stub to the client.
    stub: Client,
}

impl Scene {
    async fn new(address: &str) -> Self {
        let server = Lab::default();
        let running = server.serve(address).await;
        let served = Lab::default();
        let client = Client::builder(&running.address).service(served.clone());
        let client: Client = within(client.connect()).await.unwrap();
        within(client.call().send_recv::<(), ()>(&KEEP, ()))
            .await
            .unwrap();
        let stub = server.client();
        Self {
            server,
            running,
            served,
            client,
            stub,
        }
    }

    /// Begins a drain that lasts until the release, and makes the client leave the connection.
    async fn left_in_a_drain(&self) {
        send(&self.client, &WAIT, "waiting").await;
        within(self.client.barrier()).await.unwrap();
        let first = start(&self.client, &BACK_DRAINING, "first");
        self.server.logged("first began").await;
        self.server.logged("waiting began").await;
        self.running.handle.drain();
        assert_eq!(within(first).await.unwrap().unwrap(), "first");
        // A call finds that the connection takes no more.
        let late = self.client.call().timeout(Duration::from_secs(1));
        within(late.send_recv::<_, String>(&ECHO, "late".to_owned()))
            .await
            .unwrap_err();
        assert_ne!(self.client.state(), ConnectionState::Ready);
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn one_way_calls_that_outlive_a_clients_connection_do_not_hide_its_end() {
    let scene = Scene::new("mem:callbacks-outlive").await;
    let Scene { served, client, .. } = &scene;
    send(&scene.stub, &WAIT, "sent").await;
    served.logged("sent began").await;
    let begun = Instant::now();
    scene.running.handle.drain();
    let mut states = client.watch_state();
    within(async {
        while client.state() == ConnectionState::Ready {
            states.changed().await;
        }
    })
    .await;
    // The handler would be dropped after 30 s.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!served.log().contains(&"sent dropped".to_owned()));
    served.release();
    served.logged("sent ended").await;
}

#[test]
fn a_client_that_serves_outlives_the_runtime_that_it_connected_in() {
    let servers = runtime();
    let running = servers.block_on(Lab::default().serve("tcp://127.0.0.1:0"));
    let client: Client = Client::builder(&running.address)
        .service(Lab::default())
        .connect_lazy();
    for round in ["first", "second"] {
        let clients = runtime();
        let back = clients.block_on(async { text(&client, &BACK, round).await });
        assert_eq!(back.unwrap(), round);
        // Waits until everything of it is gone.
        drop(clients);
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_client_that_closes_tells_its_handlers_and_lets_them_end() {
    for address in ["mem:callbacks-close", "mem:callbacks-drop"] {
        let scene = Scene::new(address).await;
        let open = start(&scene.stub, &DRAINING, "open");
        scene.served.logged("open began, draining=false").await;
        let begun = Instant::now();
        if address.contains("close") {
            let client = scene.client.clone();
            tokio::spawn(async move { client.close().await.unwrap() });
        }
        drop(scene.client);
        assert_eq!(within(open).await.unwrap().unwrap(), "open ended, draining=true");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        scene.running.handle.drain();
        scene.running.report().await;
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn handlers_of_a_client_that_goes_are_dropped_in_bounded_time() {
    for address in ["mem:callbacks-close-bound", "mem:callbacks-drop-bound"] {
        let scene = Scene::new(address).await;
        let open = start(&scene.stub, &WAIT, "open");
        scene.served.logged("open began").await;
        let begun = Instant::now();
        if address.contains("close") {
            let error = within(scene.client.close()).await.unwrap_err();
            assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
        }
        drop(scene.client);
        scene.served.logged("open dropped").await;
        assert_eq!(begun.elapsed().as_secs(), 30);
        let error = within(open).await.unwrap().unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unavailable, Executed::Maybe)
        );
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn handlers_of_a_server_that_drains_may_still_call_their_callers() {
    let scene = Scene::new("mem:callbacks-draining").await;
    scene.left_in_a_drain().await;
    assert_eq!(text(&scene.stub, &ECHO, "back").await.unwrap(), "back");
    let begun = Instant::now();
    scene.server.release();
    let report = scene.running.report().await;
    assert_eq!((report.completed(), report.is_clean()), (2, true), "{report}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_client_that_closes_does_not_wait_for_the_drain_of_its_server() {
    let scene = Scene::new("mem:callbacks-draining-close").await;
    scene.left_in_a_drain().await;
    let begun = Instant::now();
    // The server's one-way keeps that side open; this one needs nothing more.
    let closed = tokio::time::timeout(Duration::from_secs(10), scene.client.close()).await;
    closed.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    scene.server.release();
    scene.running.report().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_server_calls_its_caller_after_hours_of_silence() {
    let scene = Scene::new("mem:callbacks-silence").await;
    tokio::time::sleep(Duration::from_secs(5 * 3600)).await;
    assert_eq!(text(&scene.stub, &ECHO, "there").await.unwrap(), "there");
    assert_eq!(scene.stub.state(), ConnectionState::Ready);
    scene.running.handle.drain();
    scene.running.report().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_callback_ends_with_the_call_that_it_was_made_for() {
    let scene = Scene::new("mem:callbacks-deadline").await;
    let begun = Instant::now();
    let call = scene.client.call().timeout(Duration::from_secs(2));
    let error = within(call.send_recv::<_, String>(&BACK_WAIT, "timed".to_owned()))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    scene.served.logged("timed dropped").await;
    // The callback itself has 30 s, the default.
    assert_eq!(begun.elapsed().as_secs(), 2);
    let call = start(&scene.client, &BACK_WAIT, "cancelled");
    scene.served.logged("cancelled began").await;
    call.abort();
    let begun = Instant::now();
    scene.served.logged("cancelled dropped").await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    scene.running.handle.drain();
    scene.running.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_client_that_serves_cannot_be_terminated() {
    let scene = Scene::new("mem:callbacks-terminate").await;
    let error = within(scene.stub.terminate()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unimplemented, Executed::No)
    );
    within(scene.stub.ping()).await.unwrap();
    assert_eq!(text(&scene.client, &BACK, "alive").await.unwrap(), "alive");
}

#[test]
fn a_client_whose_handler_blocks_its_thread_still_makes_calls() {
    let (servers, clients) = (runtime(), runtime());
    let scene = clients.block_on(async {
        let server = Lab::default();
        let running = servers.spawn({
            let server = server.clone();
            async move { server.serve("tcp://127.0.0.1:0").await }
        });
        let running = running.await.unwrap();
        let served = Lab::default();
        let client = Client::builder(&running.address).service(served.clone());
        let client: Client = within(client.connect()).await.unwrap();
        within(client.call().send_recv::<(), ()>(&KEEP, ()))
            .await
            .unwrap();
        let stub = server.client();
        Scene {
            server,
            running,
            served,
            client,
            stub,
        }
    });
    servers.block_on(async {
        send(&scene.stub, &BLOCK, "slow").await;
        scene.served.logged("slow began").await;
        for _ in 0..3 {
            assert_eq!(text(&scene.stub, &ECHO, "fast").await.unwrap(), "fast");
            assert_eq!(text(&scene.client, &BACK, "fast").await.unwrap(), "fast");
        }
        assert!(!scene.served.log().contains(&"slow ended".to_owned()));
        scene.served.release();
        scene.served.logged("slow ended").await;
    });
    clients.shutdown_background();
    servers.shutdown_background();
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
