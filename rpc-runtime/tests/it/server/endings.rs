//! What remains after a server or a connection: free addresses, and one-way calls that keep their deadlines.

use std::time::Duration;

use rpc_runtime::{Server, server::ServerHandle};
use test_support::{gate, lab::*, within};

#[tokio::test(flavor = "multi_thread", crate = "test_support::gate")]
async fn an_address_is_free_as_soon_as_serving_has_ended() {
    for round in 0..60 {
        let lab = Lab::default();
        let server = Server::builder()
            .service(lab)
            .listener("mem:endings-free")
            .signals(false)
            .bind()
            .await
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        let handle = server.handle();
        let serving = gate::serve(server);
        match round % 3 {
            // Before, while or after the server begins to serve.
            0 => handle.drain(),
            1 => handle.abort(),
            _ => {
                let client = rpc_runtime::Client::connect("mem:endings-free").await.unwrap();
                text(&client, &ECHO, "there").await.unwrap();
                handle.drain();
            }
        }
        within(serving).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_one_way_that_outlives_its_connection_keeps_its_deadline() {
    let lab = Lab::default();
    let server = lab.serve("mem:endings-outlive").await;
    let client = server.client().await;
    let one_way = client.call().timeout(Duration::from_secs(5));
    one_way.send(&WAIT, "sent".to_owned()).await.unwrap();
    send(&client, &ECHO, "").await;
    lab.logged("sent began").await;
    let begun = tokio::time::Instant::now();
    within(client.close()).await.unwrap();
    assert_eq!(
        begun.elapsed(),
        Duration::ZERO,
        "the socket does not outlive the connection"
    );
    assert!(!lab.log().contains(&"sent dropped".to_owned()), "{:?}", lab.log());
    lab.logged("sent dropped").await;
    // A one-way call without a deadline of its own has 30 s.
    assert_eq!(begun.elapsed().as_secs(), 5);
    server.handle.drain();
    server.report().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn one_way_calls_that_outlive_their_connection_are_forgotten_when_they_end() {
    let lab = Lab::default();
    let server = lab.serve("mem:endings-forgotten").await;
    let client = server.client().await;
    let one_way = client.call().timeout(Duration::from_secs(24 * 3600));
    one_way.send(&WAIT, "sent".to_owned()).await.unwrap();
    lab.logged("sent began").await;
    within(client.close()).await.unwrap();
    drop(client);
    lab.release();
    lab.logged("sent ended").await;
    // The server's own tasks: it serves, it accepts.
    let begun = tokio::time::Instant::now();
    while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "a task waits for the deadline"
        );
    }
    server.handle.drain();
    server.report().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn one_way_calls_that_outlive_their_connection_are_in_the_report() {
    for ends in [true, false] {
        let lab = Lab::default();
        let configure =
            |server: rpc_runtime::server::ServerBuilder| server.drain_timeout(Duration::from_secs(5));
        let server = lab.serve_with("mem:endings-left-behind", configure).await;
        let client = server.client().await;
        let one_way = client.call().timeout(Duration::from_secs(24 * 3600));
        one_way.send(&WAIT, "sent".to_owned()).await.unwrap();
        lab.logged("sent began").await;
        within(client.close()).await.unwrap();
        server.handle.drain();
        if ends {
            tokio::time::sleep(Duration::from_secs(1)).await;
            lab.release();
        }
        let report = server.report().await;
        let counts = (report.completed(), report.one_way_dropped(), report.stuck());
        assert_eq!(counts, if ends { (1, 0, 0) } else { (0, 1, 0) }, "{report}");
        lab.logged(if ends { "sent ended" } else { "sent dropped" }).await;
    }
}

#[test]
fn a_drain_ends_with_the_runtime_that_it_could_not_begin_in() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    for begin in [ServerHandle::drain, ServerHandle::abort, |_: &ServerHandle| {}] {
        let servers = runtime();
        let handle = servers.block_on(async {
            let server = Lab::default().serve("mem:endings-runtime").await;
            begin(&server.handle);
            server.handle
        });
        drop(servers);
        runtime().block_on(within(handle.drained()));
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_drain_without_a_limit_does_not_overflow() {
    let lab = Lab::default();
    let configure = |server: rpc_runtime::server::ServerBuilder| server.drain_timeout(Duration::MAX);
    let server = lab.serve_with("mem:endings-unbounded", configure).await;
    let client = server.client().await;
    let open = start(&client, &WAIT, "open");
    lab.logged("open began").await;
    server.handle.drain();
    tokio::time::sleep(Duration::from_secs(1000)).await;
    lab.release();
    assert_eq!(within(open).await.unwrap().unwrap(), "open");
    let report = server.report().await;
    assert!(report.is_clean() && report.completed() == 1, "{report}");
}

#[tokio::test(start_paused = true, crate = "gate")]
async fn a_server_drains_when_its_shutdown_resolves() {
    let lab = Lab::default();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .service(lab.clone())
        .listener("mem:endings-shutdown")
        .signals(false)
        .bind()
        .await
        .unwrap();
    let serving = tokio::spawn(server.serve_with_shutdown(async { stopped.await.unwrap() }));
    let client = rpc_runtime::Client::connect("mem:endings-shutdown")
        .await
        .unwrap();
    let open = start(&client, &WAIT, "open");
    lab.logged("open began").await;
    assert!(!serving.is_finished());
    stop.send(()).unwrap();
    // The open call has its time, and a new one is refused.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = client
        .call()
        .fail_fast()
        .send_recv::<_, String>(&ECHO, "late".to_owned());
    assert_eq!(
        within(refused).await.unwrap_err().code(),
        rpc_runtime::Code::Unavailable
    );
    assert!(!serving.is_finished());
    lab.release();
    assert_eq!(within(open).await.unwrap().unwrap(), "open");
    let report = within(serving).await.unwrap().unwrap();
    assert!(report.is_clean() && report.completed() == 1, "{report}");
}
