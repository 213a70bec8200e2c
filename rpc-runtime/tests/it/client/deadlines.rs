//! A deadline bounds a call in each of its phases. Time is paused, so every bound is exact.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Error, Executed, Limits, Status,
    server::{Handler, Incoming, Procedure, Service},
    status::Phase,
};
use test_support::{LONG, lab::*, until, within};
use tokio::time::Instant;

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

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_to_an_endless_handler_ends_at_its_deadline() {
    let lab = Lab::default();
    let client = Client::in_process(lab.clone());
    let call = client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ());
    let error = fails_after(BOUND, call).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Wait), Executed::Maybe)
    );
    assert_eq!(
        error.message(),
        "no reply within 50ms (Call::timeout or ClientBuilder::timeout)"
    );
    until(|| lab.hanging() == 0).await;
    assert_eq!(echo(&client, "next").await.unwrap(), "next");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_default_is_half_a_minute_and_can_be_set() {
    let client = Client::in_process(Lab::default());
    fails_after(
        Duration::from_secs(30),
        client.call().send_recv::<_, ()>(&HANG, ()),
    )
    .await;
    let server = Lab::default().serve("mem:client-deadlines-default").await;
    let client = Client::builder(&server.address).timeout(BOUND).connect_lazy();
    fails_after(BOUND, client.call().send_recv::<_, ()>(&HANG, ())).await;
    let call = client.call().timeout(None).send_recv::<_, ()>(&HANG, ());
    let hour = Duration::from_secs(3600);
    assert!(
        tokio::time::timeout(hour, call).await.is_err(),
        "there was a limit"
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_without_a_server_tries_until_its_deadline() {
    let client = Client::connect_lazy("mem:client-deadlines-nobody");
    let error = ends_after(
        Duration::from_secs(2),
        client.call().timeout(Duration::from_secs(2)).send(&ADD, 1_u64),
    )
    .await;
    // The server is away, rather than slow.
    assert_eq!(
        (error.code(), error.phase(), error.executed()),
        (Code::Unavailable, Some(Phase::Connect), Executed::No)
    );
    assert!(
        error
            .message()
            .starts_with("no connection within 2s (Call::timeout or ClientBuilder::timeout): cannot connect: no server listens"),
        "{error}"
    );
    assert_eq!(error.peer(), Some("mem:client-deadlines-nobody"));
    assert_eq!(error.procedure(), Some("lab.v1.Lab/add"));
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.unwrap().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_without_a_slot_waits_until_its_deadline() {
    let lab = Lab::default();
    let limits = Limits::default().max_calls(16);
    let server = lab
        .serve_with("mem:client-deadlines-slot", |server| server.limits(limits))
        .await;
    let client = server.client().await;
    let hanging: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call().timeout(None).send_recv::<_, ()>(&HANG, ()).await })
        })
        .collect();
    until(|| lab.hanging() == 16).await;
    let call = client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ());
    let error = fails_after(BOUND, call).await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Queue), Executed::No)
    );
    // The built-in service needs no slot.
    within(client.ping()).await.unwrap();
    for call in hanging {
        call.abort();
    }
    assert_eq!(echo(&client, "next").await.unwrap(), "next");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_without_time_is_never_sent() {
    let lab = Lab::default();
    let client = Client::in_process(lab.clone());
    assert_eq!(echo(&client, "connect").await.unwrap(), "connect");
    let error = fails_after(
        Duration::ZERO,
        client.call().timeout(Duration::ZERO).send(&ADD, 1_u64),
    )
    .await;
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Queue), Executed::No)
    );
    assert_eq!(within(client.barrier()).await.unwrap().received(), 0);
    assert_eq!(lab.sum(), 0);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_clock_starts_at_the_first_poll() {
    let client = Client::in_process(Lab::default());
    let call = client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ());
    tokio::time::advance(10 * BOUND).await;
    fails_after(BOUND, call).await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_inside_a_handler_inherits_the_remaining_time() {
    let far = Lab::default();
    let (near, client) = Lab::in_process();
    near.set_client(Client::in_process(far.clone()));
    for procedure in [&NEST, &NEST_SPAWNED] {
        let call = client.call().timeout(BOUND).send_recv::<_, String>(procedure, ());
        fails_after(BOUND, call).await;
        // The nested call had no timeout of its own: it ended all the same.
        until(|| far.hanging() == 0).await;
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn flush_barrier_and_ping_are_bounded_too() {
    // Bound and never served, so no HELLO comes.
    let server = rpc_runtime::Server::builder()
        .service(Lab::default())
        .listener("mem:client-deadlines-silent")
        .signals(false)
        .bind()
        .await
        .unwrap();
    let client = Client::builder("mem:client-deadlines-silent")
        .timeout(BOUND)
        .connect_lazy();
    within(client.call().send(&ADD, 1_u64)).await.unwrap();
    within(client.flush()).await.unwrap();
    fails_after(BOUND, client.barrier()).await;
    let error = fails_after(BOUND, client.ping()).await;
    assert_eq!(error.procedure(), Some("rpc.control.v1.Control/rpc_ping"));
    let call = client.call().send_recv::<_, ()>(&HANG, ());
    fails_after(BOUND, call).await;
    drop(server);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn connect_is_bounded_by_its_own_timeout() {
    let server = rpc_runtime::Server::builder()
        .service(Lab::default())
        .listener("mem:client-deadlines-connect")
        .signals(false)
        .bind()
        .await
        .unwrap();
    let connect = Client::builder("mem:client-deadlines-connect")
        .connect_timeout(BOUND)
        .connect();
    let error = fails_after(BOUND, connect).await;
    assert_eq!(
        (error.code(), error.phase()),
        (Code::DeadlineExceeded, Some(Phase::Connect))
    );
    fails_after(
        Duration::from_secs(10),
        Client::connect("mem:client-deadlines-connect"),
    )
    .await;
    drop(server);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_terminate_has_no_timeout_of_its_own_and_still_ends() {
    let bound = Duration::from_secs(30);
    let error = ends_after(
        bound,
        Client::connect_lazy("mem:client-deadlines-terminate").terminate(),
    )
    .await;
    assert!(error.message().contains("no server listens"), "{error}");
    assert_eq!(
        (error.phase(), error.executed()),
        (Some(Phase::Connect), Executed::No)
    );

    let lab = Lab::default();
    let drain = Duration::from_secs(100);
    let server = lab
        .serve_with("mem:client-deadlines-drain", |server| server.drain_timeout(drain))
        .await;
    let client = server.client().await;
    let open = {
        let client = client.clone();
        tokio::spawn(async move { client.call().timeout(None).send_recv::<_, ()>(&HANG, ()).await })
    };
    until(|| lab.hanging() == 1).await;
    let bounded = client.call().timeout(BOUND).terminate();
    fails_after(BOUND, bounded).await;
    let start = Instant::now();
    // The drain that it began goes on, and cuts the call that hangs.
    assert_eq!(open.await.unwrap().unwrap_err().executed(), Executed::Maybe);
    assert!(start.elapsed() >= drain - BOUND && start.elapsed() <= drain + Duration::from_secs(3));
}

/// Polls the future of the test, which others may poll as well.
static JOIN: Procedure = Procedure::new("share.v1.Share/rpc_join", 301);
/// Makes a future by the test's function, keeps it, and polls it.
static MAKE: Procedure = Procedure::new("share.v1.Share/rpc_make", 302);
/// Makes a future by the test's function, and keeps it.
static LEAVE: Procedure = Procedure::new("share.v1.Share/rpc_leave", 303);
static SHARE: [Procedure; 3] = [JOIN, MAKE, LEAVE];

type Load = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// As a cache that lets one of its users load: they share one future.
#[derive(Clone)]
struct Share {
    load: Arc<Mutex<Option<Load>>>,
    make: fn(&'static Client) -> Load,
    /// Where it is loaded from.
    far: &'static Client,
}

impl Share {
    fn new(make: fn(&'static Client) -> Load) -> (Self, Client) {
        let share = Self {
            load: Arc::default(),
            make,
            far: Box::leak(Box::new(Client::in_process(Lab::default()))),
        };
        let client = Client::in_process(share.clone());
        (share, client)
    }

    fn keep(&self) {
        *self.load.lock().unwrap() = Some((self.make)(self.far));
    }

    async fn join(&self) -> Result<(), Error> {
        poll_fn(|cx| self.load.lock().unwrap().as_mut().unwrap().as_mut().poll(cx)).await
    }
}

impl Service for Share {
    fn name(&self) -> &'static str {
        "share.v1.Share"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &SHARE
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let share = self.clone();
        call.handle(move |_, (): ()| async move {
            if index > 0 {
                share.keep();
            }
            if index < 2 {
                share.join().await?;
            }
            Ok::<(), Status>(())
        })
    }
}

/// As long as a load may take.
const LOAD: Duration = Duration::from_secs(10);

fn plain(far: &'static Client) -> Load {
    Box::pin(far.call().timeout(LOAD).send_recv::<_, ()>(&HANG, ()))
}

fn in_a_block(far: &'static Client) -> Load {
    Box::pin(async { far.call().timeout(LOAD).send_recv::<_, ()>(&HANG, ()).await })
}

fn detached(far: &'static Client) -> Load {
    Box::pin(async {
        far.call()
            .detached()
            .timeout(LOAD)
            .send_recv::<_, ()>(&HANG, ())
            .await
    })
}

async fn hurried(client: &Client, procedure: &'static Procedure) {
    let call = client.call().timeout(BOUND).send_recv::<_, ()>(procedure, ());
    fails_after(BOUND, call).await;
}

/// The load goes on after the end of the handler that polled it first, until its own deadline.
async fn outlives(share: &Share) {
    let error = fails_after(LOAD - BOUND, share.join()).await;
    assert_eq!(
        error.message(),
        "no reply within 10s (Call::timeout or ClientBuilder::timeout)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_made_outside_inherits_no_deadline_from_its_polling_handler() {
    let (share, client) = Share::new(plain);
    share.keep();
    hurried(&client, &JOIN).await;
    outlives(&share).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_of_another_handler_inherits_no_deadline_from_its_polling_handler() {
    let (share, client) = Share::new(plain);
    let call = client.call().timeout(LONG).send_recv::<_, ()>(&LEAVE, ());
    within(call).await.unwrap();
    hurried(&client, &JOIN).await;
    outlives(&share).await;
}

#[tokio::test(start_paused = true)]
async fn a_detached_call_inherits_no_deadline_from_its_handler() {
    let (share, client) = Share::new(detached);
    hurried(&client, &MAKE).await;
    outlives(&share).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_in_an_async_block_inherits_from_its_first_polling_handler() {
    let (share, client) = Share::new(in_a_block);
    share.keep();
    hurried(&client, &JOIN).await;
    let error = within(share.join()).await.unwrap_err();
    assert!(
        error.message().contains("what was left of the surrounding call"),
        "{error}"
    );
}
