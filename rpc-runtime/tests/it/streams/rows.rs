//! Rows: what a stream has given is sent, whatever comes behind it, and none waits for more.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context as TaskContext, Poll},
};

use rpc_runtime::{
    Client, Code, Limits, Requests, Result, Status, Stream, Streaming,
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{lab::*, serve_one, within};

static LIST: Procedure = Procedure::new("row.v1.Row/list", 401).with_reply_stream();
static CONCAT: Procedure = Procedure::new("row.v1.Row/concat", 402).with_request_stream();

static PROCEDURES: [Procedure; 2] = [LIST, CONCAT];

#[derive(Clone)]
enum Item {
    Message(String),
    Failure,
    Panic,
    /// Nothing comes any more.
    Silence,
}

/// A stream that has everything ready at once.
#[derive(Clone, Default)]
struct Items {
    items: VecDeque<Item>,
    taken: Arc<AtomicUsize>,
}

impl Stream for Items {
    type Item = Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<String>>> {
        let item = match self.items.front().cloned() {
            None => None,
            Some(Item::Silence) => return Poll::Pending,
            Some(Item::Panic) => panic!("on purpose"),
            Some(Item::Failure) => Some(Err(Status::new(Code::DataLoss, "torn"))),
            Some(Item::Message(message)) => Some(Ok(message)),
        };
        self.items.pop_front();
        self.taken.fetch_add(1, SeqCst);
        Poll::Ready(item)
    }
}

impl Service for Items {
    fn name(&self) -> &'static str {
        "row.v1.Row"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let items = self.clone();
        match index {
            0 => call.handle_reply_stream(move |_, (), replies| async move { replies.forward(items).await }),
            1 => call.handle_request_stream(move |_, mut requests: Requests<String>| async move {
                let mut text = String::new();
                while let Some(request) = requests.message().await? {
                    text += &request;
                }
                Ok(text)
            }),
            _ => call.unknown(),
        }
    }
}

/// A client that takes messages of up to 1,000 bytes, of a server with these items, of which it counts what was taken.
async fn served(items: impl IntoIterator<Item = Item>) -> (Client, Arc<AtomicUsize>) {
    let items = Items {
        items: items.into_iter().collect(),
        ..Items::default()
    };
    let taken = Arc::clone(&items.taken);
    let server = serve_one(items).await;
    let limits = Limits::default().max_message(1000);
    let client = Client::builder(server.address).limits(limits).connect();
    (within(client).await.unwrap(), taken)
}

async fn list(client: &Client) -> Streaming<String> {
    within(client.call().reply_stream(&LIST, ())).await.unwrap()
}

fn message(text: &str) -> Item {
    Item::Message(text.to_owned())
}

#[tokio::test(crate = "test_support::gate")]
async fn what_was_ready_comes_before_the_failure_behind_it() {
    let too_long = "x".repeat(2000);
    let far_too_long = "x".repeat(20_000);
    for (last, code, text) in [
        (Item::Failure, Code::DataLoss, "torn"),
        (Item::Panic, Code::Unknown, "handler panicked"),
        (
            message(&too_long),
            Code::ResourceExhausted,
            "message of 2003 bytes of row.v1.Row/list exceeds the caller's limit of 1000: its Limits::max_message",
        ),
        (
            message(&far_too_long),
            Code::ResourceExhausted,
            "message of 20004 bytes of row.v1.Row/list exceeds the caller's limit of 1000: its Limits::max_message",
        ),
    ] {
        let (client, _) = served([message("one"), message(""), message("three"), last]).await;
        let (read, end) = all(&mut list(&client).await).await;
        assert_eq!(read, ["one", "", "three"], "{text}");
        let error = end.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, text));
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn what_is_ready_does_not_wait_for_what_is_not() {
    let (client, _) = served([message("one"), message("two"), Item::Silence]).await;
    let mut list = list(&client).await;
    for expected in ["one", "two"] {
        assert_eq!(within(list.message()).await.unwrap().unwrap(), expected);
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_stream_is_not_taken_far_ahead_of_its_reader() {
    let text = "x".repeat(900);
    let (client, taken) = served((0..1000).map(|_| message(&text))).await;
    let mut list = list(&client).await;
    assert_eq!(within(list.message()).await.unwrap().unwrap(), text);
    within(client.ping()).await.unwrap();
    // The window of 64 KiB, a row that begins with its last byte, one that waits, one that the reader has, and the message behind.
    let most = (64 + 3 * 16) * 1024 / 900 + 2;
    assert!(taken.load(SeqCst) <= most, "{} were taken", taken.load(SeqCst));
    let (read, end) = all(&mut list).await;
    end.unwrap();
    assert_eq!(read.len(), 999);
}

#[tokio::test(crate = "test_support::gate")]
async fn all_requests_of_a_stream_come_in_order() {
    let (client, _) = served([]).await;
    let call = client.call().request_stream(&CONCAT, Ok);
    let (mut sender, reply): (_, rpc_runtime::Reply<String>) = within(call).await.unwrap();
    let requests: Vec<_> = (0..100).map(|n| format!("{n},").repeat(n % 3)).collect();
    let items = requests.iter().map(|text| message(text)).collect();
    let items = Items {
        items,
        ..Items::default()
    };
    within(sender.send_all(Whole(items))).await.unwrap();
    sender.finish();
    assert_eq!(within(reply).await.unwrap(), requests.concat());
}

/// The messages of items that have no failure.
struct Whole(Items);

impl Stream for Whole {
    type Item = String;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<String>> {
        Pin::new(&mut self.0)
            .poll_next(cx)
            .map(|item| item.map(Result::unwrap))
    }
}
