//! Clients that come back when the server that refused them says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Error, Executed, Status,
    client::ClientBuilder,
    middleware::{Answer, ClientCall, Middleware, Next, ServerCall, from_fn},
};
use test_support::{Running, all, lab::*, within};
use tokio::time::Instant;

/// Refuses the first calls with a status, and counts all.
#[derive(Clone)]
struct Refusing {
    status: Status,
    first: usize,
    seen: Arc<AtomicUsize>,
}

impl Refusing {
    fn first(first: usize, status: Status) -> Self {
        Self {
            status,
            first,
            seen: Arc::default(),
        }
    }

    fn always(status: Status) -> Self {
        Self::first(usize::MAX, status)
    }

    /// How many calls have come since the last time.
    fn take_seen(&self) -> usize {
        self.seen.swap(0, SeqCst)
    }

    /// Serves a lab at `address`, for a client that comes back.
    async fn served(&self, address: &str) -> (Running, Client) {
        self.served_to(address, |client| client).await
    }

    async fn served_to(
        &self,
        address: &str,
        configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> (Running, Client) {
        let server = Lab::default()
            .serve_with(address, |server| server.layer(self.clone()))
            .await;
        let client = configure(Client::builder(&server.address)).connect();
        let client = within(client).await.unwrap();
        (server, client)
    }
}

impl Middleware<ServerCall> for Refusing {
    async fn handle(&self, call: ServerCall, next: Next<ServerCall>) -> Result<Answer, Status> {
        match self.seen.fetch_add(1, SeqCst) < self.first {
            true => Err(self.status.clone()),
            false => next.run(call).await,
        }
    }
}

fn slow_down() -> Status {
    Status::resource_exhausted("slow down")
}

const SECOND: Duration = Duration::from_secs(1);

async fn call(client: &Client) -> Result<(), Error> {
    within(client.call().send_recv(&ECHO, ())).await
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_refused_call_comes_back_when_its_server_says() {
    for (status, address) in [
        (slow_down(), "mem:hint-exhausted"),
        (Status::unavailable("overloaded"), "mem:hint-unavailable"),
    ] {
        let refusing = Refusing::first(2, status.with_retry_after(SECOND));
        let (_server, client) = refusing.served(address).await;
        let begun = Instant::now();
        call(&client).await.unwrap();
        assert_eq!(refusing.take_seen(), 3);
        let took = begun.elapsed();
        assert!(
            took >= 2 * SECOND && took <= 4 * SECOND + Duration::from_millis(10),
            "{took:?}"
        );
    }
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn the_waits_of_calls_that_were_refused_together_differ() {
    let refusing = Refusing::first(6, slow_down().with_retry_after(SECOND));
    let (_server, client) = refusing.served("mem:hint-jitter").await;
    let begun = Instant::now();
    let timed = async || {
        call(&client).await.unwrap();
        begun.elapsed()
    };
    let (a, b, c, d, e, f) = tokio::join!(timed(), timed(), timed(), timed(), timed(), timed());
    let mut ends = [a, b, c, d, e, f].map(|end| end.as_millis());
    ends.sort_unstable();
    assert!(ends[0] >= 1000, "{ends:?}");
    assert!(
        ends[5] - ends[0] > 50,
        "by chance once in a million runs: {ends:?}"
    );
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn without_a_hint_a_refused_call_fails_at_once() {
    let refusing = Refusing::always(slow_down());
    let (_server, client) = refusing.served("mem:hint-none").await;
    let error = call(&client).await.unwrap_err();
    assert_eq!((error.message(), error.retry_after()), ("slow down", None));
    assert_eq!(refusing.take_seen(), 1);
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_call_that_may_not_wait_fails_at_once_with_the_hint() {
    let refusing = Refusing::always(slow_down().with_retry_after(SECOND));
    let (server, client) = refusing.served("mem:hint-no-wait").await;
    let unwilling: Client = Client::builder(&server.address).retry_hints(false).connect_lazy();
    let begun = Instant::now();
    let too_short = client.call().timeout(SECOND);
    for call in [too_short, client.call().fail_fast(), unwilling.call()] {
        let error = within(call.send_recv::<_, ()>(&ECHO, ())).await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::ResourceExhausted, Executed::No)
        );
        assert_eq!(error.retry_after(), Some(SECOND));
        assert_eq!(refusing.take_seen(), 1);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);

    let hour = slow_down().with_retry_after(Duration::from_secs(3600));
    let refusing = Refusing::always(hour);
    let (_server, client) = refusing.served("mem:hint-hour").await;
    let endless = client.call().timeout(None).send_recv::<_, ()>(&ECHO, ());
    within(endless).await.unwrap_err();
    assert_eq!(refusing.take_seen(), 1);
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_call_comes_back_three_times_and_all_calls_together_as_the_budget_allows() {
    let refusing = Refusing::always(slow_down().with_retry_after(SECOND));
    let (_server, client) = refusing.served("mem:hint-budget").await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let error = call(&client).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(SECOND));
        seen.push(refusing.take_seen());
    }
    assert_eq!(seen, [4, 4, 4, 2, 1, 1], "ten tokens");
    assert!(
        call(&client)
            .await
            .unwrap_err()
            .to_string()
            .ends_with("executed: no)"),
        "it was not resent"
    );
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn an_error_after_a_wait_says_why_the_call_was_resent() {
    let refusing = Refusing::always(slow_down().with_retry_after(SECOND));
    let (_server, client) = refusing.served("mem:hint-says").await;
    let error = call(&client).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("resent after: RESOURCE_EXHAUSTED: slow down"),
        "{error}"
    );
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_stream_of_replies_comes_back_once_and_other_calls_with_streams_never() {
    let refusing = Refusing::first(1, slow_down().with_retry_after(SECOND));
    let (_server, client) = refusing.served("mem:hint-stream").await;
    let begun = Instant::now();
    let mut counted = client.call().reply_stream(&COUNT, 3_u64).await.unwrap();
    let (messages, end) = all::<u64>(&mut counted).await;
    end.unwrap();
    assert_eq!((messages.len(), refusing.take_seen()), (3, 2));
    assert!(begun.elapsed() >= SECOND);

    let refusing = Refusing::always(slow_down().with_retry_after(SECOND));
    let (_server, client) = refusing.served("mem:hint-streams").await;
    let mut counted = client.call().reply_stream(&COUNT, 3_u64).await.unwrap();
    let error = all::<u64>(&mut counted).await.1.unwrap_err();
    assert_eq!((error.retry_after(), refusing.take_seen()), (Some(SECOND), 2));
    let (_sender, sum) = client
        .call()
        .request_stream::<u64, u64, _>(&SUM, Ok)
        .await
        .unwrap();
    let error = within(sum).await.unwrap_err();
    assert_eq!((error.retry_after(), refusing.take_seen()), (Some(SECOND), 1));
    within(client.call().send(&ADD, 1_u64)).await.unwrap();
    within(client.settled()).await.unwrap();
    assert_eq!(refusing.take_seen(), 1);
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_call_that_ran_never_comes_back() {
    let behind = from_fn(async |call: ServerCall, next: Next<ServerCall>| {
        next.run(call).await?;
        Err(slow_down().with_retry_after(SECOND))
    });
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:hint-ran", |server| server.layer(behind))
        .await;
    let client = server.client().await;
    let error = within(client.call().send_recv::<_, ()>(&ADD, 1_u64))
        .await
        .unwrap_err();
    assert_eq!(
        (error.executed(), error.retry_after()),
        (Executed::Yes, Some(SECOND))
    );
    assert_eq!(lab.sum(), 1);
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_does_not_come_back() {
    let refusing = Refusing::always(slow_down().with_retry_after(SECOND));
    let (_server, client) = refusing.served("mem:hint-dropped").await;
    let waiting = tokio::time::timeout(SECOND / 2, call(&client));
    assert!(waiting.await.is_err(), "it waits");
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(refusing.take_seen(), 1);
}

#[tokio::test(crate = "test_support::gate", start_paused = true)]
async fn a_client_with_middleware_comes_back_too() {
    let refusing = Refusing::first(1, slow_down().with_retry_after(SECOND));
    let counted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    let noting = from_fn(move |call: ClientCall, next: Next<ClientCall>| {
        count.fetch_add(1, SeqCst);
        next.run(call)
    });
    let (_server, client) = refusing
        .served_to("mem:hint-layered", |client| client.layer(noting))
        .await;
    call(&client).await.unwrap();
    assert_eq!((refusing.take_seen(), counted.load(SeqCst)), (2, 1));
}
