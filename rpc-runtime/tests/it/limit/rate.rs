//! `limit::rate`: what is counted, for whom, and in which order with other middleware.

use std::time::Duration;

use rpc_runtime::{
    Client, Code, Executed, Status,
    client::DropReason,
    limit,
    middleware::{Layered, ServerCall, from_fn},
};
use test_support::{all, lab::*, unix, within};
use tokio::time::sleep;

use super::{admitted, by_user, echo_as, limited, text_as};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_call_beyond_the_rate_was_not_executed_and_its_error_says_when_to_come_back() {
    let lab = Lab::default();
    let client = limited(&lab, limit::rate(10).burst(3));
    assert_eq!(admitted(&client, "ada", 3).await, 3);
    let error = text_as(&client, "ada", &WAIT, "never").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::ResourceExhausted, Executed::No)
    );
    assert_eq!(
        error.message(),
        "the caller exceeds its rate of 10 calls in 1s (the server's limit::rate): slow down"
    );
    assert_eq!(error.retry_after(), Some(Duration::from_millis(100)));
    assert_eq!(error.status().and_then(Status::retry_after), error.retry_after());
    assert_eq!(lab.log(), [""; 0]);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(admitted(&client, "ada", 3).await, 1);
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_greedy_caller_takes_nothing_from_another() {
    let client = limited(&Lab::default(), limit::rate(5).per(HOUR));
    for _ in 0..5 {
        admitted(&client, "greedy", 100).await;
        assert!(echo_as(&client, "modest").await.is_ok());
    }
    assert_eq!(admitted(&client, "greedy", 100).await, 0);
    sleep(HOUR).await;
    assert_eq!(admitted(&client, "greedy", 100).await, 5);
    assert_eq!(admitted(&client, "modest", 100).await, 5);
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn many_names_never_get_more_than_a_full_table() {
    let client = limited(&Lab::default(), limit::rate(2).per(HOUR).max_callers(10));
    let mut all = 0;
    for round in 0..3 {
        for name in 0..100 {
            let calls = admitted(&client, &format!("{round}-{name}"), 2).await;
            all += calls;
        }
    }
    assert_eq!(all, 20);
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_key_says_whose_calls_count_together() {
    let lab = Lab::default();
    let each = limit::rate(1).per(HOUR);
    let client = limited(&lab, each.by(|call| (limit::caller(call), call.procedure())));
    assert_eq!(admitted(&client, "ada", 2).await, 1);
    assert_eq!(admitted(&client, "bob", 2).await, 1);
    text_as(&client, "ada", &SLEEP, "").await.unwrap();
    text_as(&client, "ada", &SLEEP, "").await.unwrap_err();

    let client = limited(&lab, limit::rate(1).per(HOUR).by(|_| ()));
    assert_eq!(admitted(&client, "ada", 2).await, 1);
    assert_eq!(admitted(&client, "bob", 2).await, 0);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_limit_for_one_procedure_counts_no_other() {
    let lab = Lab::default();
    let limit = limit::rate(1).per(HOUR);
    let server = lab
        .serve_with("mem:limit-procedure", |server| {
            server.layer_for("lab.v1.Lab/echo", limit)
        })
        .await;
    let client = server.client().await;
    for _ in 0..3 {
        text_as(&client, "ada", &SLEEP, "").await.unwrap();
    }
    assert_eq!(admitted(&client, "ada", 3).await, 1);
}

#[tokio::test(crate = "test_support::gate")]
async fn connections_of_one_address_count_together() {
    let lab = Lab::default();
    let limit = limit::rate(3).per(HOUR);
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| server.layer(limit))
        .await;
    let mut ok = 0;
    for _ in 0..3 {
        let client = server.client().await;
        for _ in 0..2 {
            let call = client.call().fail_fast().send_recv::<_, ()>(&ECHO, ());
            ok += usize::from(within(call).await.is_ok());
        }
    }
    assert_eq!(ok, 3);
}

#[tokio::test(crate = "test_support::gate")]
async fn connections_of_one_user_count_together_at_all_sockets() {
    let lab = Lab::default();
    let limit = limit::rate(3).per(HOUR);
    let addresses = ["limit-user-1", "limit-user-2"].map(unix);
    let server = lab
        .serve_with(&addresses[0], |server| {
            server.layer(limit).listener(&addresses[1])
        })
        .await;
    let mut ok = 0;
    for address in &addresses {
        let client: Client = within(Client::connect(address)).await.unwrap();
        for _ in 0..3 {
            ok += usize::from(echo_as(&client, "").await.is_ok());
        }
    }
    assert_eq!(ok, 3);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn streams_count_once_and_one_way_calls_count_as_overload() {
    let client = limited(&Lab::default(), limit::rate(2).per(HOUR));
    let mut counted = client
        .call()
        .fail_fast()
        .reply_stream(&COUNT, 100_u64)
        .await
        .unwrap();
    assert_eq!(all::<u64>(&mut counted).await.0.len(), 100);
    for _ in 0..3 {
        within(client.call().send(&ADD, 1_u64)).await.unwrap();
    }
    let account = within(client.settled()).await.unwrap();
    assert_eq!(account.handled(), 1);
    assert_eq!(account.dropped().collect::<Vec<_>>(), [(DropReason::Overload, 2)]);
    let mut counted = client
        .call()
        .fail_fast()
        .reply_stream(&COUNT, 100_u64)
        .await
        .unwrap();
    let (messages, end) = all::<u64>(&mut counted).await;
    let error = end.unwrap_err();
    assert_eq!((messages.len(), error.executed()), (0, Executed::No));
    assert!(error.retry_after().is_some());
}

#[tokio::test(crate = "test_support::gate")]
async fn no_limit_refuses_a_control_call() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:limit-control", |server| {
            server.layer(limit::rate(1).per(HOUR))
        })
        .await;
    let client = server.client().await;
    assert_eq!(admitted(&client, "ada", 3).await, 1);
    within(client.ping()).await.unwrap();
    within(client.settled()).await.unwrap();
    within(client.terminate()).await.unwrap();
}

