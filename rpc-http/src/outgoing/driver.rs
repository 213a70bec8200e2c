//! Driver: drives a connection and polls its calls.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use h2::client::SendRequest;
use rpc_runtime::protocol::ProtocolTask;
use tokio::sync::oneshot;

use super::{
    connection::{Http2, Shared},
    failure::end_of_connection,
    message_bytes::MessageBytes,
};
use crate::{keep_alive::KeepAlive, open_answers::OpenAnswers, task_waker::TaskWaker};

/// Drives a connection until it ends, and notes when it takes no more calls. It polls the calls that were handed over, and is ready when all
/// have ended.
///
/// So a call wakes no task of its own, neither when it is sent nor when its answer comes.
pub(super) struct Driver {
    /// None once it has ended.
    connection: Option<Http2>,
    /// Kept only to ask whether the connection takes calls. As long as there is one, the connection stays open.
    requests: Option<SendRequest<MessageBytes>>,
    keep_alive: Option<KeepAlive>,
    released: oneshot::Receiver<Infallible>,
    shared: Arc<Shared>,
    calls: OpenAnswers<()>,
    /// Calls that were taken over and not begun.
    taken: Vec<ProtocolTask>,
    /// What h2 wakes.
    waker: TaskWaker,
}

impl Driver {
    pub(super) fn new(
        connection: Http2,
        requests: SendRequest<MessageBytes>,
        keep_alive: Option<KeepAlive>,
        released: oneshot::Receiver<Infallible>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            connection: Some(connection),
            requests: Some(requests),
            keep_alive,
            released,
            shared,
            calls: OpenAnswers::new(),
            taken: Vec::new(),
            waker: TaskWaker::new(),
        }
    }

    /// Begins what was handed over, and lets the calls go on that can. Returns how many have ended.
    fn poll_calls(&mut self, cx: &mut Context<'_>) -> usize {
        if self.taken.is_empty() {
            self.shared.handed.take(&mut self.taken, cx);
        }
        for call in self.taken.drain(..) {
            self.calls.add_boxed(call);
        }
        let mut ended = 0;
        while self.calls.next_ended(cx).is_some() {
            ended += 1;
        }
        ended
    }

    /// Lets h2 write and read, if it has asked for it.
    fn poll_connection(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if !self.waker.is_woken() {
            return;
        }
        let mut cx = Context::from_waker(self.waker.looks());
        let ended = Pin::new(connection).poll(&mut cx);
        let refused = self
            .requests
            .as_mut()
            .map(|requests| requests.poll_ready(&mut cx));
        if let Some(Poll::Ready(Err(error))) = refused {
            self.shared.close(end_of_connection(&error));
            self.requests = None;
        }
        match ended {
            Poll::Ready(Ok(())) => self.end("the server closed the connection".to_owned()),
            Poll::Ready(Err(error)) => self.end(end_of_connection(&error)),
            Poll::Pending => {}
        }
    }

    /// Ends the connection if the server answers no PING. Returns whether it does.
    fn poll_keep_alive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(keep_alive) = self.keep_alive.as_mut().filter(|_| self.connection.is_some()) else {
            return false;
        };
        let is_needed = self.shared.has_calls() || keep_alive.is_waiting();
        let is_dead = is_needed && keep_alive.poll_dead(cx).is_ready();
        if is_dead {
            self.end("the server does not answer PINGs: Grpc::keep_alive_timeout".to_owned());
        }
        is_dead
    }

    /// Ends the connection, and with it its calls.
    fn end(&mut self, why: String) {
        // Before the connection is dropped, which ends its calls.
        self.shared.close(why);
        self.requests = None;
        self.connection = None;
        self.taken.extend(self.shared.handed.end());
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.waker.runs(cx);
        if this.requests.is_some() && Pin::new(&mut this.released).poll(cx).is_ready() {
            this.requests = None;
        }
        let mut ended = 0;
        for _ in 0..LOOKS {
            ended += this.poll_calls(cx);
            // Behind the calls, since it writes what they give it.
            this.poll_connection();
            // What h2 has read may be for open calls.
            if !this.taken.is_empty() || !this.calls.sleep(cx) || this.poll_keep_alive(cx) {
                continue;
            }
            if this.connection.is_none() && this.calls.is_empty() {
                return Poll::Ready(());
            }
            if this.connection.is_none() || this.waker.sleeps() {
                if ended > 1 {
                    // Their callers go on first, so that what they call next goes out in one write.
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
        // Other tasks have their turn, too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Nothing takes further calls.
impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.shared.handed.end());
    }
}

/// How often calls and connection have a turn before other tasks do.
const LOOKS: usize = 4;
