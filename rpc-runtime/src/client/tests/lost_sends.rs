//! What a flush or a barrier reports of one-way calls whose connection ended (G4).

use tokio::time::Instant;

use super::*;
use crate::{Account, Executed, client::ConnectionState, message::control};

async fn send(client: &Client, len: usize) {
    let sent = client.call().send(&ECHO, Bytes::from(vec![7; len]));
    within(sent).await.unwrap();
}

/// Waits until the client has noticed the end of its connection.
async fn noticed(client: &Client) {
    let mut watch = client.watch_state();
    while client.state() == ConnectionState::Ready {
        within(watch.changed()).await;
    }
}

/// What the next flush reports; checks that it reports it once.
async fn told(client: &Client) -> (u64, u64) {
    let error = within(client.flush()).await.unwrap_err();
    within(client.flush()).await.unwrap();
    let lost = error.lost_sends().unwrap();
    let executed = match lost.maybe() {
        0 => Executed::No,
        _ => Executed::Maybe,
    };
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, executed));
    assert_eq!(
        error.message(),
        format!(
            "a connection ended before a barrier had covered all its sends: {} never executed, {} perhaps",
            lost.no(),
            lost.maybe()
        )
    );
    (lost.no(), lost.maybe())
}

#[tokio::test(start_paused = true)]
async fn only_sends_written_whole_may_have_run() {
    let hand = Hand::new("mem:lost-written").await;
    let client = Client::builder("mem:lost-written").timeout(LONG).connect_lazy();
    send(&client, 0).await;
    let deaf = hand.accept_deaf().await;
    while client.state() != ConnectionState::Ready {
        settle().await;
    }
    // The stream holds 64 KiB: three of them and a part of the fourth.
    for _ in 0..10 {
        send(&client, 20_000).await;
    }
    settle().await;
    drop(deaf);
    noticed(&client).await;
    assert_eq!(told(&client).await, (7, 4));
}

#[tokio::test(start_paused = true)]
async fn sends_covered_by_a_barrier_are_not_lost() {
    let hand = Hand::new("mem:lost-covered").await;
    let (client, far) = connected(&hand, "mem:lost-covered").await;
    for _ in 0..5 {
        send(&client, 10).await;
    }
    within(client.barrier()).await.unwrap();
    for _ in 0..3 {
        send(&client, 10).await;
    }
    settle().await;
    far.die();
    noticed(&client).await;
    assert_eq!(told(&client).await, (0, 3));
}

#[tokio::test(start_paused = true)]
async fn sends_above_the_last_id_never_ran() {
    let hand = Hand::new("mem:lost-goaway").await;
    let (client, far) = connected(&hand, "mem:lost-goaway").await;
    for _ in 0..3 {
        send(&client, 10).await;
    }
    // It has read none of them.
    far.go();
    noticed_by_a_call(&client, &hand).await;
    assert_eq!(told(&client).await, (3, 0));
}

