//! The streams of the stress test: each message is the request again, behind its place in the stream.

use rpc_runtime::{
    Bytes, Client, Code, Error, Metadata, Reply, Requests, Result, Sender, Status, Stream, Streaming,
    server::{Handler, Incoming, Procedure},
    stream,
};

use super::{Outcome, Request, Stress, number};

pub(super) static PLAY: Procedure = Procedure::new("stress.v1.Stress/play", 211).with_reply_stream();
pub(super) static FEED: Procedure = Procedure::new("stress.v1.Stress/feed", 212)
    .with_request_stream()
    .spawn();
pub(super) static CHAT: Procedure = Procedure::new("stress.v1.Stress/chat", 213)
    .with_request_stream()
    .with_reply_stream();
pub(super) static DRONE: Procedure = Procedure::new("stress.v1.Stress/drone", 214)
    .with_reply_stream()
    .blocking();

/// The key of the request in the metadata of a call whose requests are a stream.
const KEY: &str = "number";

/// How many messages a stream has that begins with this request, and how its handler ends.
fn plan(request: &Request) -> (u8, Option<End>) {
    let end = match request[0] % 16 {
        1 => Some(End::Error),
        2 => Some(End::Panic),
        _ => None,
    };
    (request[0] % 11, end)
}

#[derive(Clone, Copy)]
enum End {
    Error,
    Panic,
}

fn numbered(place: u8, request: &Request) -> Bytes {
    let mut message = vec![place];
    message.extend_from_slice(request);
    message.into()
}

fn end(end: Option<End>) -> Result<()> {
    match end {
        None => Ok(()),
        Some(End::Error) => Err(Status::new(Code::NotFound, "on purpose")),
        Some(End::Panic) => std::panic::resume_unwind(Box::new("on purpose")),
    }
}

/// Handles a call with streams.
pub(super) fn handle(stress: Stress, index: usize, call: Incoming) -> Handler {
    match index {
        0 | 3 => call.handle_reply_stream(move |_, request: Request, replies| async move {
            let present = stress.enter(&request);
            replies.forward(play(&request)).await?;
            drop(present);
            Ok(())
        }),
        1 => call.handle_request_stream(move |cx, mut requests: Requests<Bytes>| async move {
            let request = request(cx.metadata());
            let _present = stress.enter(&request);
            let mut place = 0;
            while let Some(message) = requests.message().await? {
                assert_eq!(message, numbered(place, &request), "another message");
                place += 1;
            }
            end(plan(&request).1)?;
            Ok(numbered(place, &request))
        }),
        _ => call.handle_both_streams(move |cx, requests: Requests<Bytes>, replies| async move {
            let request = request(cx.metadata());
            let _present = stress.enter(&request);
            replies.forward(requests).await?;
            end(plan(&request).1)
        }),
    }
}

/// Borrows the request.
fn play(request: &Request) -> impl Stream<Item = Result<Bytes>> {
    let (count, ending) = plan(request);
    stream(async move |out| {
        for place in 0..count {
            out.send(numbered(place, request)).await;
        }
        end(ending)
    })
}

fn request(metadata: &Metadata) -> Request {
    metadata.get(KEY).cloned().expect("the caller adds it")
}

/// Makes a call with streams: an Ok is one of everything that was sent.
pub(super) async fn call(
    client: &Client,
    procedure: &'static Procedure,
    request: Request,
    limit: std::time::Duration,
) -> Outcome {
    let number = number(&request);
    match exchange(client, procedure, &request, limit).await {
        Ok(()) => Outcome::Replied(number),
        Err(error) => {
            let expected = match (error.code(), plan(&request).1) {
                (Code::Unknown, Some(End::Panic)) => error.message() == "handler panicked",
                (Code::NotFound, Some(End::Error)) => true,
                (Code::Unavailable | Code::DeadlineExceeded, _) => true,
                _ => false,
            };
            assert!(expected, "{}: {error:?}", procedure.path());
            Outcome::Failed(number, error.executed())
        }
    }
}

async fn exchange(
    client: &Client,
    procedure: &'static Procedure,
    request: &Request,
    limit: std::time::Duration,
) -> Result<(), Error> {
    let call = client.call().timeout(limit);
    let (count, _) = plan(request);
    if !procedure.has_request_stream() {
        let messages = call.reply_stream(procedure, request.clone()).await?;
        return read(messages, request).await;
    }
    // Long ones do not fit into the metadata: what stands before the padding tells them.
    let head = request.slice(..8);
    let call = call.metadata(KEY, head.clone());
    if procedure.has_reply_stream() {
        let (sender, messages): (Sender<Bytes>, Streaming<Bytes>) = call.both_streams(procedure).await?;
        let (_, read) = tokio::join!(send(sender, count, request), read(messages, request));
        return read;
    }
    let (sender, reply): (Sender<Bytes>, Reply<Bytes>) = call.request_stream(procedure, Ok).await?;
    let (_, reply) = tokio::join!(send(sender, count, &head), reply);
    assert_eq!(reply?, numbered(count, &head), "a short success");
    Ok(())
}

async fn send(mut sender: Sender<Bytes>, count: u8, request: &Request) {
    for place in 0..count {
        // What ends that ends the call, too.
        if sender.send(numbered(place, request)).await.is_err() {
            return;
        }
    }
    sender.finish();
}

async fn read(mut messages: Streaming<Bytes>, request: &Request) -> Result<(), Error> {
    let mut place = 0;
    while let Some(message) = messages.message().await? {
        assert_eq!(message, numbered(place, request), "another message");
        place += 1;
    }
    assert_eq!(place, plan(request).0, "a short success");
    Ok(())
}
