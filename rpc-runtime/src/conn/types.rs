//! Types: what goes in and out of a connection, such as requests, replies and failures.

use std::{fmt, ops::BitOr, sync::Arc, time::Duration};

use bytes::Bytes;

use super::tuning::OVERHEAD;
use crate::{
    Executed, Metadata, Phase, Priority, Procedure, Status,
    api::{
        counters::{Count, Counts},
        server_limit::ServerLimit,
        trace_context::TraceContext,
    },
    metrics::EndLabel,
    wire::frame::{
        Encoded,
        control::{DropReason, Hello, Reason},
        row::Row,
    },
};

/// A moment: how long after the connection began.
pub(crate) type Time = Duration;

/// A time in microseconds. Not `as_micros`, which computes in 128 bits: no clock runs for half a million years.
#[inline]
pub(crate) fn micros(time: Time) -> u64 {
    time.as_secs() * 1_000_000 + u64::from(time.subsec_micros())
}

/// The only version of the protocol that there is.
pub(super) const VERSION: u32 = 1;

/// How many bytes the payload of a PING has.
pub(super) const PING_LEN: usize = 8;

/// Where a call ends in the stream as long as not all of its bytes are in the output.
pub(super) const UNFINISHED: u64 = u64::MAX;

/// How much of the output can still reach the peer when calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// What the OS has taken until now: nothing more is written.
    Taken,
    /// All that is in the output.
    Output,
    /// Nothing that the peer would execute.
    Nothing,
}

/// The counter that a fault of the peer belongs to.
pub(super) type FaultKind = fn(&Counts) -> &Count;

/// What a message of `len` bytes is charged, on both sides.
#[inline]
pub(super) const fn charge(len: u64) -> u64 {
    len.saturating_add(OVERHEAD)
}

/// True if the peer gets the `owed` bytes of its credit back now: they are half of its window.
#[inline]
pub(super) const fn is_grant_due(owed: u64, window: u64) -> bool {
    owed > 0 && owed >= window / 2
}

/// The earliest of some times.
#[inline]
pub(super) fn earliest<const N: usize>(times: [Option<Time>; N]) -> Option<Time> {
    let mut earliest = None;
    for time in times {
        earliest = earlier(earliest, time);
    }
    earliest
}

/// The earlier of two times.
#[inline]
pub(super) fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Which end of the connection this is; it decides the parity of the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The end that connected: odd ids.
    Connector,
    /// The end that accepted: even ids.
    Acceptor,
}

/// The id of a call or a one-way request of either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CallId(pub(crate) u64);

/// How a request of ours travels, apart from its message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request<'a> {
    /// Which procedure is called.
    pub(crate) procedure: u64,
    /// The same, if it is known by more than its id: for those who look into the process.
    pub(crate) called: Option<&'static Procedure>,
    /// Of the built-in control service: as a call, counts against no limit.
    pub(crate) control: bool,
    /// When the caller gives up.
    pub(crate) deadline: Option<Time>,
    /// Entries beside the message.
    pub(crate) metadata: Option<&'a Metadata>,
    /// The trace that it belongs to.
    pub(crate) trace: Option<&'a TraceContext>,
    /// Which sides of the call are streams. With a stream of requests the call itself has no message.
    pub(crate) shape: Shape,
    /// Its priority.
    pub(crate) priority: Priority,
    /// How many calls it is nested in. Nested calls do not wait for credit that only handlers of this side can give back.
    pub(crate) depth: u8,
    /// How long no message of a stream may move.
    pub(crate) idle: Option<Duration>,
}

/// How a one-way request travels that joins the frame of the one before it, apart from its message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JoiningSend {
    /// Which procedure is called.
    pub(crate) procedure: u64,
    /// How much time it has; none for no limit.
    pub(crate) timeout: Option<Duration>,
    /// Its priority.
    pub(crate) priority: Priority,
}

/// Which sides of a call are streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// None.
    #[default]
    Unary,
    /// One request, a stream of replies.
    ReplyStream,
    /// A stream of requests, one reply.
    RequestStream,
    /// Both.
    Both,
}

impl Shape {
    /// True if the caller sends a stream.
    pub(crate) const fn has_request_stream(self) -> bool {
        matches!(self, Self::RequestStream | Self::Both)
    }

