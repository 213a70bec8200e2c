//! How a client ends: by `close()`, or by the drop of its last clone.

use std::time::Duration;

use rpc_runtime::{Client, Code, Executed, Server};
use test_support::{gate, lab::*, mute, until, within};

#[test]
fn outside_of_a_runtime_a_close_is_an_error_and_closes_all_the_same() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (lab, client) = runtime.block_on(async {
        let lab = Lab::default();
        let server = lab.serve("mem:client-connect-close-outside").await;
        let client = server.client().await;
        within(client.call().send(&ADD, 1_u64)).await.unwrap();
        (lab, client)
    });
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut close = std::pin::pin!(client.close());
    match close.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(Err(error)) => assert!(error.message().contains("tokio runtime"), "{error}"),
        other => panic!("{other:?}"),
    }
    runtime.block_on(async {
        until(|| lab.sum() == 1).await;
        within(client.close()).await.unwrap();
    });
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn every_close_waits_for_the_last_connection() {
    let old = Lab::default();
    let server = old.serve("mem:client-connect-two").await;
    let client = server.client().await;
    within(client.call().send(&ADD, 1_u64)).await.unwrap();
    let first = hang(&client);
    until(|| old.hanging() == 1).await;
    server.handle.drain();
    let new = Lab::default();
    let server_again = loop {
        let bound = Server::builder()
            .service(new.clone())
            .listener("mem:client-connect-two")
            .signals(false);
        match bound.bind().await {
            Ok(server) => break server,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let serving = gate::serve(server_again);
    let last = hang(&client);
    // The pause before the next connection has to pass.
    while new.hanging() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    tokio::task::yield_now().await;
    // The old connection, which carries a send, ends; the new one does not.
    first.abort();
    server.stop().await;
    let mut again = std::pin::pin!(client.close());
    let second = Duration::from_secs(1);
    assert!(
        tokio::time::timeout(second, again.as_mut()).await.is_err(),
        "it did not wait"
    );
    last.abort();
    within(again).await.unwrap();
    within(closing).await.unwrap().unwrap();
    serving.abort();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_closed_client_takes_no_more_calls() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    for _ in 0..100 {
        within(client.call().send(&ADD, 1_u64)).await.unwrap();
    }
    let clone = client.clone();
    let (one, other) = tokio::join!(within(client.close()), within(clone.close()));
    one.unwrap();
    other.unwrap();
    until(|| lab.sum() == 100).await;
    for error in [
        echo(&clone, "x").await.unwrap_err(),
        within(client.call().send(&ADD, 1_u64)).await.unwrap_err(),
        within(client.ping()).await.unwrap_err(),
        within(client.barrier()).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unavailable, Executed::No)
        );
        assert_eq!(error.message(), "the client is closed: make a new one");
    }
    within(client.close()).await.unwrap();
    within(Client::connect_lazy(&server.address).close())
        .await
        .unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn close_lets_open_calls_finish() {
    let lab = Lab::default();
    let server = lab.serve("mem:client-connect-close").await;
    let client = server.client().await;
    let replies: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call().send_recv::<_, ()>(&ADD, 1_u64).await })
        })
        .collect();
    until(|| lab.sum() > 0).await;
    within(client.close()).await.unwrap();
    for reply in replies {
        match within(reply).await.unwrap() {
            Ok(()) => {}
            Err(error) => assert_eq!(error.executed(), Executed::No, "{error}"),
        }
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn close_cuts_calls_that_outlast_its_timeout() {
    let lab = Lab::default();
    let server = lab.serve("mem:client-connect-cut").await;
    let client = within(
        Client::builder(&server.address)
            .timeout(Duration::from_secs(3))
            .connect(),
    )
    .await
    .unwrap();
    let open = hang(&client);
    until(|| lab.hanging() == 1).await;
    let start = tokio::time::Instant::now();
    let error = within(client.close()).await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(start.elapsed().as_secs(), 3);
    let error = within(open).await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    until(|| lab.hanging() == 0).await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn close_ends_callers_that_wait_for_a_connection() {
    let _silent = mute("mem:client-connect-silent-to-close").await;
    for address in [
        "mem:client-connect-nobody-to-close",
        "mem:client-connect-silent-to-close",
    ] {
        let client = Client::builder(address)
            .timeout(Duration::from_secs(3))
            .connect_lazy();
        let call = hang(&client);
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A handshake that never comes is waited for no longer than a call.
        assert_eq!(within(client.close()).await.is_err(), address.contains("silent"));
        let error = within(call).await.unwrap().unwrap_err();
        assert!(error.is_closed(), "{error}");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn sends_of_a_dropped_client_still_arrive() {
    let lab = Lab::default();
    for address in ["tcp://127.0.0.1:0", "mem:client-connect-dropped"] {
        let server = lab.serve(address).await;
        let before = lab.sum();
        let client = Client::connect_lazy(&server.address);
        for _ in 0..1000 {
            within(client.call().send(&ADD, 1_u64)).await.unwrap();
        }
        drop(client);
        until(|| lab.sum() == before + 1000).await;
        // Its connection has ended too: a server without connections drains at once.
        server.stop().await;
    }
}
