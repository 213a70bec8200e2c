//! Driver: the socket of a connection, and how it is read and written.

mod baton;
mod breaker;
mod busy_poll;
mod connection_stream;
mod read_turn;
pub(crate) mod runtime;
mod send_turn;
mod shared_connection;

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, BufMut, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    task::yield_now,
    time::{Sleep, sleep_until},
};

use self::busy_poll::BusyPoll;
pub(crate) use self::{
    baton::{Baton, Drive, RUNTIME_GONE, Round},
    breaker::Breaker,
    connection_stream::ConnectionStream,
    read_turn::ReadTurn,
    send_turn::SendTurn,
    shared_connection::{Clock, Locked, SharedConnection, Wakes},
};
use crate::{
    conn::{Connection, Time},
    metrics::Traffic,
    wire::{
        codec::FrameCodec,
        frame::{Frame, Output},
    },
};

/// A byte stream that a driver can use.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Unpin {
    /// True if the stream may hold written bytes back until it is flushed.
    fn is_buffering(&self) -> bool;

    /// True if the other end is in this process, and takes at once what is written, which wakes the tasks that wait for it.
    fn is_waking(&self) -> bool {
        false
    }

    /// True if a waking stream has nothing to read, and wakes the task that read last when it has.
    fn is_drained(&self) -> bool {
        false
    }

    /// True if it is a socket that can be asked for input.
    fn is_socket(&self) -> bool {
        false
    }

    /// Makes reads ask the OS when the runtime knows of no input, if true. A runtime asks for input when it has nothing else to do.
    fn ask_socket(&mut self, _asks: bool) {}
}

/// Drives `shared` over `stream` until the connection is closed. Spawn it.
///
/// Dropping the future fails everything that is pending on the connection.
#[cfg(test)]
pub(crate) fn drive<S>(stream: S, shared: Arc<SharedConnection>, max_frame: u32) -> Drive<S>
where
    S: ByteStream + Send + 'static,
{
    Drive::new(Baton::new(stream, shared, max_frame))
}

/// The socket of a connection, with everything that reading and writing it takes.
///
/// The driver reads, feeds the state machine, writes what comes out, and keeps one timer. It never waits for a handler or a
/// caller, and nothing makes it stop reading (R0). While handlers are polled, the driver lies in its [`Baton`]. If a handler is
/// late, another task takes the baton and drives on.
struct Driver<S> {
    stream: S,
    /// True if the stream may hold written bytes back, so that it must be flushed.
    is_buffering: bool,
    /// [`ByteStream::is_waking`].
    is_waking: bool,
    shared: Arc<SharedConnection>,
    codec: FrameCodec,
    input: BytesMut,
    /// True if the stream had nothing to read since the task was woken. The stream wakes the task when it has.
    quiet: bool,
    output: Output,
    /// Bytes that the OS has taken and that the connection does not know of yet.
    written: usize,
    /// Bytes that a buffering stream has taken since its last flush ended.
    unflushed: usize,
    /// The most bytes that one write offers, approximately.
    write_len: usize,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires. It only moves forward; firing too early does no harm.
    armed: Option<Time>,
    /// When unused buffers are freed, unless bytes move before.
    release: Option<Time>,
    /// True if bytes moved in either direction since `release` was set.
    active: bool,
    reading: Reading,
    writing: Writing,
    /// A failed write that the connection does not know of yet. The driver first reads what the peer said before it went: it
    /// may hold replies, or the reason.
    failed: Option<FailedWrite>,
    wakers: Vec<Waker>,
    /// Where bytes are counted; none if they are not.
    traffic: Option<&'static Traffic>,
    /// The reason that the connection ends with if the driver is dropped.
    why: &'static str,
    /// The number of tasks woken since the last question.
    woken: usize,
    /// True if a connection with a waking stream had more output than it gave in the last round with any.
    has_more: bool,
    /// True if the last round told the connection all that the driver knew, and moved nothing afterwards.
    is_settled: bool,
    busy_poll: BusyPoll,
    /// True if the peer is likely to send something.
    expects_input: bool,
}

