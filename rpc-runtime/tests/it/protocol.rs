//! Clients that reach their server by another protocol: a toy one, so that the tests say what comes of each call.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use prost::Message;
use rpc_runtime::{
    Client, Code, Error, Executed, Metadata, Result, Status,
    client::{ClientBuilder, DropReason},
    codec::RawMessage,
    protocol::{
        CallFuture, Connecting, OutgoingCall, OutgoingFailure, Protocol, ProtocolConnection, ProtocolStream,
    },
    server::{Procedure, Transport},
};
use tokio::{
    io::DuplexStream,
    sync::{Semaphore, watch},
    time::timeout,
};

static PROCEDURES: [Procedure; 4] = [
    Procedure::new("toy.v1.Toy/rpc_one", 1).blocking(),
    Procedure::new("toy.v1.Toy/rpc_down", 2).with_reply_stream(),
    Procedure::new("toy.v1.Toy/rpc_up", 3).with_request_stream(),
    Procedure::new("toy.v1.Toy/rpc_both", 4)
        .with_request_stream()
        .with_reply_stream(),
];
const ONE: &Procedure = &PROCEDURES[0];
const DOWN: &Procedure = &PROCEDURES[1];
const UP: &Procedure = &PROCEDURES[2];
const BOTH: &Procedure = &PROCEDURES[3];

/// A protocol whose connections do what the first request says.
#[derive(Clone, Debug, Default)]
struct Toy(Arc<Told>);

/// What the test learns.
#[derive(Debug)]
struct Told {
    /// How many connections were made.
    made: AtomicUsize,
    /// How many are there.
    open: AtomicUsize,
    /// How many calls were made.
    calls: AtomicUsize,
    /// Calls that wait go on with a permit.
    gate: Semaphore,
    /// Calls that wait count here, and those that were dropped.
    waiting: watch::Sender<usize>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            made: AtomicUsize::default(),
            open: AtomicUsize::default(),
            calls: AtomicUsize::default(),
            gate: Semaphore::new(0),
            waiting: watch::Sender::new(0),
        }
    }
}

impl Protocol for Toy {
    fn transport(&self, scheme: &str) -> Option<Transport> {
        (scheme == "toy").then_some(Transport::Tcp)
    }

    fn alpn(&self) -> &'static [u8] {
        b"toy"
    }

    fn connect(&self, stream: ProtocolStream) -> Connecting {
        let told = Arc::clone(&self.0);
        Box::pin(async move {
            told.made.fetch_add(1, SeqCst);
            match stream.address() {
                "toy://panics" => panic!("no such luck"),
                "toy://never" => Err(Status::failed_precondition("it speaks something else")),
                _ => {
                    told.open.fetch_add(1, SeqCst);
                    let closed = watch::Sender::new(false);
                    Ok(Arc::new(ToyConnection { told, closed }) as Arc<dyn ProtocolConnection>)
                }
            }
        })
    }
}

struct ToyConnection {
    told: Arc<Told>,
    closed: watch::Sender<bool>,
}

impl Drop for ToyConnection {
    fn drop(&mut self) {
        self.told.open.fetch_sub(1, SeqCst);
    }
}

impl ProtocolConnection for ToyConnection {
    fn call(&self, call: OutgoingCall) -> CallFuture {
        let (told, closed) = (Arc::clone(&self.told), self.closed.clone());
        told.calls.fetch_add(1, SeqCst);
        Box::pin(run(told, closed, call))
    }

    fn closed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        let mut closed = self.closed.subscribe();
        Box::pin(async move {
            let _ = closed.wait_for(|closed| *closed).await;
            "the toy is broken".to_owned()
        })
    }
}

