//! Tasks that look at their socket before they sleep.

use std::sync::Mutex;

use tokio::time::{advance, timeout};

use super::*;

/// A socket of whose input the runtime never hears: a read that does not ask for it finds nothing.
pub(super) struct Unheard {
    pub(super) inner: DuplexStream,
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

/// A connection whose task looks from the beginning.
struct Looking {
    shared: Arc<SharedConnection>,
    baton: Arc<Baton<Unheard>>,
    /// The other end of its socket.
    other: DuplexStream,
    /// How often its socket was asked.
    asked: Arc<Mutex<u32>>,
}

impl Looking {
    fn new(side: Side) -> Self {
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
        let baton = Baton::of(driver);
        Self {
            shared,
            baton,
            other,
            asked,
        }
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

fn round(baton: &Baton<Unheard>, after: After) -> Round {
    baton.round(&mut Context::from_waker(Waker::noop()), after)
}

#[tokio::test(start_paused = true)]
async fn a_client_finds_its_reply_although_the_runtime_does_not_hear_of_it() {
    let client = Looking::new(Side::Connector);
    let server = shared(Side::Acceptor);
    tokio::spawn(Drive::new(client.baton));
    tokio::spawn(drive(client.other, Arc::clone(&server), MAX_FRAME));
    tokio::spawn(echo(server));
    let message = Bytes::from_static(b"looked for");
    let called = timeout(Duration::from_secs(60), call(&client.shared, &message)).await;
    let reply = called.expect("the task has looked").unwrap();
    let echoed = <Bytes as prost::Message>::decode(reply.payload.into_bytes()).unwrap();
    assert_eq!(echoed, message);
}

#[tokio::test(start_paused = true)]
async fn a_server_finds_a_request_although_the_runtime_does_not_hear_of_it() {
    let server = Looking::new(Side::Acceptor);
    let client = shared(Side::Connector);
    tokio::spawn(drive(server.other, Arc::clone(&client), MAX_FRAME));
    tokio::spawn(Drive::new(server.baton));
    tokio::spawn(echo(server.shared));
    let called = timeout(Duration::from_secs(60), call(&client, &Bytes::new())).await;
    called.expect("the task has looked").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_looks_only_while_a_call_is_open() {
    let client = Looking::new(Side::Connector);
    assert_eq!(
        round(&client.baton, After::Wake),
        Round::Moved,
        "the HELLO goes out"
    );
    assert_eq!(round(&client.baton, After::Round), Round::Idle);
    assert_eq!(round(&client.baton, After::Wake), Round::Idle);
    assert_eq!(client.asked(), 0);
    start(&client.shared, &Bytes::new()).await.unwrap();
    assert_eq!(
        round(&client.baton, After::Wake),
        Round::Moved,
        "the call goes out"
    );
    assert_eq!(round(&client.baton, After::Round), Round::Idle);
    assert_eq!(round(&client.baton, After::Wake), Round::Idle);
    assert_eq!(client.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_while_a_task_looks_is_done_before_it_sleeps() {
    let client = Looking::new(Side::Connector);
    start(&client.shared, &Bytes::new()).await.unwrap();
    assert_eq!(round(&client.baton, After::Wake), Round::Moved);
    assert_eq!(round(&client.baton, After::Round), Round::Idle);
    assert_eq!(round(&client.baton, After::Wake), Round::Idle);
    assert_eq!(client.asked(), 1, "it looks");
    assert!(client.shared.with(|conn, _| conn.takes_calls()));
    advance(Limits::default().handshake_timeout + Duration::from_secs(1)).await;
    // The wake of the timer, which a look takes for its own.
    assert_ne!(round(&client.baton, After::Wake), Round::Idle);
    assert!(client.shared.with(|conn, _| !conn.takes_calls()));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_looks_takes_a_call_up_at_once() {
    let client = Looking::new(Side::Connector);
    start(&client.shared, &Bytes::new()).await.unwrap();
    assert_eq!(round(&client.baton, After::Wake), Round::Moved);
    assert_eq!(round(&client.baton, After::Round), Round::Idle);
    assert_eq!(round(&client.baton, After::Wake), Round::Idle);
    start(&client.shared, &Bytes::new()).await.unwrap();
    assert_eq!(
        round(&client.baton, After::Wake),
        Round::Moved,
        "the second call goes out"
    );
}
