//! A deadline bounds a call with streams in each of its phases, and an idle timeout beside it. Time is paused, so every
//! bound is exact.

use std::time::Duration;

use rpc_runtime::{
    Client, Code, Context, Error, Executed, Limits, Reply, Sender, Server, Status, Streaming,
    server::{Handler, Incoming, Procedure, ServerBuilder, Service},
    status::Phase,
};
use test_support::{gate, lab::*, within};
use tokio::time::{Instant, sleep};

const BOUND: Duration = Duration::from_millis(50);

/// Is timed out after `after`, and not before.
async fn fails_after<T: std::fmt::Debug>(
    after: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Error {
    let error = ends_after(after, call).await;
    assert!(error.is_timeout(), "{error}");
    error
}

/// Fails after `after`, and not before.
async fn ends_after<T: std::fmt::Debug>(
    after: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Error {
    let start = Instant::now();
    let error = call.await.unwrap_err();
    let took = start.elapsed();
    // Tokio's timers are exact to a millisecond.
    assert!(
        took >= after && took <= after + Duration::from_millis(2),
        "{took:?}: {error}"
    );
    error
}

async fn serve(name: &str, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Lab, Client) {
    let lab = Lab::default();
    let server = Server::builder()
        .service(lab.clone())
        .listener(name)
        .signals(false);
    let server = configure(server).bind().await.unwrap();
    gate::serve(server);
    (lab, within(Client::connect(name)).await.unwrap())
}

async fn ignore(client: &Client, timeout: impl Into<Option<Duration>>) -> (Sender<String>, Reply<()>) {
    let call = client.call().timeout(timeout);
    within(call.request_stream(&IGNORE, Ok)).await.unwrap()
}

/// Sends until it would have to wait for longer than a moment.
async fn fill(sender: &mut Sender<String>) {
    while let Ok(sent) = tokio::time::timeout(Duration::from_millis(1), sender.send("x".repeat(10_000))).await
    {
        sent.unwrap();
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_reader_waits_until_the_deadline_of_the_call_and_no_longer() {
    let (lab, client) = Lab::in_process();
    let call = client.call().timeout(BOUND);
    let mut replies: Streaming<String> = within(call.reply_stream(&WATCH, ())).await.unwrap();
    assert_eq!(within(replies.message()).await.unwrap().unwrap(), "here");
    // A message does not begin the time anew.
    sleep(BOUND / 2).await;
    let error = fails_after(BOUND / 2, replies.message()).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Stream), Executed::Maybe)
    );
    assert_eq!(
        error.message(),
        "not at its end within 50ms (Call::timeout or ClientBuilder::timeout)"
    );
    lab.until_hanging(0).await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_sender_waits_until_the_deadline_of_the_call_and_no_longer() {
    let (lab, client) = Lab::in_process();
    let begun = Instant::now();
    let (mut sender, reply) = ignore(&client, BOUND).await;
    fill(&mut sender).await;
    let left = BOUND - begun.elapsed();
    let error = fails_after(left, sender.send("x".repeat(10_000))).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Stream), Executed::Maybe)
    );
    let error = fails_after(Duration::ZERO, reply).await;
    assert!(
        error.message().starts_with(
            "not at its end within 50ms (Call::timeout or ClientBuilder::timeout); its Sender was still open"
        ),
        "{error}"
    );
    lab.until_hanging(0).await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_reply_waits_until_the_deadline_of_the_call_and_no_longer() {
    let (lab, client) = Lab::in_process();
    let begun = Instant::now();
    let (sender, reply) = ignore(&client, BOUND).await;
    lab.until_hanging(1).await;
    let error = fails_after(BOUND - begun.elapsed(), reply).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Wait), Executed::Maybe)
    );
    // What is not wanted any more needs no end.
    sender.finish();
    lab.until_hanging(0).await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_default_is_half_a_minute_and_covers_the_whole_stream() {
    let (_, client) = Lab::in_process();
    let start = Instant::now();
    let (mut sender, mut replies) = within(client.call().both_streams::<String, String>(&ECHO_STREAM))
        .await
        .unwrap();
    while start.elapsed() < Duration::from_secs(29) {
        within(sender.send("tick".to_owned())).await.unwrap();
        within(replies.message()).await.unwrap().unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    let left = Duration::from_secs(30) - start.elapsed();
    fails_after(left, replies.message()).await;
    let late = within(sender.send("late".to_owned())).await.unwrap_err();
    assert_eq!(late.code(), Code::Cancelled);
    assert!(late.message().contains("its reply tells"), "{late}");

    let call = client.call().timeout(None);
    let (_sender, mut replies) = within(call.both_streams::<String, String>(&ECHO_STREAM))
        .await
        .unwrap();
    let hour = tokio::time::timeout(Duration::from_secs(3600), replies.message()).await;
    assert!(hour.is_err(), "there was a limit");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_stream_without_a_server_tries_until_its_deadline() {
    let client = Client::connect_lazy("mem:stream-deadlines-nobody");
    let timeout = Duration::from_secs(2);
    let calls = [
        ends_after(
            timeout,
            client
                .call()
                .timeout(timeout)
                .reply_stream::<_, String>(&WATCH, ()),
        )
        .await,
        ends_after(
            timeout,
            client
                .call()
                .timeout(timeout)
                .both_streams::<String, String>(&ECHO_STREAM),
        )
        .await,
    ];
    for error in calls {
        assert_eq!(
            (error.code(), error.phase(), error.executed()),
            (Code::Unavailable, Some(Phase::Connect), Executed::No)
        );
        assert!(error.message().contains("no server listens"), "{error}");
        assert!(error.procedure().is_some());
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_stream_without_a_slot_waits_until_its_deadline() {
    let limits = Limits::default().max_calls(16);
    let (lab, client) = serve("mem:stream-deadlines-slot", |server| server.limits(limits)).await;
    let mut watches = Vec::new();
    for _ in 0..16 {
        let call = client.call().timeout(None);
        watches.push(within(call.reply_stream::<_, String>(&WATCH, ())).await.unwrap());
    }
    lab.until_hanging(16).await;
    let call = client.call().timeout(BOUND);
    let error = fails_after(BOUND, call.reply_stream::<_, String>(&WATCH, ())).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Queue), Executed::No)
    );
    let call = client.call().timeout(BOUND);
    let error = fails_after(BOUND, call.both_streams::<String, String>(&ECHO_STREAM)).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Queue), Executed::No)
    );
    drop(watches);
    let (sender, mut replies) = within(client.call().both_streams::<String, String>(&ECHO_STREAM))
        .await
        .unwrap();
    sender.finish();
    assert!(within(replies.message()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_stream_to_a_server_that_does_not_answer_its_hello_waits_until_its_deadline() {
    // Bound, and never served.
    let server = Server::builder()
        .service(Lab::default())
        .listener("mem:stream-deadlines-silent")
        .signals(false);
    let _server = server.bind().await.unwrap();
    let client = Client::connect_lazy("mem:stream-deadlines-silent");
    // One request goes ahead of the handshake, a stream of them does not.
    let call = client.call().timeout(BOUND);
    let mut replies: Streaming<String> = within(call.reply_stream(&WATCH, ())).await.unwrap();
    let error = fails_after(BOUND, replies.message()).await;
    assert_eq!(error.phase(), Some(Phase::Wait));
    let call = client.call().timeout(BOUND);
    let error = fails_after(BOUND, call.both_streams::<String, String>(&ECHO_STREAM)).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Queue), Executed::No)
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_stream_without_time_is_never_sent() {
    let (lab, client) = Lab::in_process();
    let call = client.call().timeout(Duration::ZERO);
    let error = fails_after(Duration::ZERO, call.reply_stream::<_, String>(&WATCH, ())).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Queue), Executed::No)
    );
    let call = client.call().timeout(Duration::ZERO);
    let error = fails_after(Duration::ZERO, call.both_streams::<String, String>(&ECHO_STREAM)).await;
    assert_eq!(error.executed(), Executed::No);
    assert_eq!(lab.hanging(), 0);
}

