//! Connection: the protocol of one connection as a plain state machine.
//!
//! It has no IO, no tasks and no clock: frames, commands and the time come in; frames to write, wakers to wake and
//! the next timer come out. The driver and the callers share one behind a lock (`crate::driver::Link`).
#![expect(dead_code, clippy::unimplemented, reason = "skeleton")]

mod types;

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use prost::Message;

pub(crate) use self::types::{
    Arrived, Barrier, CallId, Cause, End, Failure, Flush, PeerGoaway, Reply, Request, Settings, Side, State,
    Tally, Ticket, Time, Uncovered, Unwanted,
};
use crate::{
    codec::CodecError,
    frame::{
        Frame, Output,
        control::{Hello, Progress, Reason},
    },
};

/// One side of the protocol, without sockets, clocks or tasks.
///
/// The driver, after each input: moves `take_wakers` out and wakes them when the lock is free, writes what
/// `poll_transmit` gives, re-arms its timer from `poll_timeout`. Time never goes backwards.
#[derive(Debug)]
pub(crate) struct Connection {}

/// What the driver tells.
impl Connection {
    /// A connection whose HELLO is ready to be written.
    pub(crate) fn new(side: Side, settings: Settings) -> Self {
        unimplemented!()
    }
    pub(crate) fn handle_frame(&mut self, frame: Frame, now: Time) {
        unimplemented!()
    }
    /// The peer sent what is no frame.
    pub(crate) fn handle_bad_frame(&mut self, error: &CodecError, now: Time) {
        unimplemented!()
    }
    /// The peer has half-closed.
    pub(crate) fn handle_eof(&mut self, now: Time) {
        unimplemented!()
    }
    /// The transport failed: a read error, or the driver was dropped.
    pub(crate) fn handle_lost(&mut self, text: &str, source: Option<std::io::Error>, now: Time) {
        unimplemented!()
    }
    /// `n` more bytes of what `poll_transmit` gave are with the OS.
    pub(crate) fn handle_written(&mut self, n: usize, now: Time) {
        unimplemented!()
    }
    /// A write failed that had been offered `offered` bytes: all of them count as taken (R8).
    pub(crate) fn handle_write_failed(&mut self, offered: usize, source: std::io::Error, now: Time) {
        unimplemented!()
    }
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        unimplemented!()
    }
    /// Bytes arrived, whether or not they complete a frame (keep-alive).
    pub(crate) fn handle_read(&mut self, now: Time) {
        unimplemented!()
    }
}

/// What the driver takes.
impl Connection {
    /// Moves what is to be written next to the end of `out`, until `out` holds about `limit` bytes.
    pub(crate) fn poll_transmit(&mut self, out: &mut Output, limit: usize, now: Time) {
        unimplemented!()
    }
    /// Whether `poll_transmit` would give anything.
    pub(crate) fn wants_write(&self) -> bool {
        unimplemented!()
    }
    /// When `handle_timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        unimplemented!()
    }
    /// Moves out everybody who is to be woken.
    pub(crate) fn take_wakers(&mut self, into: &mut Vec<Waker>) {
        unimplemented!()
    }
    /// Whether the driver should half-close its writing, once everything is written.
    pub(crate) fn wants_shutdown(&self) -> bool {
        unimplemented!()
    }
    /// Whether the driver is to drop the transport now.
    pub(crate) fn is_closed(&self) -> bool {
        unimplemented!()
    }
}

