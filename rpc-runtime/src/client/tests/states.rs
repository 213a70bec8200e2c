//! The states that a client shows.

use tokio::time::sleep;

use super::*;
use crate::{
    Executed, Phase,
    client::{ConnectionState, StateWatch},
};

async fn next(watch: &mut StateWatch) -> ConnectionState {
    within(watch.changed()).await
}

/// Waits for `state`, and skips those before it.
async fn until(watch: &mut StateWatch, state: ConnectionState) {
    while next(watch).await != state {}
}

#[tokio::test(start_paused = true)]
async fn every_state_is_shown_on_the_way() {
    let client = Client::builder("mem:states-way").timeout(LONG).connect_lazy();
    let mut watch = client.watch_state();
    assert_eq!(client.state(), ConnectionState::Idle);
    assert!(client.last_failure().is_none());

    let pending = call(&client);
    // The attempt has failed before the test could look.
    assert_eq!(next(&mut watch).await, ConnectionState::BackingOff);
    let failure = client.last_failure().unwrap();
    assert_eq!(
        (failure.code(), failure.phase(), failure.executed()),
        (Code::Unavailable, Some(Phase::Connect), Executed::No)
    );
    assert_eq!(
        format!("{failure:#}"),
        "UNAVAILABLE: cannot connect: no server listens there (at mem:states-way): connection refused"
    );

    let hand = Hand::new("mem:states-way").await;
    until(&mut watch, ConnectionState::Connecting).await;
    let far = hand.accept().await;
    until(&mut watch, ConnectionState::Ready).await;
    assert_eq!(
        (client.state(), watch.state()),
        (ConnectionState::Ready, ConnectionState::Ready)
    );
    assert!(client.last_failure().is_none());
    far.serve(1).await;
    done(pending).await.unwrap();

    far.die();
    assert_eq!(next(&mut watch).await, ConnectionState::Idle);
    let failure = client.last_failure().unwrap();
    assert!(failure.message().starts_with("connection lost"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn without_a_caller_a_failed_attempt_ends_idle() {
    let client = Client::builder("mem:states-idle")
        .timeout(Duration::from_millis(1))
        .connect_lazy();
    let mut watch = client.watch_state();
    done(call(&client)).await.unwrap_err();
    until(&mut watch, ConnectionState::Idle).await;
    sleep(LONG).await;
    assert_eq!(client.state(), ConnectionState::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_came_back_between_two_looks_is_a_change() {
    let hand = Hand::new("mem:states-again").await;
    let (client, far) = connected(&hand, "mem:states-again").await;
    let mut watch = client.watch_state();
    far.die();
    let pending = call(&client);
    hand.accept().await.serve(1).await;
    done(pending).await.unwrap();
    assert_eq!(watch.state(), ConnectionState::Ready);
    assert_eq!(next(&mut watch).await, ConnectionState::Ready);
    // And only one.
    assert!(timeout(LONG, watch.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_loses_no_change() {
    let hand = Hand::new("mem:states-dropped").await;
    let (client, far) = connected(&hand, "mem:states-dropped").await;
    let mut watch = client.watch_state();
    assert!(timeout(Duration::from_millis(1), watch.changed()).await.is_err());
    far.die();
    settle().await;
    // Polled and dropped at once, whether or not it was ready: only a future that returns consumes a change.
    let mut clone = watch.clone();
    drop(watch.changed());
    assert_eq!(next(&mut watch).await, ConnectionState::Idle);
    assert_eq!(next(&mut clone).await, ConnectionState::Idle);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn closed_is_the_last_state() {
    let hand = Hand::new("mem:states-closed").await;
    let (client, _far) = connected(&hand, "mem:states-closed").await;
    let mut watch = client.watch_state();
    within(client.close()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(next(&mut watch).await, ConnectionState::Closed);
    }
    assert_eq!(client.state(), ConnectionState::Closed);
    assert_eq!(watch.state(), ConnectionState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_watch_keeps_no_connection_open_and_sees_the_last_clone_drop() {
    let hand = Hand::new("mem:states-clones").await;
    let (client, far) = connected(&hand, "mem:states-clones").await;
    let clone = client.clone();
    let mut watch = client.watch_state();
    drop(client);
    assert!(timeout(LONG, watch.changed()).await.is_err());
    assert_eq!(watch.state(), ConnectionState::Ready);
    let waiting = tokio::spawn(async move { (watch.changed().await, watch) });
    settle().await;
    drop(clone);
    let (state, mut watch) = within(waiting).await.unwrap();
    assert_eq!(
        (state, watch.state()),
        (ConnectionState::Closed, ConnectionState::Closed)
    );
    assert_eq!(next(&mut watch).await, ConnectionState::Closed);
    sleep(LONG).await;
    assert!(far.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_bad_address_is_a_failure_from_the_beginning() {
    let client = Client::connect_lazy("localhost:80");
    assert_eq!(client.state(), ConnectionState::Idle);
    assert_eq!(client.last_failure().unwrap().code(), Code::InvalidArgument);
    assert!(format!("{client:?}").contains("state: Idle"), "{client:?}");
}