    /// True if the handler sends a stream.
    pub(crate) const fn has_reply_stream(self) -> bool {
        matches!(self, Self::ReplyStream | Self::Both)
    }
}

/// A place in the queue for credit, a slot or room; empty until the request has to wait.
#[derive(Debug, Default)]
pub(crate) struct Ticket(pub(super) Option<u64>);

/// The reply of a call that succeeded.
pub(crate) struct ReceivedReply {
    /// The message, encoded.
    pub(crate) payload: Encoded,
    /// Entries beside it.
    pub(crate) metadata: Metadata,
    /// How long the call waited on the server, in microseconds.
    pub(crate) queue_us: u64,
    /// How long its handler ran, in microseconds.
    pub(crate) run_us: u64,
}

impl ReceivedReply {
    /// How much it takes of the inbox.
    #[inline]
    pub(super) fn held_len(&self) -> u64 {
        self.payload.len() + self.metadata.held_len()
    }
}

impl fmt::Debug for ReceivedReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedReply")
            .field("payload", &self.payload)
            .field("metadata", &self.metadata)
            .field("queue_us", &self.queue_us)
            .field("run_us", &self.run_us)
            .finish()
    }
}

/// Why a call of ours has no reply.
#[derive(Clone, Debug)]
pub(crate) struct CallFailure {
    /// What ended it.
    pub(crate) cause: Cause,
    /// How far it had come.
    pub(crate) phase: Phase,
    /// Whether its handler ran.
    pub(crate) executed: Executed,
    /// What is known of its times; none if it was never sent. Boxed, because outcomes are moved often.
    pub(crate) times: Option<Box<FailedTimes>>,
}

/// What is known of the times of a failed call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FailedTimes {
    /// When it was put into the output.
    pub(crate) opened: Time,
    /// How long the call waited on the server, in microseconds, if the server has replied.
    pub(crate) queue_us: u64,
    /// How long its handler ran, in microseconds, if the server has replied.
    pub(crate) run_us: u64,
}

impl CallFailure {
    /// How much it takes of the inbox: what the peer's refusal brings beside its text.
    pub(super) fn held_len(&self) -> u64 {
        match &self.cause {
            Cause::Replied(status) => status_len(status),
            _ => 0,
        }
    }
}

/// How much a status takes of the inbox.
pub(super) fn status_len(status: &Status) -> u64 {
    status.details().len() as u64 + status.metadata().held_len()
}

/// What ended a call, or the connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub(crate) enum Cause {
    /// The peer replied with a refusal.
    Replied(Status),
    /// The reply of the peer, or a message of its stream, is malformed.
    Broken(Status),
    /// The call's own deadline passed.
    Deadline,
    /// No message of its streams moved for this time.
    Idle {
        /// How long.
        after: Duration,
    },
    /// The sender of its stream gave up before the end.
    Abandoned,
    /// A handler made it, and it would have to wait for credit that perhaps only handlers of this side give back.
    Nested,
    /// The request is longer than the peer takes; or, once executed, the reply is longer than this side takes.
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A message of our stream is longer than the peer takes.
    Oversize {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A message of our stream is nested deeper than a peer may read.
    TooDeep {
        /// Where.
        text: String,
    },
    /// The metadata is over its limits.
    Metadata,
    /// The queue is full.
    QueueFull {
        /// The limit.
        max: usize,
    },
    /// The reply does not fit into the inbox.
    InboxFull {
        /// The limit in bytes.
        max: u64,
    },
    /// The peer is going away and did not take the call.
    GoingAway {
        /// Why it goes.
        reason: Reason,
        /// What it said.
        text: String,
    },
    /// The peer refused the handshake, or speaks something else.
    HelloRejected {
        /// What was wrong.
        text: String,
    },
    /// The peer broke the protocol, or says that we did.
    Protocol {
        /// What was wrong.
        text: String,
    },
    /// The peer closed, was lost or went silent.
    Lost {
        /// What happened.
        text: String,
        /// The error of the transport, if there was one.
        source: Option<Arc<std::io::Error>>,
    },
    /// This side closed the connection.
    Closed,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replied(status) | Self::Broken(status) => write!(f, "{status}"),
            Self::Deadline => f.write_str("deadline passed"),
            Self::Idle { after } => write!(f, "no message moved for {after:?}: Call::idle_timeout"),
            Self::Abandoned => f.write_str("the stream of requests was given up before its end"),
            Self::Nested => {
                f.write_str("a call that a handler makes would have to wait for the calls around it: it is refused, to avoid a deadlock")
            }
            Self::TooLong { len, max } | Self::Oversize { len, max } => {
                write!(f, "message of {len} bytes exceeds limit of {max}: the reader's Limits::max_message")
            }
            Self::TooDeep { text } => f.write_str(text),
            Self::Metadata => write!(
                f,
                "metadata exceeds limit of {} entries or {} bytes",
                Metadata::MAX_ENTRIES,
                Metadata::MAX_LEN
            ),
            Self::QueueFull { max } => write!(f, "{max} callers wait already: Limits::max_waiting"),
            Self::InboxFull { max } => write!(f, "undelivered replies exceed limit of {max} bytes: Limits::inbox_bytes"),
            Self::GoingAway { reason, text } if text.is_empty() => {
                write!(f, "peer is going away: {}", reason_name(*reason))
            }
            Self::GoingAway { reason, text } => {
                write!(f, "peer is going away: {}; it says: {text}", reason_name(*reason))
            }
            Self::HelloRejected { text } => write!(f, "handshake failed: {text}"),
            Self::Protocol { text } => write!(f, "protocol error: {text}"),
            Self::Lost { text, .. } => f.write_str(text),
            Self::Closed => f.write_str("connection closed on this side"),
        }
    }
}

