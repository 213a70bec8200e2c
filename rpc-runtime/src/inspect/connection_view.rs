//! ConnectionView: one connection at one moment.

use std::{fmt, sync::Arc, time::Duration};

use super::Side;
use crate::{Transport, base::short_text::Short};

/// One connection of this process at one moment, from [`connections`](super::connections).
///
/// `Display` shows it in one line, with columns that stand below each other.
#[derive(Clone, Debug)]
pub struct ConnectionView {
    pub(super) id: u64,
    pub(super) side: Side,
    pub(super) owner: Arc<str>,
    pub(super) peer: Arc<str>,
    pub(super) caller: Option<Arc<str>>,
    pub(super) has_several_callers: bool,
    pub(super) protocol: &'static str,
    pub(super) transport: Transport,
    pub(super) stage: ConnectionStage,
    pub(super) age: Duration,
    pub(super) served: usize,
    pub(super) made: usize,
    pub(super) one_ways: usize,
    pub(super) waiting: usize,
    pub(super) missed_deadlines: u64,
    pub(super) blocked: usize,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) held: u64,
    pub(super) backlog: u64,
    pub(super) round_trip: Option<Duration>,
    pub(super) silence: Duration,
    pub(super) stalled: Option<Duration>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionStage {
    /// The peer has not said that it speaks the protocol.
    Handshake,
    /// Calls go both ways.
    Open,
    /// One side or both want no more calls. Open calls go on.
    Draining,
    /// No call is open. Bytes may still have to be written and read.
    Closing,
    /// The connection has ended, and handlers of it still run.
    Closed,
}

impl ConnectionStage {
    /// Returns the word for it, such as `open`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Open => "open",
            Self::Draining => "draining",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for ConnectionStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl ConnectionView {
    /// Returns the number of the connection. Each connection of the process has its own, and later ones have higher numbers.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns whether this process has accepted or made the connection.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Returns the addresses of the server that the connection came to, or those that its client connects to.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Returns the address of the peer.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Returns the name of the [`Caller`](crate::auth::Caller) that a policy or a token has found first on this connection; none if none was
    /// found. Only connections of a server have callers.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// Returns true if the connection has carried calls of callers with other names than [`ConnectionView::caller`], too.
    pub fn has_several_callers(&self) -> bool {
        self.has_several_callers
    }

    /// Returns the protocol: `native`, or that of the guest or bridge, such as `grpc`.
    pub fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// Returns the transport.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Returns true if the connection is encrypted by TLS.
    pub fn is_tls(&self) -> bool {
        self.transport == Transport::Tls
    }

    /// Returns how far the connection has come.
    pub fn stage(&self) -> ConnectionStage {
        self.stage
    }

    /// Returns the time since the connection was made or accepted.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Returns the number of calls that the peer has open here, without one-way calls.
    ///
    /// A call that the peer has cancelled counts until its handler is gone.
    pub fn calls_served(&self) -> usize {
        self.served
    }

    /// Returns the number of calls that this process has open at the peer, without one-way calls.
    ///
    /// A call that its caller gave up counts until the peer has replied.
    pub fn calls_made(&self) -> usize {
        self.made
    }

    /// Returns the number of calls in flight, in both directions, without one-way calls.
    pub fn calls_in_flight(&self) -> usize {
        self.served + self.made
    }

    /// Returns the number of one-way calls: those of the peer whose handlers are not gone, and ours that the operating system does not have.
    pub fn one_ways(&self) -> usize {
        self.one_ways
    }

    /// Returns the number of callers, handlers and streams that wait for credit, for a slot, or for room in the output.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns how many calls have missed their deadline, since the connection was made: those of the peer here, one-way calls included, and
    /// those of this process at the peer.
    ///
    /// A call that its caller gives up before this side finds its deadline passed is not among them.
    pub fn missed_deadlines(&self) -> u64 {
        self.missed_deadlines
    }

    /// Returns the number of handlers that block their thread.
    pub fn blocked_handlers(&self) -> usize {
        self.blocked
    }

    /// Returns the number of bytes that were read.
    ///
    /// Of a client's connection to a server of another protocol they are those of the frames within this process.
    pub fn bytes_received(&self) -> u64 {
        self.received
    }

    /// Returns the number of bytes that the operating system has taken.
    ///
    /// Of a client's connection to a server of another protocol they are those of the frames within this process.
    pub fn bytes_sent(&self) -> u64 {
        self.sent
    }

    /// Returns the number of bytes that the connection holds in memory: requests, messages that are not read, and what is not written.
    ///
    /// They count for [`ServerBuilder::max_buffered_bytes`](crate::server::ServerBuilder::max_buffered_bytes).
    pub fn held_bytes(&self) -> u64 {
        self.held
    }

    /// Returns the number of encoded bytes that the operating system has not taken.
    ///
    /// It grows if the peer does not read. What a guest has not written to its peer is not in it.
    pub fn backlog_bytes(&self) -> u64 {
        self.backlog
    }

    /// Returns for how long the peer has taken too little of the backlog; none if nothing waits to be taken.
    ///
    /// The time starts anew with each 64 KiB that the peer takes, or, for the peer of a guest, with each write. At
    /// [`Limits::write_stall`](crate::Limits::write_stall) the connection ends.
    pub fn stalled_for(&self) -> Option<Duration> {
        self.stalled
    }

    /// Returns the time since bytes of the peer were read last; the age of the connection if none were.
    pub fn silent_for(&self) -> Duration {
        self.silence
    }

    /// Returns how long the last answered PING took to be answered; none before the first.
    ///
    /// PINGs go out seldom: for keep-alive, behind long messages, and for barriers. A busy peer answers late. The peer of a guest, such as a
    /// caller by gRPC, is asked by the guest: by `rpc-http` for keep-alive only. A client of ours by gRPC shows none.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}

/// A peer that takes nothing, or says nothing while bytes wait for it, for so long is worth a word.
const LONG_STALL: Duration = Duration::from_secs(1);

impl fmt::Display for ConnectionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "#{:<6} {:<6} {:<9} {:<28} {:<6} {:<7} age={:<7} calls={:<4} one_ways={:<4} waiting={:<4} in={:<9} out={:<9} held={:<9} \
             backlog={:<9} rtt={:<7}",
            self.id,
            self.side,
            self.stage,
            self.peer,
            self.protocol,
            self.transport.name(),
            Short::time(Some(self.age)),
            self.calls_in_flight(),
            self.one_ways,
            self.waiting,
            Short::bytes(self.received),
            Short::bytes(self.sent),
            Short::bytes(self.held),
            Short::bytes(self.backlog),
            Short::time(self.round_trip),
        )?;
        match (&self.caller, self.has_several_callers) {
            (Some(caller), false) => write!(f, " caller={caller:?}")?,
            (Some(caller), true) => write!(f, " caller={caller:?} and others")?,
            (None, _) => {}
        }
        if let Some(stalled) = self.stalled.filter(|time| *time >= LONG_STALL) {
            write!(f, " peer_takes_nothing_for={}", Short::time(Some(stalled)))?;
        } else if self.backlog > 0 && self.silence >= LONG_STALL {
            // The OS has taken all that may be ahead of the peer's answers; the rest waits for a PONG.
            write!(f, " peer_silent_for={}", Short::time(Some(self.silence)))?;
        }
        if self.missed_deadlines > 0 {
            write!(f, " missed_deadlines={}", self.missed_deadlines)?;
        }
        if self.blocked > 0 {
            write!(f, " handlers_that_block={}", self.blocked)?;
        }
        Ok(())
    }
}
