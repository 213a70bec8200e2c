//! HandlerTask: a handler outside of the dispatcher, dropped as soon as its reply is no longer wanted.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{super::state::ServerState, Dispatched};
use crate::{base::panic::Panic, conn::CallId, driver::Clock, session::Handler};

/// A handler with a task of its own. It runs until its end, or until its reply is no longer wanted.
///
/// The place is free when the handler is gone, even if its drop panics.
pub(crate) struct HandlerTask {
    /// None once it has ended or was dropped.
    handler: Option<Handler>,
    /// The handler's place among the server's handler tasks, if it counts against the limit.
    _counted: Option<HandlerTaskPlace>,
    id: CallId,
    /// True if the handler may block its thread.
    may_block: bool,
    /// The route of its call.
    route: usize,
    /// True if the route is still to learn how long the first poll takes.
    measure: bool,
    session: Arc<Dispatched>,
}

impl HandlerTask {
    /// Makes a task of a handler that has not been polled, whose route is to learn how long that takes.
    pub(crate) fn unpolled(
        session: Arc<Dispatched>,
        id: CallId,
        handler: Handler,
        route: usize,
        counted: bool,
    ) -> Self {
        let mut task = Self::new(session, id, handler, route, counted);
        task.measure = true;
        task
    }

    /// Makes a task of a handler.
    pub(crate) fn new(
        session: Arc<Dispatched>,
        id: CallId,
        handler: Handler,
        route: usize,
        counted: bool,
    ) -> Self {
        Self {
            handler: Some(handler),
            _counted: counted.then(|| HandlerTaskPlace::new(Arc::clone(session.state()))),
            id,
            may_block: false,
            route,
            measure: false,
            session,
        }
    }

    /// Lets the handler block its thread, which is not one that drives tasks.
    pub(crate) fn may_block(mut self) -> Self {
        self.may_block = true;
        self
    }

    /// Ready when the answer is no longer wanted.
    pub(crate) fn poll_unwanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.session
            .with(Clock::Now, |conn, _| conn.poll_unwanted(self.id, cx))
            .map(drop)
    }

    fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_over = self.poll_unwanted(cx).is_ready() || {
            // The call's own guard answers after a panic, as for a first poll.
            let poll = Panic::catch(|| self.poll_handler(cx));
            poll.unwrap_or(Poll::Ready(())).is_ready()
        };
        if !is_over {
            return Poll::Pending;
        }
        drop_handler(self.handler.take());
        Poll::Ready(())
    }

    fn poll_handler(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(handler) = &mut self.handler else {
            return Poll::Ready(());
        };
        if !mem::take(&mut self.measure) {
            return handler.as_mut().poll(cx);
        }
        let begun = Instant::now();
        let poll = handler.as_mut().poll(cx);
        self.session
            .state()
            .router()
            .route(self.route)
            .note_poll(begun.elapsed());
        poll
    }
}

impl Future for HandlerTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let session = Arc::clone(&this.session);
        let _poll = session
            .stalls()
            .poll_in_task((!this.may_block).then_some((this.id, this.route)));
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

impl Drop for HandlerTask {
    fn drop(&mut self) {
        drop_handler(self.handler.take());
    }
}

/// Drops a handler. If that panics, its call ends by that, and nothing else does.
pub(super) fn drop_handler(handler: Option<Handler>) {
    let _ = Panic::catch(|| drop(handler));
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
    use std::panic::panic_any;

    use super::*;
    use tokio::runtime::Handle;

    use crate::{
        Peer,
        conn::{Connection, Side},
        driver::SharedConnection,
        server::state::ServerOptions,
    };

    /// Panics when it is dropped, with another one that does so one time less.
    struct Bomb(u8);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Self(self.0 - 1));
            }
        }
    }

    /// A server with a place for one handler, and the task of a handler that panics when it is dropped, again and again.
    fn task_of_a_bomb() -> (Arc<ServerState>, HandlerTask) {
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
        let guard = Bomb(3);
        let handler: Handler = Box::pin(async move {
            let _guard = guard;
            std::future::pending().await
        });
        (server, HandlerTask::new(session, CallId(1), handler, 0, true))
    }

    #[tokio::test]
    async fn a_handler_that_panics_when_its_runtime_ends_frees_its_place() {
        let (server, task) = task_of_a_bomb();
        assert!(server.is_full(false));
        drop(task);
        assert!(!server.is_full(false));
    }

    #[tokio::test]
    async fn a_handler_that_panics_when_it_is_no_longer_wanted_ends_its_task_alone() {
        let (server, mut task) = task_of_a_bomb();
        // The connection knows no such call, so nobody wants its reply.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut task).poll(&mut cx).is_ready());
        drop(task);
        assert!(!server.is_full(false));
    }
}