/// Watches another server from inside of its own handler, or from a task that that spawns; without a timeout.
struct Nest(Client);

static OWN: Procedure = Procedure::new("nest.v1.Nest/rpc_own", 401);
static SPAWNED: Procedure = Procedure::new("nest.v1.Nest/rpc_spawned", 402);
static SENDING: Procedure = Procedure::new("nest.v1.Nest/rpc_sending", 403);
static NEST: [Procedure; 3] = [OWN, SPAWNED, SENDING];

async fn to_the_end(replies: Result<Streaming<String>, Error>) -> Result<(), Status> {
    let mut replies = replies?;
    while replies.message().await?.is_some() {}
    Ok(())
}

impl Service for Nest {
    fn name(&self) -> &'static str {
        "nest.v1.Nest"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &NEST
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let next = self.0.clone();
        match index {
            0 => call.handle(move |_, (): ()| async move {
                to_the_end(next.call().timeout(None).reply_stream(&WATCH, ()).await).await
            }),
            1 => call.handle(move |cx: Context, (): ()| async move {
                let watch = async move {
                    next.call()
                        .timeout(None)
                        .within(&cx)
                        .reply_stream(&WATCH, ())
                        .await
                };
                let replies = tokio::spawn(watch).await.unwrap();
                // The stream goes on in another task than the one that opened it.
                tokio::spawn(to_the_end(replies)).await.unwrap()
            }),
            2 => call.handle(move |_, (): ()| async move {
                let call = next.call().timeout(None);
                let (_sender, reply) = call.request_stream::<String, (), ()>(&IGNORE, Ok).await?;
                Ok(reply.await?)
            }),
            _ => call.unknown(),
        }
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_stream_inside_a_handler_inherits_the_remaining_time() {
    let (far, next) = Lab::in_process();
    let client = Client::in_process(Nest(next));
    for procedure in [&OWN, &SPAWNED, &SENDING] {
        let call = client.call().timeout(BOUND).send_recv::<_, ()>(procedure, ());
        fails_after(BOUND, call).await;
        // The nested call had no timeout of its own: it ended all the same.
        far.until_hanging(0).await;
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn an_idle_timeout_counts_from_the_last_message_in_either_direction() {
    let idle = Duration::from_secs(5);
    let (_, client) = Lab::in_process();
    let call = client.call().timeout(None).idle_timeout(idle);
    let (mut sender, mut replies) = within(call.both_streams::<String, String>(&ECHO_STREAM))
        .await
        .unwrap();
    for _ in 0..5 {
        sleep(Duration::from_secs(4)).await;
        within(sender.send("x".to_owned())).await.unwrap();
        sleep(Duration::from_secs(4)).await;
        // The message was here already: only its reader was late.
        within(replies.message()).await.unwrap().unwrap();
    }
    let error = fails_after(idle, replies.message()).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Stream), Executed::Maybe)
    );
    assert_eq!(error.message(), "no message moved for 5s: Call::idle_timeout");
    assert_eq!(
        within(sender.send("late".to_owned())).await.unwrap_err().code(),
        Code::Cancelled
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_sender_that_waits_for_credit_fails_at_the_idle_timeout() {
    let idle = Duration::from_secs(5);
    let (lab, client) = Lab::in_process();
    let call = client.call().timeout(None).idle_timeout(idle);
    let (mut sender, reply) = within(call.request_stream::<String, (), ()>(&IGNORE, Ok))
        .await
        .unwrap();
    let begun = Instant::now();
    fill(&mut sender).await;
    let left = idle - begun.elapsed();
    fails_after(left, sender.send("x".repeat(10_000))).await;
    assert!(within(reply).await.unwrap_err().is_timeout());
    lab.until_hanging(0).await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_handler_that_takes_its_time_is_not_idle_as_long_as_something_moves() {
    let (_, client) = Lab::in_process();
    let call = client.call().timeout(None).idle_timeout(Duration::from_secs(5));
    let (mut sender, reply) = within(call.request_stream(&SUM, Ok::<u64, Error>)).await.unwrap();
    for number in 0..10 {
        sleep(Duration::from_secs(4)).await;
        within(sender.send(number)).await.unwrap();
    }
    sender.finish();
    assert_eq!(within(reply).await.unwrap(), 45);
}