/// The word for `reason` in texts.
const fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Drain => "draining",
        Reason::Protocol => "protocol error",
        Reason::HelloRejected => "handshake rejected",
        Reason::Excess => "too much to refuse",
        Reason::Timeout => "timeout",
        Reason::MaxAge => "connection too old",
    }
}

/// A request of the peer that is admitted: its handler is to be started.
pub(crate) struct Arrived {
    /// Its id.
    pub(crate) id: CallId,
    /// True if it has no reply.
    pub(crate) one_way: bool,
    /// Which procedure is called.
    pub(crate) procedure: u64,
    /// Its deadline: when its handler is no longer wanted.
    pub(crate) deadline: Option<Time>,
    /// Entries beside the message.
    pub(crate) metadata: Metadata,
    /// The trace that it belongs to.
    pub(crate) trace: Option<TraceContext>,
    /// The message, encoded.
    pub(crate) payload: Encoded,
    /// True if the caller sends a stream; the payload is empty then.
    pub(crate) streams: bool,
    /// How many calls it is nested in.
    pub(crate) depth: u8,
}

impl fmt::Debug for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrived")
            .field("id", &self.id)
            .field("one_way", &self.one_way)
            .field("procedure", &format_args!("{:#018x}", self.procedure))
            .field("deadline", &self.deadline)
            .field("metadata", &self.metadata)
            .field("payload", &self.payload)
            .finish()
    }
}

/// One-way requests of the peer that came in one frame: their handlers are to be started one after the other.
#[derive(Debug)]
pub(crate) struct ArrivedRow {
    /// The id of the first; the next ones are two apart.
    pub(crate) first: CallId,
    /// Their deadline.
    pub(crate) deadline: Option<Time>,
    /// How many calls they are nested in.
    pub(crate) depth: u8,
    /// Their messages.
    pub(crate) row: Row,
}

/// Why a handler is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwanted {
    /// The caller cancelled.
    Cancelled,
    /// Its deadline passed.
    Deadline,
    /// The connection is gone.
    Disconnected,
    /// The drain's time is over.
    Drained,
}

/// Why a handler is not to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unstarted {
    /// The request is no longer wanted.
    Unwanted,
    /// Memory is short: the replies of calls that came with it hold it.
    Memory,
}

/// How a handler ended without a reply message.
#[derive(Debug)]
pub(crate) enum End<'a> {
    /// It never started: unknown procedure, bad payload, overload.
    Refused {
        /// The status for the caller.
        status: &'a Status,
        /// Why.
        reason: RefusalReason,
    },
    /// It ran to its end and failed, or panicked.
    Failed(&'a Status),
    /// It was handed on by another protocol, and failed there.
    Reported {
        /// The status for the caller.
        status: &'a Status,
        /// Whether the handler at the other end ran, as far as that protocol tells.
        executed: Executed,
    },
    /// It was dropped before its end because it was no longer wanted.
    Dropped,
}

