//! HandlerTask: a handler outside of the dispatcher, dropped as soon as its reply is no longer wanted.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{super::state::ServerState, Dispatched};
use crate::{conn::CallId, driver::Clock, session::Handler};

/// A handler with a task of its own. It runs until its end, or until its reply is no longer wanted.
///
/// The fields are dropped in this order: the place is free when the handler is gone, even if its drop panics.
pub(crate) struct HandlerTask {
    /// None once it has ended or was dropped.
    handler: Option<Handler>,
    /// The handler's place among the server's handler tasks, if it counts against the limit.
    _counted: Option<HandlerTaskPlace>,
    id: CallId,
    /// The route that learns how long the first poll took; none if the dispatcher has done that poll.
    measure: Option<usize>,
    session: Arc<Dispatched>,
}

impl HandlerTask {
    /// Makes a task of a handler that the dispatcher has polled once.
    pub(crate) fn polled(session: Arc<Dispatched>, id: CallId, handler: Handler, counted: bool) -> Self {
        Self::new(session, id, handler, None, counted)
    }

    /// Makes a task of a handler that has not been polled.
    pub(crate) fn unpolled(
        session: Arc<Dispatched>,
        id: CallId,
        handler: Handler,
        route: usize,
        counted: bool,
    ) -> Self {
        Self::new(session, id, handler, Some(route), counted)
    }

    fn new(
        session: Arc<Dispatched>,
        id: CallId,
        handler: Handler,
        measure: Option<usize>,
        counted: bool,
    ) -> Self {
        Self {
            handler: Some(handler),
            _counted: counted.then(|| HandlerTaskPlace::new(Arc::clone(session.state()))),
            id,
            measure,
            session,
        }
    }

    /// Ready when the answer is no longer wanted.
    pub(crate) fn poll_unwanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.session
            .with(Clock::Now, |conn, _| conn.poll_unwanted(self.id, cx))
            .map(drop)
    }

    fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_unwanted(cx).is_ready() || self.poll_handler(cx).is_ready() {
            self.handler = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn poll_handler(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(handler) = &mut self.handler else {
            return Poll::Ready(());
        };
        let Some(route) = self.measure.take() else {
            return handler.as_mut().poll(cx);
        };
        let begun = Instant::now();
        let poll = handler.as_mut().poll(cx);
        self.session
            .state()
            .router()
            .route(route)
            .note_poll(begun.elapsed());
        poll
    }
}

impl Future for HandlerTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let session = Arc::clone(&this.session);
        let _poll = session.stalls().poll_in_task();
        session.monitor();
        // A driver that this worker wakes would lie behind a handler that blocks, where no other worker can take it. It is
        // woken after the poll, or by the monitor if the poll lasts.
        let (poll, has_work) = session.with_driver_asleep(|| this.poll_wanted(cx));
        if has_work {
            session.shared().wake_driver_with_work();
        }
        poll
    }
}

/// A place among the handler tasks of a server.
struct HandlerTaskPlace(Arc<ServerState>);

impl HandlerTaskPlace {
    fn new(server: Arc<ServerState>) -> Self {
        server.count_handler_task();
        Self(server)
    }
}

impl Drop for HandlerTaskPlace {
    fn drop(&mut self) {
        self.0.uncount_handler_task();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use tokio::runtime::Handle;

    use crate::{
        Peer,
        conn::{Connection, Side},
        driver::SharedConnection,
        server::state::ServerOptions,
    };

    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    #[tokio::test]
    async fn a_handler_that_panics_when_its_runtime_ends_frees_its_place() {
        let options = ServerOptions {
            max_waiting_handlers: 1,
            ..ServerOptions::default()
        };
        let server = ServerState::of_nothing(options);
        let shared = SharedConnection::new(Connection::new(
            Side::Acceptor,
            Arc::clone(server.view().settings()),
        ));
        let session = Dispatched::register(&server, shared, Peer::in_process(), Handle::current()).unwrap();
        let guard = PanicsOnDrop;
        let handler: Handler = Box::pin(async move {
            let _guard = guard;
            std::future::pending().await
        });
        let task = HandlerTask::polled(session, CallId(1), handler, true);
        assert!(server.is_full(false));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err());
        assert!(!server.is_full(false));
    }
}
