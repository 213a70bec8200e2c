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

#[cfg(test)]
mod tests {
    use std::{future::pending, io, sync::Mutex};

    use rpc_runtime::{
        Client,
        protocol::{Connecting, Protocol, ProtocolConnection as _, ProtocolStream},
        server::Transport,
    };
    use tokio::{
        io::{DuplexStream, duplex},
        sync::mpsc,
    };

    use super::*;
    use crate::outgoing::{Grpc, connection::Connection};

    /// A protocol that gives its stream away.
    #[derive(Debug)]
    struct GivesStream(mpsc::Sender<ProtocolStream>);

    impl Protocol for GivesStream {
        fn transport(&self, _: &str) -> Option<Transport> {
            Some(Transport::Tcp)
        }

        fn alpn(&self) -> &'static [u8] {
            b"h2"
        }

        fn connect(&self, stream: ProtocolStream) -> Connecting {
            self.0.try_send(stream).expect("it is the first one");
            Box::pin(pending())
        }
    }

    /// Makes a connection over a stream, whose other end is a server's.
    async fn connect(stream: DuplexStream, server: DuplexStream) -> (Connection, impl Send + 'static) {
        let (gives, mut given) = mpsc::channel(1);
        let stream = Mutex::new(Some(stream));
        let connecting = Client::builder("grpc://server:1")
            .protocol(GivesStream(gives))
            .connector(move |_| {
                let stream = stream.lock().unwrap().take();
                let stream = stream.ok_or_else(|| io::Error::other("there is one stream"));
                async move { stream }
            })
            .connect();
        let stream = tokio::select! {
            stream = given.recv() => stream.expect("it was given away"),
            _ = connecting => unreachable!("the protocol never connects"),
        };
        let mut served = None;
        let settings = Grpc::new().0;
        let opened = tokio::select! {
            opened = Connection::open(&settings, stream) => opened,
            () = async {
                let server = h2::server::handshake(server).await.unwrap();
                // It answers a PING.
                served.insert(server).accept().await;
            } => unreachable!("no call is made"),
        };
        (opened.unwrap(), served)
    }

    #[tokio::test]
    async fn a_call_that_is_handed_over_as_the_connection_ends_is_begun() {
        let (stream, server) = duplex(1 << 16);
        let (connection, server) = connect(stream, server).await;
        let driver = connection.take_driver().expect("there is one");
        let connection = Arc::new(connection);
        let (begins, begun) = oneshot::channel();
        let late = Box::pin(async { begins.send(()).unwrap() });
        let ends = {
            let connection = Arc::clone(&connection);
            Box::pin(async move {
                // Behind this call the driver looks at its connection, and no more at the calls that were handed over.
                assert!(connection.take_call(late).is_none());
                drop(server);
            })
        };
        assert!(connection.take_call(ends).is_none());
        driver.await;
        begun.await.expect("it has begun");
        assert!(
            connection.take_call(Box::pin(async {})).is_some(),
            "nothing takes calls"
        );
    }
}