/// What came before a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The task was woken, so anything may have happened.
    Wake,
    /// A round, and then handlers, which leave the driver asleep.
    Handlers,
    /// A round in the same poll of the task, and nothing else.
    Round,
}

struct FailedWrite {
    offered: usize,
    error: io::Error,
    /// How many more reads are allowed: the peer may never stop sending.
    reads: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Frames,
    /// After bytes that are not a frame: reads on without looking, so that closing sends no reset.
    Discard,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// Half-closed, or broken: nothing more goes out.
    Ended,
}

/// The result of a read.
enum Input {
    Nothing,
    /// So many bytes.
    Bytes(usize),
    End,
    Broken(io::Error),
}

/// What the state machine needs after a turn.
struct Turn {
    closed: bool,
    shutdown: bool,
}

impl<S: ByteStream> Driver<S> {
    fn new(stream: S, shared: Arc<SharedConnection>, max_frame: u32, write_len: usize) -> Self {
        let (traffic, busy_poll) = {
            let state = shared.lock_state();
            (state.conn.traffic(), state.conn.busy_poll())
        };
        let busy_poll = if stream.is_socket() { busy_poll } else { Time::ZERO };
        Self {
            busy_poll: BusyPoll::new(busy_poll),
            expects_input: false,
            traffic,
            is_buffering: stream.is_buffering(),
            is_waking: stream.is_waking(),
            stream,
            timer: Box::pin(sleep_until(shared.instant(Time::ZERO))),
            shared,
            codec: FrameCodec::new(max_frame as usize),
            input: BytesMut::new(),
            quiet: false,
            output: Output::new(),
            written: 0,
            unflushed: 0,
            write_len,
            armed: None,
            release: None,
            active: false,
            reading: Reading::Frames,
            writing: Writing::Open,
            failed: None,
            wakers: Vec::new(),
            why: RUNTIME_GONE,
            woken: 0,
            has_more: false,
            is_settled: false,
        }
    }

    /// Reads, tells the connection what came and what went, and writes its output.
    fn round(&mut self, cx: &mut Context<'_>, after: After) -> Round {
        let is_first = after == After::Wake;
        if is_first {
            self.quiet = false;
        }
        let looks = is_first && self.busy_poll.is_looking();
        let input = match looks {
            false => self.poll_read(cx),
            true => self.look(cx),
        };
        let read = !matches!(input, Input::Nothing);
        if after == After::Round && self.is_settled && !read {
            return self.idle(cx);
        }
        if looks && !read && !self.shared.wants_driver() {
            if self.busy_poll.missed(self.shared.now()) {
                look_later(cx);
                return Round::Idle;
            }
            // What has woken the task meanwhile may not be its socket. So it looks at everything before it sleeps.
        } else if looks {
            self.busy_poll.found();
        }
        let due = is_first && self.poll_timer(cx);
        let clock = if is_first { Clock::Now } else { Clock::Recent };
        let turn = self.turn(input, due, clock, cx);
        let called = !self.wakers.is_empty() && self.wake_others(cx.waker());
        if turn.closed {
            if self.is_buffering && self.unflushed == 0 {
                // TLS says with a message of its own that nothing was cut off. Late or not, the stream is dropped next. What the stream
                // still holds is lost: the connection has ended without it.
                self.poll_shutdown(cx);
            }
            return Round::Over;
        }
        let wrote = match self.is_buffering {
            false => self.poll_write(cx, usize::MAX),
            true => self.poll_write_and_flush(cx),
        };
        self.woken += usize::from(wrote && self.is_waking);
        let is_written = self.output.is_empty() && self.unflushed == 0;
        let shut = turn.shutdown && is_written && self.poll_shutdown(cx);
        let tells_later = wrote && (!self.is_waking || self.has_more);
        self.is_settled = !(due || tells_later || shut || self.is_buffering) && self.failed.is_none();
        if read || due || wrote || shut || called {
            Round::Moved
        } else {
            self.idle(cx)
        }
    }

