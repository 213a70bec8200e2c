//! ConnectionStream: a connection of this process, as the byte stream of its peer.

use std::{
    fmt,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use super::{Clock, SharedConnection, Wakes, feed};
use crate::{
    conn::Time,
    wire::{codec::FrameCodec, frame::Output},
};

/// A connection that has no driver, as the byte stream of its peer, which is in this process, too.
///
/// Whoever drives the peer drives this connection with it: what it reads is the output of this one, and what it writes are frames for
/// this one. So a call between the two wakes one task less in each direction than with two drivers, and nothing is copied into a pipe
/// between them. Dropping the stream ends the connection.
pub(crate) struct ConnectionStream {
    shared: Arc<SharedConnection>,
    /// What was taken of the connection's output, and is not read.
    output: Output,
    codec: FrameCodec,
    /// What was written, and is no whole frame yet.
    input: BytesMut,
    /// None until there is a deadline, since it belongs to the runtime that drives.
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer fires. It only moves forward; firing too early does no harm.
    armed: Option<Time>,
    wakers: Vec<Waker>,
    /// True if the connection had more output than was taken.
    has_more: bool,
    /// True if the connection writes nothing more.
    is_ended: bool,
    /// True if the last read has asked the connection, which then wakes the task that reads. A read of what was left asks nothing, and the
    /// wake of an earlier one may be used up.
    is_watched: bool,
}

impl ConnectionStream {
    /// The stream of `shared`, which reads frames of at most `max_frame` bytes. It must have no other driver.
    pub(crate) fn new(shared: Arc<SharedConnection>, max_frame: u32) -> Self {
        Self {
            shared,
            output: Output::new(),
            codec: FrameCodec::new(max_frame as usize),
            input: BytesMut::new(),
            timer: None,
            armed: None,
            wakers: Vec::new(),
            has_more: false,
            is_ended: false,
            is_watched: false,
        }
    }

    /// True if nothing is left to read, and the task that has read is woken when there is.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_watched && self.output.is_empty() && !self.has_more && !self.is_ended
    }

    /// Visits the connection as a driver does between reading and writing: does what is due, and takes its output. The task of `cx` is
    /// woken when there is more.
    fn take_output(&mut self, cx: &mut Context<'_>) {
        let timer = self.timer.as_mut().filter(|_| self.armed.is_some());
        let is_due = timer.is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if is_due {
            self.armed = None;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock_state();
        let now = state.time(Clock::Now, &shared);
        let conn = &mut state.conn;
        if is_due {
            conn.handle_timeout(now);
        }
        if is_due || conn.wants_transmit() {
            conn.poll_transmit(&mut self.output, TAKEN_AT_ONCE, now);
            let taken = self.output.len();
            if taken > 0 {
                // The peer reads it from here, whatever becomes of this connection.
                conn.handle_written(taken, now);
            }
        }
        self.has_more = conn.wants_write();
        self.is_ended = conn.is_closed() || conn.wants_shutdown();
        if conn.wants_to_wake() {
            conn.take_wakers(&mut self.wakers);
        }
        let timeout = conn.poll_timeout();
        self.arm(timeout, cx);
        // Never full: what was taken is read at once, so the task is to be woken for more.
        state.sleep(cx.waker(), self.armed, false);
        drop(state);
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Arms the timer for the connection's next deadline.
    fn arm(&mut self, timeout: Option<Time>, cx: &mut Context<'_>) {
        let Some(wanted) = timeout else { return };
        if self.armed.is_some_and(|armed| armed <= wanted) {
            return;
        }
        self.armed = Some(wanted);
        let at = self.shared.instant(wanted);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        timer.as_mut().reset(at);
        if timer.as_mut().poll(cx).is_ready() {
            // Already due: come back at once.
            cx.waker().wake_by_ref();
        }
    }

    /// Takes as much of `bufs` as one read of a driver takes. Returns how much that is.
    fn gather(&mut self, bufs: &[IoSlice<'_>]) -> usize {
        let most = self.codec.prepare_read(&mut self.input);
        let mut room = most.min(self.input.capacity() - self.input.len());
        let before = room;
        for buf in bufs {
            let part = &buf[..buf.len().min(room)];
            self.input.extend_from_slice(part);
            room -= part.len();
        }
        before - room
    }

    /// Gives the connection what was written.
    fn write(&mut self, bufs: &[IoSlice<'_>]) -> usize {
        let written = self.gather(bufs);
        let mut conn = self.shared.lock(Clock::Now, Wakes::Driver);
        let now = conn.now();
        conn.handle_read(now);
        if !feed(&mut self.codec, &mut self.input, &mut conn, now) {
            self.input.clear();
        }
        written
    }
}

impl AsyncRead for ConnectionStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_watched = this.output.is_empty();
        if this.is_watched {
            this.take_output(cx);
        }
        if this.output.is_empty() && !this.is_ended {
            return Poll::Pending;
        }
        while !this.output.is_empty() && buf.remaining() > 0 {
            let chunk = this.output.chunk();
            let chunk = &chunk[..chunk.len().min(buf.remaining())];
            buf.put_slice(chunk);
            let read = chunk.len();
            this.output.advance(read);
        }
        Poll::Ready(Ok(()))
    }
}

/// Writing never waits: the connection takes all that its peer may send.
impl AsyncWrite for ConnectionStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.get_mut().write(bufs)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|conn, now| conn.handle_eof(now));
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for ConnectionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionStream").finish_non_exhaustive()
    }
}

