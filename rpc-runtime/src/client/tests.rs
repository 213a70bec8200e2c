//! A client, and a server that the test drives by hand, over memory and in virtual time.

mod borrowed;
mod doubts;
mod lost_sends;
mod reconnect;
mod resend;
mod states;
mod streams;
mod terminate;
mod time_spent;
mod traits;

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::timeout,
};

use super::Client;
use crate::{
    Code, Error, Limits, Procedure, Status,
    api::limits::SERVER_KEEP_ALIVE,
    conn::{Arrived, CallId, Connection, End, RefusalReason, Side, State, Unwanted},
    driver::{SharedConnection, drive},
    net::{Address, Listener, Stream},
    wire::frame::{Output, control::Reason},
};

static ECHO: Procedure = Procedure::new("hand.v1.Hand/rpc_echo", 11);

/// The server's end of a name.
struct Hand(Listener);

impl Hand {
    async fn new(name: &str) -> Self {
        Self(Listener::bind(&Address::parse(name).unwrap()).await.unwrap())
    }

    /// Accepts the next connection, says HELLO, and reads only the client's HELLO.
    async fn accept_deaf(&self) -> Stream {
        let (mut stream, _) = within(self.0.accept()).await.unwrap();
        let settings = crate::conn::Settings::new(
            &Limits::default(),
            SERVER_KEEP_ALIVE,
            Bytes::from_static(b"deaf"),
            fastrand::u32(..),
        );
        // The other side would wait for the client's HELLO.
        let mut conn = Connection::new(Side::Connector, settings);
        let mut hello = Output::new();
        conn.poll_transmit(&mut hello, usize::MAX, Duration::ZERO);
        within(stream.write_all_buf(&mut hello.split_to(hello.len())))
            .await
            .unwrap();
        let len = within(stream.read_u32()).await.unwrap();
        within(stream.read_exact(&mut vec![0; len as usize]))
            .await
            .unwrap();
        stream
    }

    /// Accepts the next connection, and completes its handshake.
    async fn accept(&self) -> Far {
        let far = self.accept_with(|_| {}).await;
        within(poll_fn(|cx| far.shared.with(|conn, _| conn.poll_ready(cx))))
            .await
            .unwrap();
        far
    }

    /// Accepts the next connection, and ends it before it has read anything.
    async fn turn_away(&self) -> Far {
        self.accept_with(Far::go).await
    }

    async fn accept_with(&self, first: impl FnOnce(&Far)) -> Far {
        self.accept_as(b"hand", b"", first).await
    }

    /// Accepts the next connection as the server `instance`, which asks for the answer to `challenge`.
    async fn accept_as(&self, instance: &[u8], challenge: &[u8], first: impl FnOnce(&Far)) -> Far {
        let (stream, _) = within(self.0.accept()).await.unwrap();
        let settings = crate::conn::Settings::new(
            &Limits::default(),
            SERVER_KEEP_ALIVE,
            Bytes::copy_from_slice(instance),
            fastrand::u32(..),
        );
        let max_frame = settings.max_frame;
        let challenge = Bytes::copy_from_slice(challenge);
        let shared = SharedConnection::new(Connection::with_challenge(Side::Acceptor, settings, challenge));
        let driver = tokio::spawn(drive(stream, Arc::clone(&shared), max_frame));
        let far = Far { shared, driver };
        first(&far);
        far
    }
}

/// The server's end of one connection.
struct Far {
    shared: Arc<SharedConnection>,
    driver: JoinHandle<()>,
}

impl Far {
    /// Waits for a request, and starts its handler.
    async fn request(&self) -> Arrived {
        let arrived = within(poll_fn(|cx| self.shared.with(|conn, _| conn.poll_request(cx)))).await;
        arrived.expect("no more can come")
    }

    async fn started(&self) -> CallId {
        let id = self.request().await.id;
        self.shared.with(|conn, now| conn.started(id, now)).unwrap();
        id
    }

    fn reply(&self, id: CallId) {
        self.shared.with(|conn, now| conn.reply(id, &Bytes::new(), now));
    }

    /// Replies to a number of calls.
    async fn serve(&self, calls: usize) {
        for _ in 0..calls {
            let id = self.started().await;
            self.reply(id);
        }
    }

    /// The handler has not begun.
    fn refuse(&self, id: CallId, code: Code) {
        let status = Status::new(code, "not today");
        let reason = RefusalReason::Rule;
        let end = End::Refused {
            status: &status,
            reason,
        };
        self.shared.with(|conn, now| conn.end(id, end, now));
    }

    /// The handler has failed.
    fn fail(&self, id: CallId, code: Code) {
        let status = Status::new(code, "no");
        self.shared
            .with(|conn, now| conn.end(id, End::Failed(&status), now));
    }

    /// Waits until a handler's answer is no longer wanted.
    async fn unwanted(&self, id: CallId) -> Unwanted {
        within(poll_fn(|cx| {
            self.shared.with(|conn, _| conn.poll_unwanted(id, cx))
        }))
        .await
    }

    /// Drains: takes no call above the last one that it has read, and closes when those are done.
    fn go(&self) {
        self.shared.with(|conn, now| {
            conn.begin_drain(Reason::Drain, "", Duration::from_secs(30), now);
            conn.abort_calls(now);
        });
    }

    /// Ends the process between two instructions.
    fn die(self) {
        self.driver.abort();
    }

    /// Counts the requests that have arrived and were not taken.
    fn is_over(&self) -> bool {
        self.shared
            .with(|conn, _| matches!(conn.state(), State::Closed(_)))
    }
}

/// A client that has had a reply on its first connection, and the other end of that connection.
async fn connected(hand: &Hand, name: &str) -> (Client, Far) {
    let client = Client::builder(name).timeout(LONG).connect_lazy();
    let first = call(&client);
    let far = hand.accept().await;
    far.serve(1).await;
    done(first).await.unwrap();
    (client, far)
}

type Pending = JoinHandle<Result<(), Error>>;

fn call(client: &Client) -> Pending {
    let client = client.clone();
    tokio::spawn(async move { client.call().send_recv(&ECHO, Bytes::from_static(b"x")).await })
}

async fn done(call: Pending) -> Result<(), Error> {
    within(call).await.unwrap()
}

/// The result of a future that must end. The clock jumps when no task has work.
async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG * 10, future).await.expect("it takes forever")
}

/// Lets all tasks do what they can do without the clock.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

const LONG: Duration = Duration::from_secs(60);