    /// The end of a round that moved nothing. The task looks again before it sleeps, if that is likely to pay.
    fn idle(&mut self, cx: &mut Context<'_>) -> Round {
        let is_quiet = self.output.is_empty() && self.unflushed == 0 && self.reading == Reading::Frames;
        if self.busy_poll.is_looking() || (self.expects_input && is_quiet && self.busy_poll.begin()) {
            look_later(cx);
        }
        Round::Idle
    }

    /// Reads as [`Driver::poll_read`] does, and asks the OS itself.
    fn look(&mut self, cx: &mut Context<'_>) -> Input {
        self.stream.ask_socket(true);
        let input = self.poll_read(cx);
        self.stream.ask_socket(false);
        input
    }

    /// Wakes the tasks that are to be woken. True if this one is among them: instead, it looks again before it sleeps.
    fn wake_others(&mut self, own: &Waker) -> bool {
        let mut called = false;
        for waker in self.wakers.drain(..) {
            if waker.will_wake(own) {
                called = true;
            } else {
                waker.wake();
                self.woken += 1;
            }
        }
        called
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Input {
        if self.reading == Reading::Ended || self.quiet {
            return Input::Nothing;
        }
        let most = self.codec.prepare_read(&mut self.input);
        let mut room = (&mut self.input).limit(most);
        // A fresh `read_buf` each time: it holds no state, and needs no `unsafe` here.
        let read = pin!(self.stream.read_buf(&mut room)).poll(cx);
        match read {
            Poll::Pending => {
                self.quiet = true;
                self.codec.give_back(&mut self.input);
                Input::Nothing
            }
            Poll::Ready(Ok(0)) => {
                self.reading = Reading::Ended;
                Input::End
            }
            Poll::Ready(Ok(n)) => {
                self.busy_poll.note_read(n);
                if let Some(traffic) = self.traffic {
                    traffic.received(n);
                }
                self.quiet = self.is_waking && self.stream.is_drained();
                Input::Bytes(n)
            }
            Poll::Ready(Err(error)) => {
                self.reading = Reading::Ended;
                self.writing = Writing::Ended;
                Input::Broken(error)
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        if self.armed.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            self.armed = None;
            return true;
        }
        false
    }

    /// Visits the state machine once: tells it everything and takes everything, under one lock.
    fn turn(&mut self, input: Input, due: bool, clock: Clock, cx: &mut Context<'_>) -> Turn {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock_state();
        let now = state.time(clock, &shared);
        if clock == Clock::Now {
            self.busy_poll.note_wake(now, shared.number());
        }
        let conn = &mut state.conn;
        if self.written > 0 {
            conn.handle_written(self.written, now);
            self.written = 0;
            self.active = true;
        }
        if self.is_buffering {
            conn.note_unflushed(self.unflushed);
        }
        if due || !matches!(input, Input::Bytes(_)) {
            // Before anything can end the connection: it must know what may have been executed.
            self.tell_failed_write(conn, now);
        }
        match input {
            Input::Nothing => {}
            Input::Bytes(n) => {
                self.active = true;
                conn.note_received(n);
                conn.handle_read(now);
                self.decode(conn, now);
            }
            Input::End => conn.handle_eof(now),
            Input::Broken(error) => conn.handle_lost("read failed", Some(error), now),
        }
        match &mut self.failed {
            Some(failed) if failed.reads > 0 => failed.reads -= 1,
            Some(_) => self.tell_failed_write(conn, now),
            None => {}
        }
        if due {
            conn.handle_timeout(now);
            self.release_buffers(now);
        }
        if self.writing == Writing::Open && (due || conn.wants_transmit()) {
            conn.poll_transmit(&mut self.output, self.write_len, now);
            if self.is_waking && !self.output.is_empty() {
                // All of it is taken right behind this visit.
                conn.handle_written(self.output.len(), now);
                self.has_more = conn.wants_write();
                self.active = true;
            }
        }
        let turn = Turn {
            closed: conn.is_closed(),
            shutdown: conn.wants_shutdown(),
        };
        if conn.wants_to_wake() {
            conn.take_wakers(&mut self.wakers);
        }
        self.expects_input = conn.expects_input();
        let timeout = conn.poll_timeout();
        self.arm(timeout, now, cx);
        // A waking stream takes all of it right behind this visit.
        let is_full = !self.output.is_empty() && !self.is_waking;
        state.sleep(cx.waker(), self.armed, is_full);
        turn
    }

    /// Feeds all whole frames of the read buffer to the connection.
    fn decode(&mut self, conn: &mut Connection, now: Time) {
        if self.reading == Reading::Frames {
            if feed(&mut self.codec, &mut self.input, conn, now) {
                return;
            }
            self.reading = Reading::Discard;
        }
        self.input.clear();
    }

    /// Frees the buffers of an idle connection.
    fn release_buffers(&mut self, now: Time) {
        if self.release.is_none_or(|release| release > now) {
            return;
        }
        self.release = None;
        if !self.active {
            self.output.release();
            self.wakers.shrink_to_fit();
        }
    }

    /// Arms the timer for the connection's next deadline, or for freeing buffers.
    fn arm(&mut self, timeout: Option<Time>, now: Time, cx: &mut Context<'_>) {
        if self.active && self.release.is_none() {
            self.active = false;
            self.release = Some(now + IDLE);
        }
        let wanted = match (timeout, self.release) {
            (Some(timeout), Some(release)) => Some(timeout.min(release)),
            (timeout, release) => timeout.or(release),
        };
        let Some(wanted) = wanted else { return };
        if self.armed.is_some_and(|armed| armed <= wanted) {
            return;
        }
        self.timer.as_mut().reset(self.shared.instant(wanted));
        self.armed = Some(wanted);
        if self.timer.as_mut().poll(cx).is_ready() {
            // Already due: come back at once.
            cx.waker().wake_by_ref();
        }
    }

    /// Writes at most `most` bytes in as few calls as possible. True if the stream took any.
    #[inline(always)]
    fn poll_write(&mut self, cx: &mut Context<'_>, most: usize) -> bool {
        let mut left = most;
        let mut wrote = false;
        while !self.output.is_empty() && self.writing == Writing::Open && left > 0 {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let slices = if self.output.len() <= left && self.stream.is_write_vectored() {
                let count = self.output.chunks_vectored(&mut slices);
                &slices[..count]
            } else {
                let chunk = self.output.chunk();
                slices[0] = IoSlice::new(&chunk[..chunk.len().min(left)]);
                &slices[..1]
            };
            let offered = slices.iter().map(|slice| slice.len()).sum();
            let result = match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(result) => result,
            };
            wrote = true;
            match result {
                Ok(n) => {
                    if let Some(traffic) = self.traffic {
                        traffic.sent(n);
                    }
                    self.output.advance(n);
                    self.written += if self.is_waking { 0 } else { n };
                    left -= n;
                }
                Err(error) => self.write_failed(offered, error),
            }
        }
        wrote
    }

    /// Writes to a buffering stream and flushes it. True if that moved anything.
    ///
    /// Bytes count as written when a flush after them has ended, and no sooner.
    fn poll_write_and_flush(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        loop {
            let told_of = self.written;
            moved |= self.poll_write(cx, UNFLUSHED_MAX.saturating_sub(self.unflushed));
            self.unflushed += self.written - told_of;
            self.written = told_of;
            if self.unflushed == 0 || self.writing == Writing::Ended {
                return moved;
            }
            // Also while a write is pending: some streams make room only while they are flushed.
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => return moved,
                Poll::Ready(Ok(())) => self.written += std::mem::take(&mut self.unflushed),
                Poll::Ready(Err(error)) => self.write_failed(0, error),
            }
            moved = true;
        }
    }

