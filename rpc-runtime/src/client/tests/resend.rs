//! Which calls are retried, and which are not (G1).

use super::*;
use crate::{Executed, message::control::TERMINATE};

/// How the first try ends.
enum Fate {
    /// The connection is gone before any of the call is written.
    Lost,
    /// The server drains, and has not read the call.
    Gone,
    /// The server refuses it because it drains.
    Refused,
}

#[tokio::test(start_paused = true)]
async fn a_call_that_did_not_run_is_resent_when_its_connection_is_to_blame() {
    for (fate, name) in [
        (Fate::Lost, "mem:resend-lost"),
        (Fate::Gone, "mem:resend-gone"),
        (Fate::Refused, "mem:resend-refused"),
    ] {
        let hand = Hand::new(name).await;
        let (client, far) = connected(&hand, name).await;
        let pending = call(&client);
        match fate {
            Fate::Lost => {
                far.die();
                hand.accept().await.serve(1).await;
            }
            Fate::Gone => {
                far.go();
                hand.accept().await.serve(1).await;
            }
            Fate::Refused => {
                let id = far.request().await.id;
                far.refuse(id, Code::Unavailable);
                far.serve(1).await;
            }
        }
        done(pending).await.unwrap();
        assert_eq!(spent(&client), 1, "{name}");
    }
}