/// Counts a call as waiting until it is dropped.
struct Waits(Arc<Told>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

async fn run(
    told: Arc<Told>,
    closed: watch::Sender<bool>,
    call: OutgoingCall,
) -> Result<Metadata, OutgoingFailure> {
    let metadata = call.metadata();
    let (mut requests, mut replies) = call.into_streams();
    let fail = |status: Status| OutgoingFailure::new(status, Executed::Maybe);
    while let Some(request) = requests.message().await.map_err(fail)? {
        let text = String::decode(request.0.clone()).unwrap();
        let failed = |code, executed| Err(OutgoingFailure::new(Status::new(code, text.clone()), executed));
        match &text[..] {
            "no" => return failed(Code::FailedPrecondition, Executed::No),
            "maybe" => return failed(Code::NotFound, Executed::Maybe),
            "yes" => return failed(Code::Unavailable, Executed::Yes),
            "panic" => panic!("toys break"),
            "silent" => continue,
            "hang" => {
                told.waiting.send_modify(|waiting| *waiting += 1);
                let _waits = Waits(Arc::clone(&told));
                pending::<()>().await;
            }
            "wait" => {
                told.waiting.send_modify(|waiting| *waiting += 1);
                let _waits = Waits(Arc::clone(&told));
                told.gate.acquire().await.unwrap().forget();
            }
            "close once" if told.made.load(SeqCst) == 1 => {
                closed.send_replace(true);
                return failed(Code::Unavailable, Executed::No);
            }
            "twice" => replies.send(request.clone()).await.map_err(fail)?,
            _ => {}
        }
        replies
            .send(RawMessage(text.encode_to_vec().into()))
            .await
            .map_err(fail)?;
    }
    Ok(metadata)
}

/// A builder of a client of `address`, whose streams lead nowhere.
fn builder(toy: &Toy, address: &str) -> ClientBuilder {
    Client::builder(address)
        .connector(|_| async { Ok::<DuplexStream, _>(tokio::io::duplex(64).0) })
        .protocol(toy.clone())
}

fn client(toy: &Toy) -> Client {
    builder(toy, "toy://box")
        .connect_lazy()
        .with_procedures(&PROCEDURES)
}

async fn one(client: &Client, text: &str) -> Result<String, Error> {
    client.call().send_recv(ONE, text.to_owned()).await
}

#[tokio::test]
async fn calls_of_all_kinds_are_carried() {
    let toy = Toy::default();
    let client = client(&toy);
    assert_eq!(one(&client, "hello").await.unwrap(), "hello");
    let mut down = client
        .call()
        .reply_stream::<_, String>(DOWN, "twice".to_owned())
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(down.message().await.unwrap().as_deref(), Some("twice"));
    }
    assert_eq!(down.message().await.unwrap(), None);
    let (mut up, reply) = client
        .call()
        .request_stream::<String, String, _>(UP, Ok)
        .await
        .unwrap();
    for text in ["silent", "silent", "last"] {
        up.send(text.to_owned()).await.unwrap();
    }
    up.finish();
    assert_eq!(reply.await.unwrap(), "last");
    let (mut sender, mut replies) = client.call().both_streams::<String, String>(BOTH).await.unwrap();
    for text in ["a", "b"] {
        sender.send(text.to_owned()).await.unwrap();
        assert_eq!(replies.message().await.unwrap().as_deref(), Some(text));
    }
    sender.finish();
    assert_eq!(replies.message().await.unwrap(), None);
    assert_eq!(toy.0.made.load(SeqCst), 1, "one connection");
}

