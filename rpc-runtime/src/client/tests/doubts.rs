//! Calls while a peer that missed a deadline is silent.

use std::{
    io,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::{Executed, client::ConnectionState, driver::ByteStream};

/// A process that can be stopped, as by SIGSTOP: its kernel accepts bytes, and it reads nothing.
#[derive(Clone, Default)]
struct Process(Arc<Mutex<(bool, Option<Waker>)>>);

impl Process {
    fn stop(&self) {
        self.0.lock().unwrap().0 = true;
    }

    fn go_on(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = false;
        state.1.take().into_iter().for_each(Waker::wake);
    }

    fn is_stopped(&self, cx: &Context<'_>) -> bool {
        let mut state = self.0.lock().unwrap();
        if state.0 {
            state.1 = Some(cx.waker().clone());
        }
        state.0
    }

    /// Accepts the next connection, and completes its handshake.
    async fn accept(&self, hand: &Hand) -> Far {
        let (stream, _) = within(hand.0.accept()).await.unwrap();
        let settings = crate::conn::Settings::new(
            &Limits::default(),
            SERVER_KEEP_ALIVE,
            Bytes::from_static(b"process"),
            fastrand::u32(..),
        );
        let max_frame = settings.max_frame;
        let shared = SharedConnection::new(Connection::new(Side::Acceptor, settings));
        let stream = Stoppable(stream, self.clone());
        let driver = tokio::spawn(drive(stream, Arc::clone(&shared), max_frame));
        let far = Far { shared, driver };
        within(poll_fn(|cx| far.shared.with(|conn, _| conn.poll_ready(cx))))
            .await
            .unwrap();
        far
    }
}

struct Stoppable(Stream, Process);

impl ByteStream for Stoppable {
    fn is_buffering(&self) -> bool {
        false
    }
}

impl AsyncRead for Stoppable {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.1.is_stopped(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut this.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stoppable {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// A client of two addresses that has had a reply from the first, and the process and the connection of that.
async fn connected_to_both(names: [&str; 2], first: &Hand) -> (Client, Process, Far) {
    let client = Client::builder(names[0])
        .fallback(names[1])
        .timeout(LONG)
        .connect_lazy();
    let process = Process::default();
    let pending = call(&client);
    let far = process.accept(first).await;
    far.serve(1).await;
    done(pending).await.unwrap();
    (client, process, far)
}

async fn misses_its_deadline(client: &Client) {
    let short = client.call().timeout(Duration::from_secs(5));
    let error = within(short.send_recv::<_, ()>(&ECHO, Bytes::new()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::DeadlineExceeded, Executed::Maybe),
        "{error}"
    );
}

/// True if a connection waits to be accepted.
fn has_arrived(hand: &Hand) -> bool {
    let mut accept = std::pin::pin!(hand.0.accept());
    accept
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

#[tokio::test(start_paused = true)]
async fn calls_go_by_another_address_while_a_peer_that_missed_a_deadline_is_silent() {
    let names = ["mem:doubts-silent-a", "mem:doubts-silent-b"];
    let (a, b) = (Hand::new(names[0]).await, Hand::new(names[1]).await);
    let (client, process, far) = connected_to_both(names, &a).await;
    // A call that is open when the doubt begins keeps its connection.
    let open = call(&client);
    let id = far.started().await;
    process.stop();
    misses_its_deadline(&client).await;
    let calls: Vec<_> = (0..10).map(|_| call(&client)).collect();
    let other = b.accept().await;
    other.serve(10).await;
    for call in calls {
        done(call).await.unwrap();
    }
    assert_eq!(client.state(), ConnectionState::Ready);
    process.go_on();
    far.reply(id);
    done(open).await.unwrap();
    // The client has left the first connection for good.
    let last = call(&client);
    other.serve(1).await;
    done(last).await.unwrap();
    settle().await;
    assert!(far.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_of_a_peer_that_answers_sends_no_call_elsewhere() {
    let names = ["mem:doubts-slow-a", "mem:doubts-slow-b"];
    let (a, b) = (Hand::new(names[0]).await, Hand::new(names[1]).await);
    let (client, _, far) = connected_to_both(names, &a).await;
    for _ in 0..3 {
        let handler = async { far.started().await };
        let ((), _) = tokio::join!(misses_its_deadline(&client), handler);
        let next = call(&client);
        far.serve(1).await;
        done(next).await.unwrap();
    }
    assert!(!has_arrived(&b));
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_that_answers_first_keeps_its_calls() {
    let names = ["mem:doubts-first-a", "mem:doubts-first-b"];
    let a = Hand::new(names[0]).await;
    let b = Hand::new(names[1]).await;
    let (client, process, far) = connected_to_both(names, &a).await;
    process.stop();
    misses_its_deadline(&client).await;
    let next = call(&client);
    // The server accepts the connection, and says nothing.
    let (mut mute, _) = within(b.0.accept()).await.unwrap();
    assert_eq!(client.state(), ConnectionState::Connecting);
    process.go_on();
    far.serve(1).await;
    done(next).await.unwrap();
    assert_eq!(client.state(), ConnectionState::Ready);
    // The other connection is dropped.
    within(mute.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(!has_arrived(&b));
}

#[tokio::test(start_paused = true)]
async fn when_no_other_address_answers_calls_stay_with_the_silent_one() {
    let names = ["mem:doubts-alone-a", "mem:doubts-alone-b"];
    let a = Hand::new(names[0]).await;
    let (client, process, far) = connected_to_both(names, &a).await;
    process.stop();
    misses_its_deadline(&client).await;
    let mut watch = client.watch_state();
    let next = call(&client);
    while watch.state() != ConnectionState::Ready {
        within(watch.changed()).await;
    }
    assert!(client.last_failure().is_none());
    process.go_on();
    far.serve(1).await;
    done(next).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_that_is_lost_leaves_the_attempt_to_the_others() {
    let names = ["mem:doubts-lost-a", "mem:doubts-lost-b"];
    let (a, b) = (Hand::new(names[0]).await, Hand::new(names[1]).await);
    let (client, process, far) = connected_to_both(names, &a).await;
    process.stop();
    misses_its_deadline(&client).await;
    let next = call(&client);
    let (stream, _) = within(b.0.accept()).await.unwrap();
    far.die();
    settle().await;
    assert_eq!(client.state(), ConnectionState::Connecting);
    // That attempt fails, and the first address is tried again.
    drop(stream);
    let back = Process::default().accept(&a).await;
    back.serve(1).await;
    done(next).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sends_of_a_connection_that_was_left_in_doubt_are_accounted_for() {
    let names = ["mem:doubts-sends-a", "mem:doubts-sends-b"];
    let (a, b) = (Hand::new(names[0]).await, Hand::new(names[1]).await);
    let (client, process, _far) = connected_to_both(names, &a).await;
    process.stop();
    within(client.call().send(&ECHO, Bytes::new())).await.unwrap();
    misses_its_deadline(&client).await;
    let next = call(&client);
    let other = b.accept().await;
    other.serve(1).await;
    done(next).await.unwrap();
    // In the end the silent peer counts as dead, and its send as lost.
    let error = within(client.barrier()).await.unwrap_err();
    let lost = error.lost_sends().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((lost.no(), lost.maybe()), (0, 1));
}