/// How many tokens the retry budget of `client` lacks; takes the rest.
fn spent(client: &Client) -> usize {
    10 - (0..20).filter(|_| client.channel().retry_budget().take()).count()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_run_is_not_resent() {
    let hand = Hand::new("mem:resend-maybe").await;
    let (client, far) = connected(&hand, "mem:resend-maybe").await;
    let pending = call(&client);
    far.started().await;
    far.die();
    let error = done(pending).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    assert_eq!(spent(&client), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_another_reason_is_not_resent() {
    let hand = Hand::new("mem:resend-other").await;
    let (client, far) = connected(&hand, "mem:resend-other").await;
    for code in [
        Code::ResourceExhausted,
        Code::Unimplemented,
        Code::Internal,
        Code::DeadlineExceeded,
    ] {
        let pending = call(&client);
        let id = far.request().await.id;
        far.refuse(id, code);
        let error = done(pending).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (code, Executed::No));
    }
    let pending = call(&client);
    let id = far.started().await;
    far.fail(id, Code::Unavailable);
    let error = done(pending).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Yes)
    );
    assert_eq!(spent(&client), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_resent_once_and_its_error_tells_both_reasons() {
    let hand = Hand::new("mem:resend-once").await;
    let (client, far) = connected(&hand, "mem:resend-once").await;
    let pending = call(&client);
    for _ in 0..2 {
        let id = far.request().await.id;
        far.refuse(id, Code::Unavailable);
    }
    let error = done(pending).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "UNAVAILABLE: not today (hand.v1.Hand/rpc_echo at mem:resend-once, executed: no, \
         resent after: UNAVAILABLE: not today)"
    );
    assert_eq!(spent(&client), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dry_budget_lets_errors_through_until_replies_have_filled_it() {
    let hand = Hand::new("mem:resend-dry").await;
    let (client, far) = connected(&hand, "mem:resend-dry").await;
    for _ in 0..10 {
        let pending = call(&client);
        for _ in 0..2 {
            let id = far.request().await.id;
            far.refuse(id, Code::Unavailable);
        }
        done(pending).await.unwrap_err();
    }
    let pending = call(&client);
    let id = far.request().await.id;
    far.refuse(id, Code::Unavailable);
    // Not retried: otherwise the test would wait here, and never give the second refusal.
    let error = done(pending).await.unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    assert!(!error.to_string().contains("resent"), "{error}");
    for _ in 0..10 {
        let pending = call(&client);
        far.serve(1).await;
        done(pending).await.unwrap();
    }
    let pending = call(&client);
    let id = far.request().await.id;
    far.refuse(id, Code::Unavailable);
    far.serve(1).await;
    done(pending).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_ahead_of_the_hello_of_a_server_that_goes_cost_no_token() {
    let hand = Hand::new("mem:resend-ahead").await;
    let client = Client::builder("mem:resend-ahead").timeout(LONG).connect_lazy();
    let calls: Vec<_> = (0..16).map(|_| call(&client)).collect();
    settle().await;
    let _gone = hand.turn_away().await;
    hand.accept().await.serve(16).await;
    for pending in calls {
        done(pending).await.unwrap();
    }
    assert_eq!(spent(&client), 0);
}

#[tokio::test(start_paused = true)]
async fn terminates_and_one_way_calls_are_not_resent() {
    let hand = Hand::new("mem:resend-never").await;
    let (client, far) = connected(&hand, "mem:resend-never").await;
    let terminate = tokio::spawn({
        let client = client.clone();
        async move { client.terminate().await }
    });
    let request = far.request().await;
    assert_eq!(request.procedure, TERMINATE.id());
    far.refuse(request.id, Code::Unavailable);
    let error = within(terminate).await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );

    within(client.call().send(&ECHO, Bytes::from_static(b"one-way")))
        .await
        .unwrap();
    far.die();
    let pending = call(&client);
    let far = hand.accept().await;
    let request = far.request().await;
    assert!(!request.one_way);
    far.shared
        .with(|conn, now| conn.started(request.id, now))
        .unwrap();
    far.reply(request.id);
    done(pending).await.unwrap();
    let lost = within(client.flush()).await.unwrap_err().lost_sends().unwrap();
    assert_eq!(lost.no() + lost.maybe(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_covers_both_tries() {
    let hand = Hand::new("mem:resend-deadline").await;
    let (client, far) = connected(&hand, "mem:resend-deadline").await;
    let start = tokio::time::Instant::now();
    let pending = tokio::spawn({
        let client = client.clone();
        let timeout = Duration::from_secs(5);
        async move {
            let call = client.call().timeout(timeout);
            call.send_recv::<_, ()>(&ECHO, Bytes::new()).await
        }
    });
    let id = far.request().await.id;
    tokio::time::sleep(Duration::from_secs(3)).await;
    far.refuse(id, Code::Unavailable);
    far.started().await;
    let error = done(pending).await.unwrap_err();
    assert_eq!(start.elapsed().as_millis() / 10, 500);
    assert_eq!(
        (error.code(), error.executed()),
        (Code::DeadlineExceeded, Executed::Maybe)
    );
    assert!(
        error.to_string().contains("resent after: UNAVAILABLE: not today"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_no_connection_for_its_second_try_did_not_run() {
    let hand = Hand::new("mem:resend-nobody").await;
    let (client, far) = connected(&hand, "mem:resend-nobody").await;
    drop(hand);
    let pending = call(&client);
    far.die();
    let error = done(pending).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::DeadlineExceeded, Executed::No)
    );
    assert_eq!(
        format!("{error:#}"),
        "DEADLINE_EXCEEDED: no connection within 60s (Call::timeout or ClientBuilder::timeout): cannot connect: no server listens there \
         (hand.v1.Hand/rpc_echo at mem:resend-nobody, phase: connect, executed: no, \
         resent after: peer closed the connection): connection refused"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_during_its_second_try_leaves_nothing() {
    let hand = Hand::new("mem:resend-drop").await;
    let (client, far) = connected(&hand, "mem:resend-drop").await;
    // While it waits for a connection.
    let pending = call(&client);
    far.die();
    settle().await;
    assert_eq!(client.channel().waiting(), 1);
    pending.abort();
    within(pending).await.unwrap_err();
    assert_eq!(client.channel().waiting(), 0);
    // While it waits for its reply.
    let far = hand.accept().await;
    let pending = call(&client);
    let id = far.request().await.id;
    far.refuse(id, Code::Unavailable);
    let id = far.started().await;
    pending.abort();
    within(pending).await.unwrap_err();
    assert_eq!(far.unwanted(id).await, Unwanted::Cancelled);
    // The connection serves on.
    let pending = call(&client);
    far.serve(1).await;
    done(pending).await.unwrap();
    assert_eq!(spent(&client), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closed_client_resends_nothing() {
    let hand = Hand::new("mem:resend-closed").await;
    let (client, far) = connected(&hand, "mem:resend-closed").await;
    let pending = call(&client);
    let id = far.request().await.id;
    let closing = tokio::spawn(async move { client.close().await });
    settle().await;
    far.refuse(id, Code::Unavailable);
    let error = done(pending).await.unwrap_err();
    assert_eq!(error.message(), "not today");
    within(closing).await.unwrap().unwrap();
}