#[tokio::test]
async fn a_failure_says_whether_the_call_ran_as_the_protocol_does() {
    let toy = Toy::default();
    let client = client(&toy);
    for (text, code, executed) in [
        ("no", Code::FailedPrecondition, Executed::No),
        ("maybe", Code::NotFound, Executed::Maybe),
        ("yes", Code::Unavailable, Executed::Yes),
    ] {
        let error = one(&client, text).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (code, executed));
        assert_eq!(error.message(), text);
        assert_eq!(error.peer(), Some("toy://box"));
        let mut down = client
            .call()
            .reply_stream::<_, String>(DOWN, text.to_owned())
            .await
            .unwrap();
        let error = down.message().await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (code, executed));
    }
    let error = one(&client, "panic").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Internal, Executed::Maybe)
    );
    for (text, says) in [("silent", "sent no reply"), ("twice", "sent several replies")] {
        let error = one(&client, text).await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unimplemented, Executed::Maybe)
        );
        assert!(error.message().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_call_that_did_not_run_is_made_again_on_the_next_connection() {
    let toy = Toy::default();
    let client = client(&toy);
    let open = {
        let client = client.clone();
        tokio::spawn(async move { one(&client, "wait").await })
    };
    let mut waiting = toy.0.waiting.subscribe();
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    assert_eq!(one(&client, "close once").await.unwrap(), "close once");
    assert_eq!(toy.0.made.load(SeqCst), 2);
    // What was open on the first connection goes on there.
    toy.0.gate.add_permits(1);
    assert_eq!(open.await.unwrap().unwrap(), "wait");
    while toy.0.open.load(SeqCst) > 1 {
        tokio::task::yield_now().await;
    }
    drop(client);
    while toy.0.open.load(SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_and_a_late_one_are_dropped_at_the_protocol() {
    let toy = Toy::default();
    let client = client(&toy);
    let mut waiting = toy.0.waiting.subscribe();
    let late = {
        let client = client.clone();
        tokio::spawn(async move {
            let late = client.call().timeout(Duration::from_secs(20));
            late.send_recv::<_, String>(ONE, "hang".to_owned()).await
        })
    };
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    let error = late.await.unwrap().unwrap_err();
    assert!(error.is_timeout(), "{error}");
    waiting.wait_for(|waiting| *waiting == 0).await.unwrap();
    let dropped = {
        let client = client.clone();
        tokio::spawn(async move { one(&client, "hang").await })
    };
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    dropped.abort();
    waiting.wait_for(|waiting| *waiting == 0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_way_calls_are_counted_when_their_replies_have_come() {
    let toy = Toy::default();
    let client = client(&toy);
    let send = async |text: &str| client.call().send(ONE, text.to_owned()).await.unwrap();
    for text in ["a", "b", "yes", "maybe", "no", "wait"] {
        send(text).await;
    }
    let mut waiting = toy.0.waiting.subscribe();
    waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
    let barrier = {
        let client = client.clone();
        tokio::spawn(async move { client.barrier().await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!barrier.is_finished(), "one reply has not come");
    toy.0.gate.add_permits(1);
    let account = barrier.await.unwrap().unwrap();
    assert_eq!((account.received(), account.pending()), (6, 0), "{account}");
    assert_eq!((account.handled(), account.failed()), (3, 1), "{account}");
    let mut dropped: Vec<_> = account.dropped().collect();
    dropped.sort_by_key(|(reason, _)| reason.to_string());
    assert_eq!(dropped, [(DropReason::Aborted, 1), (DropReason::Draining, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_one_way_calls_within_its_bound_and_closes_if_it_is_given_up() {
    for is_given_up in [false, true] {
        let toy = Toy::default();
        let client = builder(&toy, "toy://here")
            .timeout(None)
            .connect_lazy()
            .with_procedures(&PROCEDURES);
        client.call().send(ONE, "hang".to_owned()).await.unwrap();
        let mut waiting = toy.0.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
        let patience = Duration::from_secs(if is_given_up { 1 } else { 60 });
        let closed = timeout(patience, client.close()).await;
        assert_eq!(closed.is_err(), is_given_up);
        let error = one(&client, "late").await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_said_and_not_asked_again() {
    let toy = Toy::default();
    let error = builder(&toy, "toy://never").connect().await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::FailedPrecondition, Executed::No)
    );
    assert_eq!(error.message(), "cannot connect: it speaks something else");
    let error = builder(&toy, "toy://panics").connect().await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(
        error.message().contains("the protocol panicked: no such luck"),
        "{error}"
    );
}

#[tokio::test]
async fn a_procedure_that_the_client_does_not_know_is_named_by_its_id() {
    static OTHER: [Procedure; 1] = [Procedure::new("toy.v1.Other/rpc_one", 77)];
    let toy = Toy::default();
    let client = client(&toy);
    let other = async |client: &Client| {
        let call = client.call().send_recv::<_, String>(&OTHER[0], "x".to_owned());
        call.await
    };
    let error = other(&client).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unimplemented, Executed::No)
    );
    assert!(error.message().contains("0x000000000000004d"), "{error}");
    let client = client.with_procedures(&OTHER);
    assert_eq!(other(&client).await.unwrap(), "x");
}

/// Forty procedures, so that their routes fill several blocks.
static MANY: [Procedure; 40] = {
    let mut many = [Procedure::new("toy.v1.Many/rpc_one", 1000); 40];
    let mut at = 0;
    while at < many.len() {
        many[at] = Procedure::new("toy.v1.Many/rpc_one", 1000 + at as u64);
        at += 1;
    }
    many
};

#[tokio::test]
async fn many_procedures_are_found() {
    let toy = Toy::default();
    let client = client(&toy).with_procedures(&MANY);
    for _ in 0..2 {
        for procedure in &MANY {
            let call = client
                .call()
                .send_recv::<_, String>(procedure, procedure.id().to_string());
            assert_eq!(call.await.unwrap(), procedure.id().to_string());
        }
    }
    assert_eq!(toy.0.calls.load(SeqCst), 80);
}

#[tokio::test]
async fn what_only_our_own_protocol_has_is_refused() {
    let toy = Toy::default();
    let client = client(&toy);
    for (error, says) in [
        (
            client.terminate().await.unwrap_err(),
            "a client with an address of another protocol, given by .protocol(..), cannot terminate a server: make a client \
             without one",
        ),
        (
            client.ping().await.unwrap_err(),
            "a client with an address of another protocol, given by .protocol(..), cannot ping: make a client without one",
        ),
    ] {
        assert_eq!(
            (error.code(), error.executed()),
            (Code::FailedPrecondition, Executed::No)
        );
        assert!(error.message().contains(says), "{error}");
    }
    assert_eq!(toy.0.made.load(SeqCst), 0, "no connection was made for that");
    let metadata = client.call().metadata("x-own", "1");
    let call = metadata.send_recv::<_, String>(ONE, "hello".to_owned());
    let (_, receipt) = call.with_receipt().await.unwrap();
    assert_eq!(receipt.metadata(), &Metadata::from([("x-own", "1")]));
    client.close().await.unwrap();
}