/// The peer is gone: no call of the connection stays pending.
impl Drop for ConnectionStream {
    fn drop(&mut self) {
        self.shared.with(|conn, now| conn.handle_eof(now));
    }
}

/// How much of the connection's output is taken at once, about: as much as a pipe would hold. What is taken counts no longer as held.
const TAKEN_AT_ONCE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::{
        Limits,
        conn::{CallId, Connection, Request, Settings, Side, State, Ticket},
        driver::{After, Baton, ByteStream, Round},
        wire::frame::Encoded,
    };

    impl ByteStream for ConnectionStream {
        fn is_buffering(&self) -> bool {
            false
        }

        fn is_waking(&self) -> bool {
            true
        }

        fn is_drained(&self) -> bool {
            Self::is_drained(self)
        }
    }

    const MAX_FRAME: u32 = 144 * 1024;

    fn connection(side: Side) -> Arc<SharedConnection> {
        let settings = Settings::new(
            &Limits::default(),
            Duration::from_secs(30),
            Bytes::from_static(b"joined"),
            fastrand::u32(..),
        );
        SharedConnection::new(Connection::new(side, settings))
    }

    /// The connection of a client, that of its server, and what drives both.
    fn joined() -> (
        Arc<SharedConnection>,
        Arc<SharedConnection>,
        Arc<Baton<ConnectionStream>>,
    ) {
        let (client, server) = (connection(Side::Connector), connection(Side::Acceptor));
        let stream = ConnectionStream::new(Arc::clone(&client), MAX_FRAME);
        let baton = Baton::new(stream, Arc::clone(&server), MAX_FRAME);
        (client, server, baton)
    }

    /// Drives until nothing moves. Returns the last round, and whether one has woken tasks.
    fn drive(baton: &Baton<ConnectionStream>) -> (Round, bool) {
        let mut after = After::Wake;
        let mut has_woken = false;
        loop {
            let round = baton.round(&mut Context::from_waker(Waker::noop()), after);
            has_woken |= matches!(round, Round::Woke(_));
            after = After::Round;
            if matches!(round, Round::Idle | Round::Over) {
                return (round, has_woken);
            }
        }
    }

    fn is_closed(shared: &SharedConnection) -> bool {
        shared.with(|conn, _| matches!(conn.state(), State::Closed(_)))
    }

    fn call(client: &SharedConnection, message: Bytes) -> CallId {
        let called = client.with(|conn, now| {
            let mut cx = Context::from_waker(Waker::noop());
            conn.poll_call(
                &mut Ticket::default(),
                &Request::default(),
                &Encoded::plain(message),
                now,
                &mut cx,
            )
        });
        let Poll::Ready(Ok(id)) = called else {
            unreachable!("the call goes at once")
        };
        id
    }

    #[tokio::test(start_paused = true)]
    async fn one_driver_carries_the_frames_of_both() {
        let (client, server, baton) = joined();
        assert_eq!(drive(&baton), (Round::Idle, true));
        for one in [&client, &server] {
            assert!(one.with(|conn, _| conn.peer_hello().is_some()));
        }
        // Longer than all that is taken at once.
        let message = Bytes::from(vec![7; 3 * TAKEN_AT_ONCE]);
        let id = call(&client, message.clone());
        assert_eq!(drive(&baton).0, Round::Idle);
        let mut cx = Context::from_waker(Waker::noop());
        let arrived = server.with(|conn, _| conn.poll_request(&mut cx));
        let Poll::Ready(Some(arrived)) = arrived else {
            unreachable!("the request is there")
        };
        assert_eq!(arrived.payload.bytes(), &message);
        server.with(|conn, now| {
            conn.started(arrived.id, now).unwrap();
            conn.reply(arrived.id, &Encoded::plain(message.clone()), now);
        });
        assert_eq!(drive(&baton), (Round::Idle, true));
        let reply = client.with(|conn, _| conn.poll_reply(id, &mut cx));
        assert!(matches!(reply, Poll::Ready(Ok(reply)) if reply.payload.bytes() == &message));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_an_earlier_look_watches_for_nothing() {
        let mut stream = ConnectionStream::new(connection(Side::Connector), MAX_FRAME);
        let (mut cx, mut byte) = (Context::from_waker(Waker::noop()), [0]);
        let mut read = |stream: &mut ConnectionStream, buf: &mut [u8]| {
            let mut buf = ReadBuf::new(buf);
            let polled = Pin::new(stream).poll_read(&mut cx, &mut buf);
            (polled.is_ready(), buf.filled().len())
        };
        assert_eq!(read(&mut stream, &mut byte), (true, 1));
        assert!(!stream.is_drained(), "the rest of the HELLO is there");
        let mut rest = vec![0; 1000];
        assert!(read(&mut stream, &mut rest).0);
        assert!(
            !stream.is_drained(),
            "nothing has asked for more since the first byte"
        );
        assert_eq!(read(&mut stream, &mut rest), (false, 0));
        assert!(stream.is_drained());
    }

    #[tokio::test(start_paused = true)]
    async fn each_side_ends_with_the_other() {
        let (client, server, baton) = joined();
        drive(&baton);
        client.with(|conn, now| conn.handle_lost("the test cuts it", None, now));
        assert_eq!(drive(&baton).0, Round::Over);
        assert!(is_closed(&server));

        let (client, _server, baton) = joined();
        drive(&baton);
        drop(baton);
        assert!(is_closed(&client));

        let (client, server, baton) = joined();
        drive(&baton);
        client.with(|conn, now| conn.close(now));
        assert_eq!(drive(&baton).0, Round::Over);
        assert!(is_closed(&client) && is_closed(&server));
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_keeps_its_time_limits() {
        let client = connection(Side::Connector);
        let mut stream = ConnectionStream::new(Arc::clone(&client), MAX_FRAME);
        let begun = tokio::time::Instant::now();
        let mut bytes = Vec::new();
        // Its HELLO is not answered.
        stream.read_to_end(&mut bytes).await.unwrap();
        assert!(!bytes.is_empty());
        assert!(client.with(|conn, _| !conn.takes_calls()));
        assert!(begun.elapsed() >= Limits::default().handshake_timeout);
    }
}
