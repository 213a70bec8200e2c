//! Calls from a server to its client, on the same connection.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Context, Error, Executed, Limits, Server, Streaming,
    client::{ClientBuilder, ConnectionState},
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{gate, lab::*, within};

/// Calls the caller back with the number, and returns what it answers.
static ASK: Procedure = Procedure::new("ring.v1.Ring/rpc_ask", 301);
/// Keeps a stub to the caller.
static SUBSCRIBE: Procedure = Procedure::new("ring.v1.Ring/rpc_subscribe", 302);
/// Calls the caller back until a server refuses a call as too deep. Returns how deep that was.
static DEEPER: Procedure = Procedure::new("ring.v1.Ring/rpc_deeper", 303);
static RING: [Procedure; 3] = [ASK, SUBSCRIBE, DEEPER];

/// What both ends of a connection serve in these tests.
#[derive(Clone, Default)]
struct Ring(Arc<Inner>);

#[derive(Default)]
struct Inner {
    subscriber: Mutex<Option<Client>>,
    deepest: AtomicU64,
}

impl Service for Ring {
    fn name(&self) -> &'static str {
        "ring.v1.Ring"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &RING
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let ring = self.clone();
        match index {
            0 => call.handle(|cx: Context, number: u64| async move {
                let caller: Client = cx.caller();
                let doubled: Result<u64, Error> = caller.call().send_recv(&DOUBLE, number).await;
                doubled.map_err(|error| error.status().cloned().unwrap_or_else(|| error.into()))
            }),
            1 => call.handle(move |cx: Context, ()| async move {
                *ring.0.subscriber.lock().unwrap() = Some(cx.caller());
                Ok(())
            }),
            2 => call.handle(move |cx: Context, depth: u64| async move {
                ring.0.deepest.fetch_max(depth, Ordering::SeqCst);
                let caller: Client = cx.caller();
                let deeper: Result<u64, Error> = caller.call().send_recv(&DEEPER, depth + 1).await;
                match deeper {
                    Ok(deepest) => Ok(deepest),
                    Err(error) if error.code() == Code::ResourceExhausted => Ok(depth),
                    Err(error) => Err(error.into()),
                }
            }),
            _ => call.unknown(),
        }
    }
}

struct Running {
    ring: Ring,
    address: String,
    serving: tokio::task::JoinHandle<Result<rpc_runtime::DrainReport, Error>>,
}

impl Running {
    async fn start(address: &str, limits: Limits) -> Self {
        let ring = Ring::default();
        let server = Server::builder()
            .service(ring.clone())
            .listener(address)
            .limits(limits)
            .drain_timeout(Duration::from_secs(5))
            .signals(false);
        let server = server.bind().await.unwrap();
        let address = server.addresses()[0].clone();
        let serving = gate::serve(server);
        Self {
            ring,
            address,
            serving,
        }
    }

    fn client(&self) -> ClientBuilder {
        Client::builder(&self.address)
    }

    fn subscriber(&self) -> Client {
        self.ring
            .0
            .subscriber
            .lock()
            .unwrap()
            .clone()
            .expect("it has subscribed")
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_handler_calls_its_caller_back() {
    for address in ["tcp://127.0.0.1:0", "mem:callbacks-back"] {
        let server = Running::start(address, Limits::default()).await;
        let client = within(server.client().service(Lab::default()).connect())
            .await
            .unwrap();
        let answer: u64 = within(client.call().send_recv(&ASK, 21u64)).await.unwrap();
        assert_eq!(answer, 42);
        within(client.terminate()).await.unwrap();
        within(server.serving).await.unwrap().unwrap();
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_client_that_serves_nothing_refuses_to_be_called() {
    let server = Running::start("mem:callbacks-deaf", Limits::default()).await;
    let client = within(server.client().connect()).await.unwrap();
    let error = within(client.call().send_recv::<u64, u64>(&ASK, 1))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_calls_a_subscriber_for_as_long_as_its_connection_lives() {
    let server = Running::start("mem:callbacks-subscribe", Limits::default()).await;
    let lab = Lab::default();
    let client = within(server.client().service(lab.clone()).connect())
        .await
        .unwrap();
    within(client.call().send_recv::<(), ()>(&SUBSCRIBE, ()))
        .await
        .unwrap();

    let subscriber = server.subscriber();
    let doubled: u64 = within(subscriber.call().send_recv(&DOUBLE, 4u64)).await.unwrap();
    assert_eq!(doubled, 8);
    within(subscriber.call().send(&DOUBLE, 4u64)).await.unwrap();
    assert_eq!(within(subscriber.barrier()).await.unwrap().received(), 1);
    within(subscriber.ping()).await.unwrap();
    // Streams go this way, too.
    let call = subscriber.call().reply_stream(&COUNT, 100u64);
    let mut numbers: Streaming<u64> = within(call).await.unwrap();
    let (read, end) = all(&mut numbers).await;
    end.unwrap();
    assert_eq!(read.len(), 100);
    assert_eq!(subscriber.state(), ConnectionState::Ready);

    let mut states = subscriber.watch_state();
    drop(client);
    within(async {
        while subscriber.state() != ConnectionState::Closed {
            states.changed().await;
        }
    })
    .await;
    let gone = within(subscriber.call().send_recv::<u64, u64>(&DOUBLE, 4)).await;
    let error = gone.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert!(
        error.message().contains("caller's connection has ended"),
        "{error}"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn closing_a_stub_to_a_caller_leaves_the_connection_alone() {
    let server = Running::start("mem:callbacks-leave", Limits::default()).await;
    let client = within(server.client().service(Lab::default()).connect())
        .await
        .unwrap();
    within(client.call().send_recv::<(), ()>(&SUBSCRIBE, ()))
        .await
        .unwrap();
    let subscriber = server.subscriber();
    within(subscriber.close()).await.unwrap();
    assert!(within(subscriber.ping()).await.is_err());
    within(client.ping()).await.unwrap();
    // Nor is anybody else's stub closed.
    within(client.call().send_recv::<(), ()>(&SUBSCRIBE, ()))
        .await
        .unwrap();
    within(server.subscriber().ping()).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn endlessly_nested_calls_fail() {
    let server = Running::start("mem:callbacks-deep", Limits::default()).await;
    let ring = Ring::default();
    let client = within(server.client().service(ring.clone()).connect())
        .await
        .unwrap();
    let deepest: u64 = within(client.call().send_recv(&DEEPER, 0u64)).await.unwrap();
    assert_eq!(deepest, 16);
    let both = [&ring, &server.ring].map(|ring| ring.0.deepest.load(Ordering::SeqCst));
    assert_eq!(both, [15, 16]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn handlers_that_call_each_other_do_not_wait_for_each_others_slots() {
    let limits = Limits::default().max_calls(16);
    let server = Running::start("mem:callbacks-slots", limits.clone()).await;
    let client = server.client().limits(limits).service(Ring::default());
    let client: Client = within(client.connect()).await.unwrap();
    // Without the rule the handlers of both ends would wait for each other until their deadline.
    let begun = tokio::time::Instant::now();
    let calls = (0..16).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.call().send_recv::<u64, u64>(&DEEPER, 0).await })
    });
    for call in calls.collect::<Vec<_>>() {
        within(call).await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(crate = "test_support::gate")]
async fn two_services_of_one_name_are_a_clear_error() {
    let server = Running::start("mem:callbacks-twice", Limits::default()).await;
    let twice = server.client().service(Lab::default()).service(Lab::default());
    let error = within(twice.connect()).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("added twice"), "{error}");
}