/// Why a request is refused: its handler never starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalReason {
    /// There is no such procedure.
    UnknownProcedure,
    /// The request cannot be decoded as the procedure's type, or its arguments were refused.
    BadPayload,
    /// It is over this limit.
    Over(ServerLimit),
    /// A rule forbids it.
    Rule,
}

impl RefusalReason {
    /// What the account of a one-way request says.
    pub(crate) fn drop_reason(self) -> DropReason {
        match self {
            Self::UnknownProcedure => DropReason::UnknownProcedure,
            Self::BadPayload => DropReason::BadPayload,
            Self::Over(_) => DropReason::Overload,
            Self::Rule => DropReason::Refused,
        }
    }
}

/// The next message of a stream, or why there is none.
#[derive(Debug)]
pub(crate) enum Next {
    /// The next message, encoded.
    Message(Encoded),
    /// There is no more. A caller finds the outcome of the call now.
    End,
    /// A handler's stream cannot be read to its end: the handler is to fail with this.
    Broken(Status),
}

/// Why a message of a stream was not sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The call is over; how it failed, if that is known here and was not taken yet.
    Over(Option<CallFailure>),
    /// It is longer than the peer takes.
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
}

/// Why this side has ended a connection early: what the peer did or did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It broke the protocol.
    Protocol,
    /// It made this side refuse too much.
    Excess,
    /// It did not go on with what it had begun.
    SlowFrame,
    /// It took too little of what was written.
    WriteStall,
    /// It gave no sign of life.
    Silence,
    /// It speaks something else, or another version.
    HandshakeRejected,
    /// Its part of the handshake did not come in time.
    HandshakeTimeout,
    /// Other connections needed its place in the handshake.
    HandshakeEvicted,
}

impl Cut {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::HandshakeEvicted as usize + 1;

    /// The counter of connections that ended for this reason.
    pub(crate) fn count(self, counts: &Counts) -> &Count {
        match self {
            Self::Protocol => &counts.ended_by_protocol,
            Self::Excess => &counts.ended_by_excess,
            Self::SlowFrame => &counts.ended_by_slow_frame,
            Self::WriteStall => &counts.ended_by_write_stall,
            Self::Silence => &counts.ended_by_silence,
            Self::HandshakeRejected => &counts.handshakes_rejected,
            Self::HandshakeTimeout => &counts.handshakes_timed_out,
            Self::HandshakeEvicted => &counts.handshakes_evicted,
        }
    }

    /// What metrics call it.
    pub(crate) fn end_label(self) -> EndLabel {
        match self {
            Self::Protocol => EndLabel::Protocol,
            Self::Excess => EndLabel::Excess,
            Self::SlowFrame => EndLabel::SlowFrame,
            Self::WriteStall => EndLabel::WriteStall,
            Self::Silence => EndLabel::Silence,
            Self::HandshakeRejected => EndLabel::HandshakeRejected,
            Self::HandshakeTimeout => EndLabel::HandshakeTimeout,
            Self::HandshakeEvicted => EndLabel::HandshakeEvicted,
        }
    }
}

/// The word for it in logs.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "protocol error",
            Self::Excess => "excess",
            Self::SlowFrame => "slow frame",
            Self::WriteStall => "write stall",
            Self::Silence => "silence",
            Self::HandshakeRejected => "handshake rejected",
            Self::HandshakeTimeout => "handshake timeout",
            Self::HandshakeEvicted => "handshake evicted",
        })
    }
}

/// News of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// How many calls have missed their deadline, and nothing was read since each began.
    Doubts(u32),
    /// Bytes have come: there is no doubt any more.
    Heard,
    /// It is over.
    Closed,
}

/// Where a connection stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub(crate) enum State {
    /// The peer's HELLO is not here yet.
    Handshaking,
    /// Calls go both ways.
    Open,
    /// One side or both want no more calls; open calls go on.
    Draining,
    /// No calls are open; bytes may still have to be written and read.
    Closing,
    /// It is over, and why.
    Closed(Cause),
}