/// What callers do.
impl Connection {
    pub(crate) fn state(&self) -> State {
        unimplemented!()
    }
    /// Whether a new call can still start here (now or after a wait).
    pub(crate) fn takes_calls(&self) -> bool {
        unimplemented!()
    }
    /// What the peer announced, once it has.
    pub(crate) fn peer_hello(&self) -> Option<&Hello> {
        unimplemented!()
    }
    /// Ready when the handshake has succeeded or failed.
    /// The peer's GOAWAY, once it is here.
    pub(crate) fn peer_goaway(&self) -> Option<&PeerGoaway> {
        unimplemented!()
    }
    /// One-way requests of ours that no barrier covered; after the connection's end, what became of them.
    pub(crate) fn uncovered(&self) -> Uncovered {
        unimplemented!()
    }
    /// Whether the peer's floor would make a barrier wait now: a control ping call first lets it go at once.
    pub(crate) fn barrier_needs_call(&self, now: Time) -> bool {
        unimplemented!()
    }
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        unimplemented!()
    }
    /// Ready when the connection is closed.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        unimplemented!()
    }
    /// Opens a call as soon as its turn has come, and returns the id that its reply will carry.
    pub(crate) fn poll_call<M: Message>(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        message: &M,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Result<CallId, Failure>> {
        unimplemented!()
    }
    /// Puts a one-way request into the output as soon as its turn has come.
    pub(crate) fn poll_send<M: Message>(
        &mut self,
        ticket: &mut Ticket,
        request: &Request<'_>,
        message: &M,
        now: Time,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        unimplemented!()
    }
    /// Gives a place in the queue up; nothing to do for a ticket that never waited.
    pub(crate) fn drop_ticket(&mut self, ticket: &mut Ticket) {
        unimplemented!()
    }
    /// Takes the outcome of a call; afterwards the id is forgotten. The deadline is watched by `handle_timeout`.
    pub(crate) fn poll_reply(&mut self, id: CallId, cx: &mut Context<'_>) -> Poll<Result<Reply, Failure>> {
        unimplemented!()
    }
    /// The caller's future was dropped: CANCEL goes out, a late reply is discarded.
    pub(crate) fn drop_call(&mut self, id: CallId, now: Time) {
        unimplemented!()
    }
    /// All one-ways and calls started so far; ready when they are with the OS.
    pub(crate) fn start_flush(&mut self) -> Flush {
        unimplemented!()
    }
    pub(crate) fn poll_flush(&mut self, flush: &Flush, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        unimplemented!()
    }
    /// A PING behind everything sent so far; ready with the peer's account.
    pub(crate) fn start_barrier(&mut self, now: Time) -> Barrier {
        unimplemented!()
    }
    pub(crate) fn poll_barrier(
        &mut self,
        barrier: &Barrier,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Progress, Cause>> {
        unimplemented!()
    }
    pub(crate) fn drop_barrier(&mut self, barrier: &Barrier) {
        unimplemented!()
    }
    /// Takes no more calls, lets those of both sides finish, then half-closes, lingers and closes.
    pub(crate) fn close(&mut self, now: Time) {
        unimplemented!()
    }
}

/// What handlers do.
impl Connection {
    /// The next request whose handler is to be started, in the order of arrival; `None` when no more can come.
    /// Pending while the output is above high-water, too.
    pub(crate) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrived>> {
        unimplemented!()
    }
    /// Marks that the handler is polled for the first time: from here on it counts as executed.
    pub(crate) fn started(&mut self, id: CallId, now: Time) -> Result<(), Unwanted> {
        unimplemented!()
    }
    /// Ready when the handler is no longer wanted. Several may wait; all are woken.
    pub(crate) fn poll_unwanted(&mut self, id: CallId, cx: &mut Context<'_>) -> Poll<Unwanted> {
        unimplemented!()
    }
    /// Ready when a reply may be encoded.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        unimplemented!()
    }
    /// The handler succeeded: encodes the reply in place (or counts a one-way as handled).
    pub(crate) fn reply<M: Message>(&mut self, id: CallId, message: &M, now: Time) {
        unimplemented!()
    }
    /// The handler is gone without a reply message.
    pub(crate) fn end(&mut self, id: CallId, end: End<'_>, now: Time) {
        unimplemented!()
    }
}

/// What a drain does.
impl Connection {
    /// Wants no more calls: the two GOAWAYs of WIRE.md's Closing. `drain` is how long open calls may take.
    pub(crate) fn begin_drain(&mut self, reason: Reason, text: &str, drain: Duration, now: Time) {
        unimplemented!()
    }
    /// The drain's time is over: handlers that run become unwanted, the others are refused, and the connection
    /// closes as soon as its output is written.
    pub(crate) fn abort_calls(&mut self, now: Time) {
        unimplemented!()
    }
    /// Ready when the drain's second GOAWAY is out and no request of the peer is open, control calls left out.
    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        unimplemented!()
    }
    /// How many requests of the peer are open, control calls left out: queued and running, calls and one-ways.
    pub(crate) fn open_requests(&self) -> usize {
        unimplemented!()
    }
    /// How many handlers are started and not gone, control calls left out.
    pub(crate) fn running_handlers(&self) -> usize {
        unimplemented!()
    }
    /// What became of the peer's requests here, for the report.
    pub(crate) fn tally(&self) -> Tally {
        unimplemented!()
    }
}