/// A server of which only callers with the token `open` pass.
fn tokens() -> impl rpc_runtime::middleware::Middleware<ServerCall> {
    from_fn(
        async |call: ServerCall, next| match call.metadata().get_str("token") {
            Some("open") => next.run(call).await,
            _ => Err(Status::unauthenticated("send a token")),
        },
    )
}

#[tokio::test(crate = "test_support::gate")]
async fn behind_authentication_a_limit_counts_callers_and_before_it_attempts() {
    let guess = |client: Client, token: &'static str| async move {
        let call = client.call().metadata("token", token).metadata("user", "ada");
        let result = within(call.fail_fast().send_recv::<_, ()>(&ECHO, ())).await;
        result.map_err(|error| error.code())
    };
    let (denied, exhausted) = (Err(Code::Unauthenticated), Err(Code::ResourceExhausted));
    let limit = || limit::rate(2).per(HOUR);
    let lab = Lab::default();

    let behind = Layered::new(lab.clone())
        .layer(tokens())
        .layer(by_user())
        .layer(limit());
    let client = Client::in_process(behind);
    for _ in 0..10 {
        assert_eq!(
            guess(client.clone(), "wrong").await,
            denied,
            "a guess costs ada nothing"
        );
    }
    assert_eq!(guess(client.clone(), "open").await, Ok(()));
    assert_eq!(guess(client.clone(), "open").await, Ok(()));
    assert_eq!(guess(client.clone(), "open").await, exhausted);

    let before = Layered::new(lab).layer(limit()).layer(tokens());
    let client = Client::in_process(before);
    assert_eq!(guess(client.clone(), "wrong").await, denied);
    assert_eq!(guess(client.clone(), "wrong").await, denied);
    assert_eq!(guess(client.clone(), "wrong").await, exhausted, "no more guesses");
    assert_eq!(guess(client, "open").await, exhausted);
}