/// As [`noticed`], by a call that goes to the next connection.
async fn noticed_by_a_call(client: &Client, hand: &Hand) {
    settle().await;
    let pending = call(client);
    hand.accept().await.serve(1).await;
    done(pending).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn counts_of_several_connections_add_up() {
    let hand = Hand::new("mem:lost-several").await;
    let (client, far) = connected(&hand, "mem:lost-several").await;
    send(&client, 10).await;
    send(&client, 10).await;
    far.go();
    settle().await;
    let pending = call(&client);
    let far = hand.accept().await;
    far.serve(1).await;
    done(pending).await.unwrap();
    for _ in 0..3 {
        send(&client, 10).await;
    }
    settle().await;
    far.die();
    noticed(&client).await;
    let error = {
        let pending = call(&client);
        hand.accept().await.serve(1).await;
        done(pending).await.unwrap();
        within(client.barrier()).await.unwrap_err()
    };
    let lost = error.lost_sends().unwrap();
    assert_eq!((lost.no(), lost.maybe()), (2, 3));
    within(client.barrier()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_barrier_without_a_connection_returns_the_last_account_at_once() {
    let hand = Hand::new("mem:lost-nothing").await;
    let (client, far) = connected(&hand, "mem:lost-nothing").await;
    send(&client, 10).await;
    within(client.barrier()).await.unwrap();
    // The server drains, and reads no more pings.
    far.go();
    // No server accepts the next connection, so timing does not matter.
    for _ in 0..2 {
        assert_eq!(within(client.barrier()).await.unwrap().received(), 1);
        within(client.flush()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_had_a_connection_has_an_empty_account_at_once() {
    let client = Client::connect_lazy("mem:lost-unused");
    let before = Instant::now();
    assert_eq!(within(client.barrier()).await.unwrap(), Account::default());
    assert_eq!(within(client.settled()).await.unwrap(), Account::default());
    // Also while a call waits for the first connection.
    let pending = call(&client);
    settle().await;
    assert_ne!(client.state(), ConnectionState::Idle);
    assert_eq!(within(client.barrier()).await.unwrap(), Account::default());
    assert!(before.elapsed() < Duration::from_millis(100));
    client.close().await.unwrap();
    assert!(within(client.barrier()).await.is_err());
    assert!(done(pending).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_carried_nothing_changes_no_account() {
    let hand = Hand::new("mem:lost-account").await;
    let (client, far) = connected(&hand, "mem:lost-account").await;
    send(&client, 10).await;
    within(client.barrier()).await.unwrap();
    far.go();
    settle().await;
    let pending = call(&client);
    let far = hand.accept().await;
    far.serve(1).await;
    done(pending).await.unwrap();
    // While there is a connection, its account is returned.
    assert_eq!(within(client.barrier()).await.unwrap().received(), 0);
    far.go();
    assert_eq!(within(client.barrier()).await.unwrap().received(), 1);
    client.close().await.unwrap();
    assert_eq!(
        within(client.barrier()).await.unwrap_err().message(),
        "the client is closed: make a new one"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_a_barrier_asks_the_next_connection() {
    let hand = Hand::new("mem:lost-then").await;
    let (client, far) = connected(&hand, "mem:lost-then").await;
    send(&client, 10).await;
    within(client.barrier()).await.unwrap();
    send(&client, 10).await;
    settle().await;
    far.die();
    noticed(&client).await;
    assert_eq!(told(&client).await, (0, 1));
    let barrier = tokio::spawn({
        let client = client.clone();
        async move { client.barrier().await }
    });
    let _next = hand.accept().await;
    assert_eq!(within(barrier).await.unwrap().unwrap().received(), 0);
}

#[tokio::test(start_paused = true)]
async fn settled_tells_once_of_sends_that_ran_when_their_connection_was_lost() {
    let hand = Hand::new("mem:lost-unsettled").await;
    let (client, far) = connected(&hand, "mem:lost-unsettled").await;
    send(&client, 10).await;
    let send = far.started().await;
    assert_eq!(within(client.barrier()).await.unwrap().pending(), 1);
    let settling = tokio::spawn({
        let client = client.clone();
        async move { client.settled().await }
    });
    // It has arrived at the server, which does not answer.
    let asked = far.request().await;
    assert_eq!(asked.procedure, control::SETTLE.id());
    far.shared.with(|conn, now| conn.handled(send, now));
    far.die();
    let error = within(settling).await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    assert!(
        error.message().contains("1 one-way calls were still running"),
        "{error}"
    );
    assert!(error.is_closed());
    // Reported once. A barrier had covered it, so it was not lost.
    within(client.flush()).await.unwrap();
    let settling = tokio::spawn(async move { client.settled().await });
    let far = hand.accept().await;
    let asked = far.started().await;
    let reply = control::SettleReply::default();
    far.shared.with(|conn, now| conn.reply(asked, &reply, now));
    assert_eq!(within(settling).await.unwrap().unwrap(), Account::default());
}