    /// A write of `offered` bytes failed, or a flush: the fate of what was not flushed is unknown.
    #[cold]
    fn write_failed(&mut self, offered: usize, error: io::Error) {
        self.writing = Writing::Ended;
        self.quiet = false;
        self.failed = Some(FailedWrite {
            offered,
            error,
            reads: LAST_READS,
        });
    }

    fn tell_failed_write(&mut self, conn: &mut Connection, now: Time) {
        if let Some(FailedWrite { offered, error, .. }) = self.failed.take() {
            conn.handle_write_failed(self.unflushed + offered, error, now);
        }
    }

    /// Half-closes. True once that is done.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> bool {
        if self.writing == Writing::Ended {
            return false;
        }
        let done = self.try_shutdown(cx);
        if done.is_ready() {
            self.writing = Writing::Ended;
        }
        done.is_ready()
    }

    fn try_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The peer may be gone already. Then there is nothing to half-close, and reading will tell.
        let _ = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
        Poll::Ready(())
    }
}

/// Wakes the task when the other tasks of its thread have had their turn, and the runtime has looked at its sockets.
fn look_later(cx: &mut Context<'_>) {
    // Not by the waker itself: that would also wake another thread, to share the work.
    let _ = pin!(yield_now()).poll(cx);
}

/// Feeds all whole frames of `input` to the connection. Returns false after bytes that are no frame.
///
/// An incomplete frame stays in `input` until its rest arrives; a fragment goes where the connection wants it.
#[inline(always)]
fn feed(codec: &mut FrameCodec, input: &mut BytesMut, conn: &mut Connection, now: Time) -> bool {
    let mut is_new = false;
    let mut frame = Frame::default();
    loop {
        match codec.decode_into(input, &mut frame) {
            Ok(true) => {
                is_new = true;
                conn.handle_frame(&mut frame, now);
                frame.clear();
            }
            Ok(false) => {
                place(codec, input, conn);
                conn.handle_rest(codec.rest(input), is_new, now);
                return true;
            }
            Err(error) => {
                conn.handle_bad_frame(&error, now);
                return false;
            }
        }
    }
}

