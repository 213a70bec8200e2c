//! `limit::shed`: calls are refused while all of them wait too long, and not in a burst.

use std::{sync::Arc, time::Duration};

use rpc_runtime::{
    Client, Code, Error, Executed, Priority, limit,
    middleware::{Layered, Middleware, Next, ServerCall, from_fn},
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{lab::*, within};
use tokio::{sync::Semaphore, task::JoinSet};

/// A layer that runs one call after the other, as a server does that can handle no more.
fn one_at_a_time() -> impl Middleware<ServerCall> {
    let place = Arc::new(Semaphore::new(1));
    from_fn(move |call: ServerCall, next: Next<ServerCall>| {
        let place = Arc::clone(&place);
        async move {
            let _place = place.acquire().await.expect("it is never closed");
            next.run(call).await
        }
    })
}

/// A lab whose calls of [`SLEEP`] take 10 ms each, one after the other, with shedding.
fn busy() -> Client {
    let layered = Layered::new(Lab::default())
        .layer(one_at_a_time())
        .layer(limit::shed());
    Client::in_process(layered)
}

/// Makes calls at once. Returns how each ended, in the order in which they ended.
async fn burst(client: &Client, count: usize) -> Vec<Result<(), Error>> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        calls.spawn(async move {
            let call = client.call().fail_fast();
            call.send_recv::<_, String>(&SLEEP, String::new()).await.map(drop)
        });
    }
    let mut ends = Vec::new();
    while let Some(end) = within(calls.join_next()).await {
        ends.push(end.unwrap());
    }
    ends
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_burst_is_not_refused() {
    let client = busy();
    for _ in 0..3 {
        let ends = burst(&client, 10).await;
        assert!(
            ends.iter().all(Result::is_ok),
            "90 ms of waiting are a burst: {ends:?}"
        );
    }
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_queue_that_stays_is_refused_until_it_is_gone() {
    let client = busy();
    let ends = burst(&client, 200).await;
    // The first one does not wait. The others wait too long, and for an interval of 100 ms they still run.
    let ran = ends.iter().take_while(|end| end.is_ok()).count();
    assert!((11..=13).contains(&ran), "{ran}");
    for refused in &ends[ran..] {
        let error = refused.as_ref().unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unavailable, Executed::No)
        );
        assert_eq!(
            error.message(),
            "overloaded: for 100ms all calls have waited longer than 5ms: the server's limit::shed"
        );
        assert_eq!(error.retry_after(), Some(Duration::from_millis(100)));
    }
    let ends = burst(&client, 10).await;
    assert!(ends.iter().all(Result::is_ok), "the queue is gone: {ends:?}");
}

/// A service whose procedure is urgent.
struct Heart;

static BEAT: Procedure = Procedure::new("heart.v1.Heart/beat", 702).with_priority(Priority::Control);

impl Service for Heart {
    fn name(&self) -> &'static str {
        "heart.v1.Heart"
    }

    fn procedures(&self) -> &'static [Procedure] {
        std::slice::from_ref(&BEAT)
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_, (): ()| async { Ok(()) })
    }
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn urgent_calls_and_control_calls_are_never_refused() {
    let late = from_fn(async |call: ServerCall, next: Next<ServerCall>| {
        tokio::time::sleep(Duration::from_millis(10)).await;
        next.run(call).await
    });
    let shed = limit::shed().target(Duration::ZERO).interval(Duration::ZERO);
    let server = Lab::default()
        .serve_with("mem:shed-urgent", |server| {
            server.layer(late).layer(shed).service(Heart)
        })
        .await;
    let client = server.client().await;
    for _ in 0..3 {
        let refused = client.call().fail_fast().send_recv::<_, ()>(&ECHO, ());
        assert_eq!(within(refused).await.unwrap_err().code(), Code::Unavailable);
        within(client.call().send_recv::<_, ()>(&BEAT, ())).await.unwrap();
    }
    within(client.ping()).await.unwrap();
    within(client.terminate()).await.unwrap();
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn calls_that_wait_in_their_sockets_are_seen_by_the_delay_of_the_runtime() {
    // A handler that computes for 10 ms. Meanwhile no task runs, and nothing is read that could be timed.
    let computes = from_fn(async |call: ServerCall, next: Next<ServerCall>| {
        tokio::time::advance(Duration::from_millis(10)).await;
        next.run(call).await
    });
    let client = Client::in_process(Layered::new(Lab::default()).layer(limit::shed()).layer(computes));
    let mut refused = Vec::new();
    for number in 0..30 {
        let call = client.call().fail_fast().send_recv::<_, ()>(&ECHO, ());
        if let Err(error) = within(call).await {
            assert_eq!(error.code(), Code::Unavailable);
            refused.push(number);
        }
    }
    let first = *refused.first().expect("none is refused");
    assert!(first >= 10, "not before an interval of 100 ms: {refused:?}");
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn refused_calls_come_back_and_all_are_handled() {
    let client = busy();
    let mut calls = JoinSet::new();
    for _ in 0..16 {
        let client = client.clone();
        calls.spawn(async move { client.call().send_recv::<_, String>(&SLEEP, String::new()).await });
    }
    while let Some(end) = within(calls.join_next()).await {
        end.unwrap().unwrap();
    }
}
