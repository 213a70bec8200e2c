//! Tasks that look at their socket before they sleep.

use std::sync::Mutex;

use tokio::time::{advance, timeout};

use super::*;

/// A socket of whose input the runtime never hears: a read that does not ask for it finds nothing.
struct Unheard {
    inner: DuplexStream,
    asks: bool,
    /// How often it was asked.
    asked: Arc<Mutex<u32>>,
}

impl AsyncRead for Unheard {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.asks {
            return Poll::Pending;
        }
        *this.asked.lock().unwrap() += 1;
        Pin::new(&mut this.inner).poll_read(&mut Context::from_waker(Waker::noop()), buf)
    }
}

impl AsyncWrite for Unheard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl ByteStream for Unheard {
    fn is_buffering(&self) -> bool {
        false
    }

    fn is_socket(&self) -> bool {
        true
    }

    fn ask_socket(&mut self, asks: bool) {
        self.asks = asks;
    }
}

/// A connection whose task looks from the beginning, its other end, and how often its socket was asked.
fn looking(
    side: Side,
) -> (
    Arc<SharedConnection>,
    Arc<Baton<Unheard>>,
    DuplexStream,
    Arc<Mutex<u32>>,
) {
    let (inner, other) = duplex(64 * 1024);
    let asked = Arc::default();
    let stream = Unheard {
        inner,
        asks: false,
        asked: Arc::clone(&asked),
    };
    let shared = shared(side);
    let mut driver = Driver::new(stream, Arc::clone(&shared), MAX_FRAME, WRITE_LEN);
    driver.busy_poll = BusyPoll::eager(Time::from_micros(50));
    (shared, Baton::of(driver), other, asked)
}

fn round(baton: &Baton<Unheard>, after: After) -> Round {
    baton.round(&mut Context::from_waker(Waker::noop()), after)
}

#[tokio::test(start_paused = true)]
async fn a_client_finds_its_reply_although_the_runtime_does_not_hear_of_it() {
    let (client, baton, other, _) = looking(Side::Connector);
    let server = shared(Side::Acceptor);
    tokio::spawn(Drive::new(baton));
    tokio::spawn(drive(other, Arc::clone(&server), MAX_FRAME));
    tokio::spawn(echo(server));
    let message = Bytes::from_static(b"looked for");
    let called = timeout(Duration::from_secs(60), call(&client, &message)).await;
    let reply = called.expect("the task has looked").unwrap();
    let echoed = <Bytes as prost::Message>::decode(reply.payload.into_bytes()).unwrap();
    assert_eq!(echoed, message);
}

#[tokio::test(start_paused = true)]
async fn a_server_finds_a_request_although_the_runtime_does_not_hear_of_it() {
    let (server, baton, other, _) = looking(Side::Acceptor);
    let client = shared(Side::Connector);
    tokio::spawn(drive(other, Arc::clone(&client), MAX_FRAME));
    tokio::spawn(Drive::new(baton));
    tokio::spawn(echo(server));
    let called = timeout(Duration::from_secs(60), call(&client, &Bytes::new())).await;
    called.expect("the task has looked").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_looks_only_while_a_call_is_open() {
    let (client, baton, _other, asked) = looking(Side::Connector);
    assert_eq!(round(&baton, After::Wake), Round::Moved, "the HELLO goes out");
    assert_eq!(round(&baton, After::Round), Round::Idle);
    assert_eq!(round(&baton, After::Wake), Round::Idle);
    assert_eq!(*asked.lock().unwrap(), 0);
    start(&client, &Bytes::new()).await.unwrap();
    assert_eq!(round(&baton, After::Wake), Round::Moved, "the call goes out");
    assert_eq!(round(&baton, After::Round), Round::Idle);
    assert_eq!(round(&baton, After::Wake), Round::Idle);
    assert_eq!(*asked.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_while_a_task_looks_is_done_before_it_sleeps() {
    let (client, baton, _other, asked) = looking(Side::Connector);
    start(&client, &Bytes::new()).await.unwrap();
    assert_eq!(round(&baton, After::Wake), Round::Moved);
    assert_eq!(round(&baton, After::Round), Round::Idle);
    assert_eq!(round(&baton, After::Wake), Round::Idle);
    assert_eq!(*asked.lock().unwrap(), 1, "it looks");
    assert!(client.with(|conn, _| conn.takes_calls()));
    advance(Limits::default().handshake_timeout + Duration::from_secs(1)).await;
    // The wake of the timer, which a look takes for its own.
    assert_ne!(round(&baton, After::Wake), Round::Idle);
    assert!(client.with(|conn, _| !conn.takes_calls()));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_looks_takes_a_call_up_at_once() {
    let (client, baton, _other, _) = looking(Side::Connector);
    start(&client, &Bytes::new()).await.unwrap();
    assert_eq!(round(&baton, After::Wake), Round::Moved);
    assert_eq!(round(&baton, After::Round), Round::Idle);
    assert_eq!(round(&baton, After::Wake), Round::Idle);
    start(&client, &Bytes::new()).await.unwrap();
    assert_eq!(
        round(&baton, After::Wake),
        Round::Moved,
        "the second call goes out"
    );
}
