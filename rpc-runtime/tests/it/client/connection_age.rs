//! Connections that reach their age limit or are idle for long: clients go on with the next one, and no call fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_runtime::{Client, Code, Executed, Limits, client::ConnectionState};
use test_support::{lab::*, until};
use tokio::time::{Instant, sleep};

const MINUTE: Duration = Duration::from_secs(60);

fn old_after(age: Duration) -> Limits {
    Limits::default()
        .max_age(age)
        .max_age_grace(Duration::from_secs(5))
}

/// Counts how often `client` gets a connection.
fn count_connections(client: &Client) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(usize::from(
        client.state() == ConnectionState::Ready,
    )));
    let mut watch = client.watch_state();
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut state = watch.state();
        while state != ConnectionState::Closed {
            state = watch.changed().await;
            if state == ConnectionState::Ready {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    count
}

/// Calls and sends for twenty minutes; returns how many sends went.
async fn work(client: &Client) -> u64 {
    let mut sent = 0;
    let end = Instant::now() + 20 * MINUTE;
    while Instant::now() < end {
        let echoed = echo(client, "x").await.unwrap();
        assert_eq!(&echoed[..], b"x");
        client.call().send(&ADD, 1_u64).await.unwrap();
        sent += 1;
        // Now and then one that is open for a while, so that ages come in the middle of it.
        sleep(Duration::from_millis(37 * (sent % 60))).await;
    }
    sent
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_client_outlives_the_connections_that_its_server_finds_too_old() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:age-server", |server| server.limits(old_after(MINUTE)))
        .await;
    let client = server.client().await;
    let connections = count_connections(&client);
    let sent = work(&client).await;
    // Not one send is in doubt, on none of the connections.
    client.barrier().await.unwrap();
    until(|| lab.sum() == sent).await;
    let connections = connections.load(Ordering::SeqCst);
    assert!((18..=23).contains(&connections), "{connections}");
    client.close().await.unwrap();
    server.stop().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_client_outlives_the_connections_that_it_finds_too_old_itself() {
    let lab = Lab::default();
    let server = lab.serve("mem:age-client").await;
    let client = Client::builder(&server.address)
        .limits(old_after(MINUTE))
        .connect()
        .await
        .unwrap();
    let connections = count_connections(&client);
    let sent = work(&client).await;
    client.barrier().await.unwrap();
    until(|| lab.sum() == sent).await;
    let connections = connections.load(Ordering::SeqCst);
    assert!((18..=23).contains(&connections), "{connections}");
    client.close().await.unwrap();
    server.stop().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_that_outlasts_the_grace_of_its_old_connection_is_cut() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:age-cut", |server| server.limits(old_after(MINUTE)))
        .await;
    let client = server.client().await;
    let begun = Instant::now();
    let error = client
        .call()
        .timeout(None)
        .send_recv::<_, ()>(&HANG, ())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe),
        "{error}"
    );
    let took = begun.elapsed();
    let (least, most) = (Duration::from_secs(54 + 5), Duration::from_secs(66 + 5 + 3));
    assert!(took >= least && took <= most, "{took:?}");
    until(|| lab.hanging() == 0).await;
    echo(&client, "x").await.unwrap();
    server.stop().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_report_omits_calls_cut_by_age() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:age-report", |server| server.limits(old_after(MINUTE)))
        .await;
    let client = server.client().await;
    client
        .call()
        .timeout(None)
        .send_recv::<_, ()>(&HANG, ())
        .await
        .unwrap_err();
    echo(&client, "x").await.unwrap();
    let report = client.terminate().await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.completed(), report.aborted()), (0, 0), "{report}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn an_idle_connection_closes_and_the_next_call_connects_again() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:age-idle", |server| {
            server.limits(Limits::default().max_idle(MINUTE))
        })
        .await;
    let client = server.client().await;
    for _ in 0..5 {
        let connections = count_connections(&client);
        client.call().send(&ADD, 1_u64).await.unwrap();
        for _ in 0..20 {
            // Never idle for long.
            echo(&client, "x").await.unwrap();
            sleep(Duration::from_secs(50)).await;
        }
        assert_eq!(client.state(), ConnectionState::Ready);
        assert!(connections.load(Ordering::SeqCst) <= 2);
        sleep(2 * MINUTE).await;
        assert_ne!(
            client.state(),
            ConnectionState::Ready,
            "{:?}",
            client.last_failure()
        );
    }
    client.barrier().await.unwrap();
    assert_eq!(lab.sum(), 5);
    server.stop().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_client_closes_its_own_idle_connection() {
    let lab = Lab::default();
    let server = lab.serve("mem:age-idle-client").await;
    let client = Client::builder(&server.address)
        .limits(Limits::default().max_idle(MINUTE))
        .connect()
        .await
        .unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .call()
                .timeout(Some(5 * MINUTE))
                .send_recv::<_, ()>(&HANG, ())
                .await
        }
    });
    sleep(4 * MINUTE).await;
    assert_eq!(client.state(), ConnectionState::Ready, "a call is open");
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    sleep(2 * MINUTE).await;
    assert_ne!(client.state(), ConnectionState::Ready);
    echo(&client, "x").await.unwrap();
    server.stop().await;
}
