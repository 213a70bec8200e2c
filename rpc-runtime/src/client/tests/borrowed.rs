//! A client on a borrowed connection: it makes no other connection, and does not close this one.

use super::*;
use crate::{
    Executed,
    api::limits::CLIENT_KEEP_ALIVE,
    client::{Channel, ConnectionState},
    net,
};

/// Both ends of a connection; the second one's client calls the first.
async fn lent() -> (Far, Far, Client) {
    let (ours, theirs) = net::pair();
    let ends = [(ours, Side::Connector), (theirs, Side::Acceptor)].map(|(stream, side)| {
        let settings = crate::conn::Settings::new(
            &Limits::default(),
            CLIENT_KEEP_ALIVE,
            Bytes::from_static(b"end"),
            fastrand::u32(..),
        );
        let max_frame = settings.max_frame;
        let shared = SharedConnection::new(Connection::new(side, settings));
        let driver = tokio::spawn(drive(stream, Arc::clone(&shared), max_frame));
        Far { shared, driver }
    });
    for end in &ends {
        within(poll_fn(|cx| end.shared.with(|conn, _| conn.poll_ready(cx))))
            .await
            .unwrap();
    }
    let [caller, callee] = ends;
    let client = client_over(&callee.shared);
    (caller, callee, client)
}

fn client_over(shared: &Arc<SharedConnection>) -> Client {
    let settings = crate::conn::Settings::new(
        &Limits::default(),
        SERVER_KEEP_ALIVE,
        Bytes::from_static(b"server"),
        fastrand::u32(..),
    );
    let channel = Channel::over_connection(shared, "mem:caller".into(), settings.into(), None);
    let (shared, watched) = (Arc::clone(shared), Arc::clone(&channel));
    tokio::spawn(async move {
        poll_fn(|cx| shared.with(|conn, _| conn.poll_closed(cx))).await;
        // As servers may.
        watched.ended(&shared);
        watched.ended(&shared);
    });
    Client::over(channel)
}

#[tokio::test(start_paused = true)]
async fn calls_go_by_the_lent_connection() {
    let (caller, _callee, client) = lent().await;
    assert_eq!(client.state(), ConnectionState::Ready);
    let call = call(&client);
    caller.serve(1).await;
    done(call).await.unwrap();
    assert!(client.last_failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn after_its_end_every_call_fails_at_once_and_never_ran() {
    let (caller, _callee, client) = lent().await;
    let mut watch = client.watch_state();
    let open = call(&client);
    caller.started().await;
    caller.die();
    assert_eq!(within(watch.changed()).await, ConnectionState::Closed);
    assert_eq!(done(open).await.unwrap_err().executed(), Executed::Maybe);
    assert_eq!(client.state(), ConnectionState::Closed);
    let before = tokio::time::Instant::now();
    let error = done(call(&client)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert!(
        error.message().starts_with("the caller's connection has ended: "),
        "{error}"
    );
    assert_eq!(error.peer(), Some("mem:caller"));
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(client.last_failure().is_some());
    assert!(within(client.barrier()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_end_kept_from_running_is_not_resent() {
    let (caller, _callee, client) = lent().await;
    let refused = call(&client);
    let id = caller.request().await.id;
    caller.refuse(id, Code::Unavailable);
    let error = done(refused).await.unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    assert!(!error.to_string().contains("resent"), "{error}");
    // The peer drains: it takes no more calls.
    caller.go();
    settle().await;
    let error = done(call(&client)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert_eq!(client.state(), ConnectionState::Closed);
}

#[tokio::test(start_paused = true)]
async fn closing_it_leaves_the_connection_alone() {
    let (caller, callee, client) = lent().await;
    let other = client_over(&callee.shared);
    let open = call(&client);
    let id = caller.started().await;
    within(client.close()).await.unwrap();
    assert!(client.channel().is_closed());
    assert_eq!(client.state(), ConnectionState::Closed);
    let error = done(call(&client)).await.unwrap_err();
    assert!(error.message().contains("the client is closed"), "{error}");
    caller.reply(id);
    done(open).await.unwrap();
    drop(client);
    settle().await;
    let call = call(&other);
    caller.serve(1).await;
    done(call).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_side_that_drains_still_calls_the_other() {
    let (caller, callee, client) = lent().await;
    let inner = call(&client);
    let id = caller.started().await;
    callee.shared.with(|conn, now| {
        // As a server does; the handler that calls back is its own call here.
        conn.begin_drain(Reason::Drain, "", Duration::from_secs(30), now);
    });
    let late = call(&client);
    caller.serve(1).await;
    done(late).await.unwrap();
    caller.reply(id);
    done(inner).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sends_in_doubt_after_its_end_are_reported_once() {
    let (caller, _callee, client) = lent().await;
    let (text, sent) = (Bytes::from_static(b"x"), 3);
    for _ in 0..sent {
        within(client.call().send(&ECHO, text.clone())).await.unwrap();
    }
    within(client.flush()).await.unwrap();
    caller.die();
    settle().await;
    let lost = within(client.flush()).await.unwrap_err().lost_sends().unwrap();
    assert_eq!(lost.maybe() + lost.no(), sent);
    within(client.flush()).await.unwrap();
}