#[inline]
fn place(codec: &mut FrameCodec, input: &mut BytesMut, conn: &mut Connection) {
    if let Some(fragment) = codec.fragment(input) {
        if let Some(message) = conn.lend_message(&fragment) {
            codec.place(fragment, message, input);
        }
    }
    codec.give_back(input);
}

/// Dropping a driver ends its connection: no call stays pending.
impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        let (written, unflushed, why) = (self.written, self.unflushed, self.why);
        let failed = self.failed.take();
        self.shared.with(|conn, now| {
            if !conn.is_closed() {
                // First report what the OS has taken: a call in it may have been executed.
                conn.handle_written(written, now);
                conn.note_unflushed(unflushed);
                if let Some(FailedWrite { offered, error, .. }) = failed {
                    conn.handle_write_failed(unflushed + offered, error, now);
                }
                conn.handle_lost(why, None, now);
            }
        });
    }
}

/// The number of rounds in one poll before other tasks get their turn.
const TURNS: usize = 4;
/// The number of reads before a failed write is reported. It is more than an OS holds of a peer that is gone, because the
/// peer's last word comes after all of it.
const LAST_READS: usize = 4096;
/// The most bytes that one write offers, so that urgent frames do not wait behind megabytes.
const WRITE_LEN: usize = 1024 * 1024;
const MAX_SLICES: usize = 64;
/// The most bytes that a buffering stream gets before a flush ends: only the flush shows that the peer takes anything.
///
/// A peer that takes 64 KiB in 30 s (enough for [`Limits::write_stall`](crate::Limits::write_stall)) takes this much in 15 s.
/// So it does not count as dead, which takes 20 s without progress.
const UNFLUSHED_MAX: usize = 32 * 1024;
/// An idle connection frees its buffers after this much silence.
const IDLE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
