//! Keep-alive: finds out that a peer is dead.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{pace::after, watched_stream::Traffic};

/// Sends a PING after an interval in which nothing was read, and notices if nothing is read after it either.
pub(crate) struct KeepAlive {
    pings: PingPong,
    traffic: Arc<Traffic>,
    /// How much had been read at the last look.
    read: u64,
    timer: Pin<Box<Sleep>>,
    interval: Duration,
    timeout: Duration,
    /// When the PING was sent whose answer is to come; none if none is.
    asked_at: Option<Instant>,
    /// How long the last answer took, until somebody takes it.
    round_trip: Option<Duration>,
}

impl KeepAlive {
    pub(crate) fn new(
        pings: PingPong,
        traffic: &Arc<Traffic>,
        interval: Duration,
        timeout: Duration,
    ) -> Self {
        Self {
            pings,
            read: traffic.read(),
            traffic: Arc::clone(traffic),
            timer: Box::pin(sleep_until(after(interval))),
            interval,
            timeout,
            asked_at: None,
            round_trip: None,
        }
    }

    /// Is ready if the peer is dead.
    pub(crate) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(asked_at) = self.asked_at {
                if let Poll::Ready(answer) = self.pings.poll_pong(cx) {
                    if answer.is_err() {
                        return Poll::Ready(());
                    }
                    self.asked_at = None;
                    self.round_trip = Some(asked_at.elapsed());
                    self.arm(self.interval);
                    continue;
                }
            }
            ready!(self.timer.as_mut().poll(cx));
            let has_read = self.has_read();
            match (self.is_waiting(), has_read) {
                // The PING may stand behind much that the peer reads slowly. Meanwhile all that it sends shows that it lives.
                (true, true) => self.arm(self.timeout),
                (true, false) => return Poll::Ready(()),
                (false, true) => self.arm(self.interval),
                (false, false) => {
                    if self.pings.send_ping(Ping::opaque()).is_err() {
                        return Poll::Ready(());
                    }
                    self.asked_at = Some(Instant::now());
                    self.arm(self.timeout);
                }
            }
        }
    }

    /// Returns whether a PING waits for its answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.asked_at.is_some()
    }

    /// Takes out how long the last answer took; none if none has come since the last look.
    pub(crate) fn take_round_trip(&mut self) -> Option<Duration> {
        self.round_trip.take()
    }

    /// True if something was read since the last look.
    fn has_read(&mut self) -> bool {
        let before = self.read;
        self.read = self.traffic.read();
        self.read > before
    }

    fn arm(&mut self, time: Duration) {
        self.timer.as_mut().reset(after(time));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use h2::server::Connection;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::sleep,
    };

    use super::*;
    use crate::watched_stream::WatchedStream;

    const INTERVAL: Duration = Duration::from_secs(60);
    const TIMEOUT: Duration = Duration::from_secs(20);

    /// A connection whose peer has sent its preface, what asks that peer, and the peer's end.
    async fn begun() -> (
        Connection<WatchedStream<DuplexStream>, Bytes>,
        KeepAlive,
        DuplexStream,
    ) {
        let (ours, mut theirs) = duplex(64 << 10);
        let stream = WatchedStream::new(ours, Duration::from_secs(3600));
        let traffic = Arc::clone(stream.traffic());
        theirs
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let mut connection = h2::server::Builder::new()
            .handshake::<_, Bytes>(stream)
            .await
            .unwrap();
        let pings = connection.ping_pong().unwrap();
        // Reads what the peer has sent until now.
        poll_fn(|cx| {
            assert!(connection.poll_closed(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        (
            connection,
            KeepAlive::new(pings, &traffic, INTERVAL, TIMEOUT),
            theirs,
        )
    }

    /// Serves a peer that does as `peer` says, and returns after how many seconds it is given up.
    async fn seconds_until_dead<P: Future<Output = ()> + Send + 'static>(
        peer: impl FnOnce(DuplexStream) -> P,
    ) -> u64 {
        let (mut connection, mut keep_alive, theirs) = begun().await;
        let begun = Instant::now();
        tokio::spawn(peer(theirs));
        poll_fn(|cx| {
            assert!(connection.poll_closed(cx).is_pending());
            keep_alive.poll_dead(cx)
        })
        .await;
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_tells_the_round_trip() {
        let (mut connection, mut keep_alive, mut theirs) = begun().await;
        assert_eq!(keep_alive.take_round_trip(), None);
        tokio::spawn(async move {
            // What comes before the PING are SETTINGS, and their acknowledgement.
            let mut seen = Vec::new();
            let ping = loop {
                seen.push(theirs.read_u8().await.unwrap());
                // A frame of 8 bytes, of type 6, without flags, for stream 0.
                if let Some(at) = seen
                    .windows(9)
                    .position(|header| *header == *b"\0\0\x08\x06\0\0\0\0\0")
                {
                    let mut rest = [0; 8];
                    theirs.read_exact(&mut rest).await.unwrap();
                    assert_eq!(seen.len(), at + 9);
                    break rest;
                }
            };
            sleep(Duration::from_secs(3)).await;
            theirs.write_all(b"\0\0\x08\x06\x01\0\0\0\0").await.unwrap();
            theirs.write_all(&ping).await.unwrap();
            sleep(Duration::from_secs(3600)).await;
        });
        let round_trip = poll_fn(|cx| {
            assert!(connection.poll_closed(cx).is_pending());
            assert!(keep_alive.poll_dead(cx).is_pending());
            match keep_alive.take_round_trip() {
                Some(time) => Poll::Ready(time),
                None => Poll::Pending,
            }
        })
        .await;
        // The time is virtual.
        assert_eq!(round_trip.as_secs(), 3);
        assert!(!keep_alive.is_waiting());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_dead_after_interval_and_timeout() {
        let silent = |stream| async move {
            sleep(Duration::from_secs(3600)).await;
            drop(stream);
        };
        assert_eq!(seconds_until_dead(silent).await, 80);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_whose_answer_is_late_lives_while_it_sends_anything() {
        // It sends nothing before the PING, then WINDOW_UPDATEs, and never the answer.
        let late = |mut stream: DuplexStream| async move {
            sleep(Duration::from_secs(61)).await;
            for _ in 0..20 {
                let update = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01";
                stream.write_all(update).await.unwrap();
                sleep(Duration::from_secs(15)).await;
            }
            sleep(Duration::from_secs(3600)).await;
        };
        let seconds = seconds_until_dead(late).await;
        // The last byte comes after 346 s.
        assert!((366..=386).contains(&seconds), "{seconds}");
    }
}
