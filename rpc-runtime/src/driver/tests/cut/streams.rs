//! Streams: the handlers that read and send streams, one procedure for each call of a session.

use super::{host::Host, *};
use crate::{
    Code, Status,
    conn::{CallId, End, Next, Shape, Unsent},
};

/// A procedure with streams: its name is the token of its one call in a session.
struct Streamed {
    procedure: u64,
    name: &'static str,
    shape: Shape,
    act: Act,
    /// How long its long messages are, about.
    len: usize,
}

/// What a handler with streams does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Sends [`MANY`] messages, or [`FEW`] long ones.
    List,
    /// Sends two, and fails.
    Break,
    /// Sends as long as it is wanted.
    Endless,
    /// Sends one, and no more, and does not end.
    Silent,
    /// Reads all, and replies how many.
    Sum,
    /// Reads one, and replies.
    Quit,
    /// Reads one, and fails.
    Spurn,
    /// Sends back each it reads.
    Chat,
}

const fn streamed(procedure: u64, name: &'static str, shape: Shape, act: Act, len: usize) -> Streamed {
    Streamed {
        procedure,
        name,
        shape,
        act,
        len,
    }
}

const STREAMED: [Streamed; 13] = [
    streamed(LIST, "list", Shape::ReplyStream, Act::List, 0),
    streamed(BREAK, "break", Shape::ReplyStream, Act::Break, 0),
    streamed(ENDLESS, "endless", Shape::ReplyStream, Act::Endless, 0),
    streamed(SILENT, "silent", Shape::ReplyStream, Act::Silent, 0),
    streamed(SUM, "sum", Shape::RequestStream, Act::Sum, 0),
    streamed(QUIT, "quit", Shape::RequestStream, Act::Quit, 0),
    streamed(SPURN, "spurn", Shape::Both, Act::Spurn, 0),
    streamed(CHAT, "chat", Shape::Both, Act::Chat, 0),
    streamed(ABANDON, "abandon", Shape::RequestStream, Act::Sum, 0),
    streamed(LONG_LIST, "llist", Shape::ReplyStream, Act::List, LONG),
    streamed(LONG_BREAK, "lbreak", Shape::ReplyStream, Act::Break, LONG),
    streamed(LONG_SUM, "lsum", Shape::RequestStream, Act::Sum, LONG),
    streamed(LONG_CANCEL, "lcancel", Shape::Both, Act::Chat, LONG),
];

pub(super) const LIST: u64 = 11;
pub(super) const BREAK: u64 = 12;
pub(super) const ENDLESS: u64 = 13;
pub(super) const SILENT: u64 = 14;
pub(super) const SUM: u64 = 15;
pub(super) const QUIT: u64 = 16;
pub(super) const SPURN: u64 = 17;
pub(super) const CHAT: u64 = 18;
pub(super) const ABANDON: u64 = 19;
pub(super) const LONG_LIST: u64 = 20;
pub(super) const LONG_BREAK: u64 = 21;
pub(super) const LONG_SUM: u64 = 22;
pub(super) const LONG_CANCEL: u64 = 23;

/// How many messages a list has: more than a window.
pub(super) const MANY: usize = 5;
/// How many long messages a list has: the second one waits for credit.
pub(super) const FEW: usize = 2;

fn find(procedure: u64) -> Option<&'static Streamed> {
    STREAMED.iter().find(|streamed| streamed.procedure == procedure)
}

pub(super) fn is_stream(procedure: u64) -> bool {
    find(procedure).is_some()
}

/// The name of a procedure with streams, which is the token of its call.
pub(super) fn name(procedure: u64) -> &'static str {
    find(procedure).expect("a procedure with streams").name
}

pub(super) fn shape(procedure: u64) -> Shape {
    find(procedure).expect("a procedure with streams").shape
}

/// A message of a stream: whose it is, and which.
///
/// Of those with long messages every other one is long, and of a list all are: its REPLY waits for their fragments.
pub(super) fn numbered(procedure: u64, number: usize) -> String {
    let Streamed { name, len, .. } = find(procedure).expect("a procedure with streams");
    let is_long = number % 2 == 1 || procedure == LONG_LIST;
    let len = if is_long { *len } else { 0 };
    format!("{name}.{number}.{}", ".".repeat(len))
}

