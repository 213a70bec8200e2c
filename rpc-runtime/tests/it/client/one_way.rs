//! What a client can find out about its one-way calls.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_runtime::{
    Bytes, Client, Code, Error, Executed, Limits,
    client::{ConnectionState, DropReason},
};
use test_support::{lab::*, until, within};
use tokio::{io::copy_bidirectional, net::TcpStream, task::AbortHandle};

async fn add(client: &Client, n: u64) -> Result<(), Error> {
    within(client.call().send(&ADD, n)).await
}

#[tokio::test(crate = "test_support::gate")]
async fn a_barrier_accounts_for_every_send() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    for n in 1..=100 {
        add(&client, n).await.unwrap();
    }
    within(client.call().send(&REFUSE, "no".to_owned()))
        .await
        .unwrap();
    within(client.call().send(&NOWHERE, ())).await.unwrap();
    // Not what `ADD` takes: a string field cannot be a number.
    within(client.call().send(&ADD, "text".to_owned())).await.unwrap();
    assert_eq!(within(client.barrier()).await.unwrap().received(), 103);
    // Received is not yet handled; a call later, on the same connection, is.
    until(|| lab.sum() == 5050).await;
    let mut account = within(client.barrier()).await.unwrap();
    while account.pending() > 0 {
        account = within(client.barrier()).await.unwrap();
    }
    assert_eq!(
        (account.handled(), account.failed(), account.expired()),
        (100, 1, 0)
    );
    let mut dropped: Vec<_> = account.dropped().collect();
    dropped.sort_by_key(|(reason, _)| *reason != DropReason::UnknownProcedure);
    assert_eq!(
        dropped,
        [(DropReason::UnknownProcedure, 1), (DropReason::BadPayload, 1)]
    );
    assert_eq!(
        account.to_string(),
        "received 103: 100 handled, 1 failed, 0 expired, 2 dropped \
         (unknown procedure: 1, bad payload: 1), 0 pending"
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn barriers_in_a_row_do_not_wait_for_each_other() {
    let client = Client::in_process(Lab::default());
    let start = tokio::time::Instant::now();
    for _ in 0..100 {
        within(client.barrier()).await.unwrap();
    }
    // One that waits for another takes 10 s. On a busy machine the server's watch, which knows the real time, may let
    // the clock jump.
    assert!(
        start.elapsed() < Duration::from_secs(100),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn without_sends_a_flush_and_a_barrier_make_no_connection() {
    let client = Client::connect_lazy("mem:client-one-way-nobody");
    within(client.flush()).await.unwrap();
    let client = Client::in_process(Lab::default());
    assert_eq!(within(client.barrier()).await.unwrap(), Default::default());
}

/// A client by way of a relay, whose connections are cut without a word.
struct Cut {
    client: Client,
    relay: Arc<Mutex<Option<AbortHandle>>>,
}

impl Cut {
    fn to(address: &str) -> Self {
        let relay: Arc<Mutex<Option<AbortHandle>>> = Arc::default();
        let (server, last) = (
            address.trim_start_matches("tcp://").to_owned(),
            Arc::clone(&relay),
        );
        let connect = move |_| {
            let (server, last) = (server.clone(), Arc::clone(&last));
            async move {
                let mut far = TcpStream::connect(server).await?;
                let (near, mut middle) = tokio::io::duplex(64 * 1024);
                let task = tokio::spawn(async move {
                    let _ = copy_bidirectional(&mut middle, &mut far).await;
                });
                *last.lock().unwrap() = Some(task.abort_handle());
                Ok(near)
            }
        };
        let client = Client::builder("cut").connector(connect).connect_lazy();
        Self { client, relay }
    }

    /// Cuts the connection, and waits until the client has noticed.
    async fn cut(&self) {
        let mut watch = self.client.watch_state();
        self.relay
            .lock()
            .unwrap()
            .take()
            .expect("it is connected")
            .abort();
        while self.client.state() == ConnectionState::Ready {
            within(watch.changed()).await;
        }
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn sends_in_doubt_after_a_loss_are_reported_once() {
    let server = Lab::default().serve("tcp://127.0.0.1:0").await;
    let line = Cut::to(&server.address);
    let client = &line.client;
    for flush in [true, false] {
        add(client, 1).await.unwrap();
        within(client.barrier()).await.unwrap();
        add(client, 1).await.unwrap();
        add(client, 1).await.unwrap();
        within(client.flush()).await.unwrap();
        line.cut().await;
        // Whether a call makes the next connection before or after does not matter.
        let error = if flush {
            within(client.flush()).await.unwrap_err()
        } else {
            echo(client, "x").await.unwrap();
            within(client.barrier()).await.unwrap_err()
        };
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unavailable, Executed::Maybe)
        );
        assert!(error.message().contains("0 never executed, 2 perhaps"), "{error}");
        let lost = error.lost_sends().unwrap();
        assert_eq!((lost.no(), lost.maybe()), (0, 2));
        within(client.flush()).await.unwrap();
        assert_eq!(within(client.barrier()).await.unwrap().received(), 0);
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn no_send_is_in_doubt_when_its_server_is_aborted() {
    let lab = Lab::default();
    let server = lab.serve("mem:client-one-way-aborted").await;
    let client = server.client().await;
    add(&client, 1).await.unwrap();
    within(client.call().send(&HANG, ())).await.unwrap();
    until(|| lab.sum() == 1 && lab.hanging() == 1).await;
    server.handle.abort();
    server.stop().await;
    let account = within(client.barrier()).await.unwrap();
    assert_eq!((account.received(), account.handled()), (2, 1), "{account}");
    assert_eq!(account.dropped().collect::<Vec<_>>(), [(DropReason::Aborted, 1)]);
}

#[tokio::test(crate = "test_support::gate")]
async fn covered_sends_are_not_reported_after_a_loss() {
    let lab = Lab::default();
    let server = lab.serve("mem:client-one-way-covered").await;
    let client = server.client().await;
    add(&client, 1).await.unwrap();
    within(client.barrier()).await.unwrap();
    server.stop().await;
    let _server = lab.serve("mem:client-one-way-covered").await;
    within(client.flush()).await.unwrap();
    // The account of the connection that ended, or of the next one if a call has made one.
    assert_eq!(within(client.barrier()).await.unwrap().handled(), 1);
    echo(&client, "x").await.unwrap();
    assert_eq!(within(client.barrier()).await.unwrap().received(), 0);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn after_a_graceful_end_barrier_and_settled_return_the_last_account_at_once() {
    let lab = Lab::default();
    let server = lab.serve("mem:client-one-way-ended").await;
    let client = server.client().await;
    for _ in 0..100 {
        add(&client, 1).await.unwrap();
    }
    server.stop().await;
    // No server listens there any more, so a barrier over a new connection would wait until its deadline.
    let account = within(client.barrier()).await.unwrap();
    assert_eq!((account.received(), account.handled()), (100, 100), "{account}");
    within(client.flush()).await.unwrap();
    assert_eq!(within(client.settled()).await.unwrap(), account);
}

#[tokio::test(crate = "test_support::gate")]
async fn more_sends_than_the_server_keeps_wait_and_none_is_lost() {
    let lab = Lab::default();
    let limits = Limits::default().send_bytes(64 << 10);
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| server.limits(limits))
        .await;
    let client = server.client().await;
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..2000 {
                    add(&client, 1).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        within(sender).await.unwrap();
    }
    assert_eq!(within(client.barrier()).await.unwrap().received(), 16_000);
    until(|| lab.sum() == 16_000).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn large_sends_arrive_whole_before_their_barrier() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    for _ in 0..10 {
        within(client.call().send(&ECHO, Bytes::from(vec![1; 1 << 20])))
            .await
            .unwrap();
    }
    assert_eq!(within(client.barrier()).await.unwrap().received(), 10);
}

fn counts(error: &Error) -> (u64, u64) {
    let lost = error
        .lost_sends()
        .unwrap_or_else(|| panic!("not of lost sends: {error}"));
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().ends_with(&lost.to_string()), "{error}");
    let executed = if lost.maybe() == 0 {
        Executed::No
    } else {
        Executed::Maybe
    };
    assert_eq!(error.executed(), executed);
    (lost.no(), lost.maybe())
}

#[tokio::test(crate = "test_support::gate")]
async fn lost_sends_of_several_connections_add_up() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let line = Cut::to(&server.address);
    let client = &line.client;
    let mut sum = 0;
    for n in 1..=3 {
        for _ in 0..n {
            add(client, 1).await.unwrap();
        }
        sum += n;
        until(|| lab.sum() == sum).await;
        line.cut().await;
        // The next connection is there, so the one before is counted.
        within(client.ping()).await.unwrap();
    }
    let error = within(client.barrier()).await.unwrap_err();
    let (no, maybe) = counts(&error);
    assert_eq!(no + maybe, 6, "{error}");
    within(client.flush()).await.unwrap();
    within(client.barrier()).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_failure_of_another_kind_counts_no_lost_sends() {
    let client = Client::connect_lazy("localhost:80");
    let error = within(client.barrier()).await.unwrap_err();
    assert!(error.lost_sends().is_none());
}