/// What became of the requests of one peer on one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Handlers that ran to their end since the drain began, failed ones included.
    pub(crate) completed: u64,
    /// Calls that the drain's end cut or refused.
    pub(crate) aborted: u64,
    /// One-ways that the drain's end dropped.
    pub(crate) one_way_dropped: u64,
}

/// What is kept of the peer's HELLO, whose limits are in the credit.
#[derive(Debug)]
pub(crate) struct PeerHello {
    /// How many bytes of a stream it keeps before it grants more.
    pub(super) stream_window: u64,
    /// The shortest time between pings that it accepts, in milliseconds.
    pub(super) ping_floor_ms: u32,
    /// A bit for each compression that it can decompress, by its number.
    encodings: u32,
    /// The entries about the connection, until somebody takes them.
    pub(super) metadata: Metadata,
    /// What a server says of itself; none of a client. Boxed, because a server keeps it of no connection.
    server: Option<Box<ServerHello>>,
}

/// What the HELLO of a server says of that server.
#[derive(Debug)]
struct ServerHello {
    instance_id: Bytes,
    challenge: Bytes,
}

impl PeerHello {
    /// What `side` keeps of it.
    pub(super) fn new(hello: Hello, metadata: Metadata, side: Side) -> Self {
        let bits = hello.encodings.iter().map(|&encoding| bit(encoding));
        let server = match side {
            Side::Connector => Some(Box::new(ServerHello {
                instance_id: hello.instance_id,
                challenge: hello.challenge,
            })),
            Side::Acceptor => None,
        };
        Self {
            stream_window: hello.stream_window,
            ping_floor_ms: hello.ping_floor_ms,
            encodings: bits.fold(0, BitOr::bitor),
            metadata,
            server,
        }
    }

    /// Which run of a server it is; empty for a client.
    pub(crate) fn instance_id(&self) -> Bytes {
        self.server
            .as_ref()
            .map_or(Bytes::new(), |server| server.instance_id.clone())
    }

    /// What the server asks a terminate to prove its user with; empty if it does not, and for a client.
    pub(crate) fn challenge(&self) -> Bytes {
        self.server
            .as_ref()
            .map_or(Bytes::new(), |server| server.challenge.clone())
    }

    /// True if it can decompress that compression.
    pub(super) fn takes(&self, encoding: u32) -> bool {
        self.encodings & bit(encoding) != 0
    }
}

/// The bit of a compression; 0 for a number that no compression of ours has.
fn bit(encoding: u32) -> u32 {
    1_u32.checked_shl(encoding).unwrap_or_default()
}

/// The peer wants no more calls.
#[derive(Clone, Debug)]
pub(crate) struct PeerGoaway {
    /// Why; one that we do not know counts as a drain.
    pub(crate) reason: Reason,
    /// Its text, for a person to read.
    pub(crate) text: String,
    /// The highest id of ours that it may still execute.
    pub(crate) last_id: u64,
    /// How long it waits for what is open.
    pub(crate) drain: Duration,
    /// When the first one was read.
    pub(crate) at: Time,
    /// True if it has given its last account.
    pub(crate) is_last: bool,
}

impl PeerGoaway {
    /// Why a request fails that the peer does not take.
    pub(super) fn cause(&self) -> Cause {
        let text = self.text.clone();
        match self.reason {
            Reason::HelloRejected => Cause::HelloRejected { text },
            reason => Cause::GoingAway { reason, text },
        }
    }
}

/// One-way requests of ours that no barrier has covered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uncovered {
    /// Never executed: never written whole, or above the last id that the peer took.
    pub(crate) no: u64,
    /// Perhaps executed: all others.
    pub(crate) maybe: u64,
}

/// What a flush waits for: all that was started before it.
#[derive(Debug)]
pub(crate) struct Flush {
    /// The end of the output then: the OS must have taken the stream up to here.
    pub(super) offset: u64,
    /// The last request whose fragments may not have been in the output then.
    pub(super) last_id: u64,
}

/// A PING that waits for its PONG.
#[derive(Debug)]
pub(crate) struct Barrier(pub(super) u64);