/// Whether `payload` is the message of this number, whole.
pub(super) fn is_numbered(payload: Bytes, procedure: u64, number: usize) -> bool {
    let message = <String as prost::Message>::decode(payload).unwrap();
    message == numbered(procedure, number)
}

pub(super) async fn next_message(shared: &SharedConnection, id: CallId) -> Next {
    poll_fn(|cx| shared.with(|conn, now| conn.poll_message(id, None, now, cx))).await
}

pub(super) async fn put(shared: &SharedConnection, id: CallId, message: &String) -> Result<(), Unsent> {
    poll_fn(|cx| shared.with(|conn, now| conn.poll_data(id, message, now, cx))).await
}

/// How a handler's body ends.
enum Body {
    Replied(String),
    Failed,
    /// Its streams are of no use any more: it waits to be dropped.
    Useless,
}

impl Host {
    /// Runs a handler with streams: to its end, or until it is no longer wanted.
    pub(super) async fn stream(&self, shared: &SharedConnection, arrived: &Arrived, token: &str) {
        let id = arrived.id;
        let body = async {
            let body = self.body(shared, arrived, token).await;
            if matches!(body, Body::Useless) {
                std::future::pending::<()>().await;
            }
            poll_fn(|cx| shared.with(|conn, _| conn.poll_room(id, usize::MAX, cx))).await;
            body
        };
        // A handler's stream may be read by who does not know that the handler is no longer wanted.
        let body = tokio::select! {
            biased;
            body = body => body,
            _ = poll_fn(|cx| shared.with(|conn, _| conn.poll_unwanted(id, cx))) => Body::Useless,
        };
        // Before its caller learns of it.
        self.stop();
        match body {
            Body::Replied(reply) => {
                self.note(token, |ran| ran.end = Some(Ok(())));
                if shape(arrived.procedure).has_reply_stream() {
                    shared.with(|conn, now| conn.reply(id, &(), now));
                } else {
                    shared.with(|conn, now| conn.reply(id, &reply, now));
                }
            }
            Body::Failed => {
                self.note(token, |ran| ran.end = Some(Err(())));
                let status = Status::new(Code::NotFound, "on purpose");
                shared.with(|conn, now| conn.end(id, End::Failed(&status), now));
            }
            Body::Useless => shared.with(|conn, now| conn.end(id, End::Dropped, now)),
        }
    }

    async fn body(&self, shared: &SharedConnection, arrived: &Arrived, token: &str) -> Body {
        let (id, procedure) = (arrived.id, arrived.procedure);
        let streamed = find(procedure).expect("a procedure with streams");
        let act = streamed.act;
        let sent = match act {
            Act::List if streamed.len == 0 => MANY,
            Act::List => FEW,
            Act::Break => 2,
            Act::Endless => usize::MAX,
            Act::Silent => 1,
            Act::Sum | Act::Quit | Act::Spurn | Act::Chat => 0,
        };
        for number in 0..sent {
            if !self.give(shared, id, procedure, number).await {
                return Body::Useless;
            }
        }
        match act {
            Act::Break => return Body::Failed,
            Act::List | Act::Endless => return Body::Replied(String::new()),
            Act::Silent => return Body::Useless,
            Act::Sum | Act::Quit | Act::Spurn | Act::Chat => {}
        }
        let mut number = 0;
        loop {
            let first = number;
            match next_message(shared, id).await {
                Next::Message(message) => {
                    for message in message.messages() {
                        assert!(
                            is_numbered(message, procedure, number),
                            "{token}: message {number}"
                        );
                        number += 1;
                        self.note(token, |ran| ran.got += 1);
                    }
                }
                Next::End => {
                    self.note(token, |ran| ran.whole = true);
                    return Body::Replied(format!("{token}.{number}"));
                }
                Next::Broken(_) => return Body::Useless,
            }
            match act {
                Act::Quit => return Body::Replied(format!("{token}.{number}")),
                Act::Spurn => return Body::Failed,
                Act::Chat => {
                    for number in first..number {
                        if !self.give(shared, id, procedure, number).await {
                            return Body::Useless;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Sends a message to the caller.
    async fn give(&self, shared: &SharedConnection, id: CallId, procedure: u64, number: usize) -> bool {
        let is_sent = put(shared, id, &numbered(procedure, number)).await.is_ok();
        if is_sent {
            self.note(name(procedure), |ran| ran.gave += 1);
        }
        is_sent
    }
}
