//! HandlerTask: a handler outside of the dispatcher, dropped as soon as nobody wants its answer.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use super::{Served, watch};
use crate::{conn::CallId, service::Handler};

/// A handler that has a task of its own: it runs until its end, or until its answer is no longer wanted.
pub(super) struct HandlerTask {
    served: Arc<Served>,
    id: CallId,
    /// None once it has ended or was dropped.
    handler: Option<Handler>,
    /// The route to tell how long the first poll took; none if the dispatcher has done that poll.
    measure: Option<usize>,
    /// Whether it counts against the server's limit.
    counted: bool,
}

impl HandlerTask {
    /// The rest of a handler that the dispatcher has polled once.
    pub(super) fn polled(served: Arc<Served>, id: CallId, handler: Handler, counted: bool) -> Self {
        Self::new(served, id, handler, None, counted)
    }

    /// A handler that has not been polled.
    pub(super) fn unpolled(
        served: Arc<Served>,
        id: CallId,
        handler: Handler,
        route: usize,
        counted: bool,
    ) -> Self {
        Self::new(served, id, handler, Some(route), counted)
    }

    fn new(served: Arc<Served>, id: CallId, handler: Handler, measure: Option<usize>, counted: bool) -> Self {
        if counted {
            served.server().count_call();
        }
        Self {
            served,
            id,
            handler: Some(handler),
            measure,
            counted,
        }
    }

    fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let unwanted = self
            .served
            .with(|conn, _| conn.poll_unwanted(self.id, cx))
            .is_ready();
        if unwanted || self.poll_handler(cx).is_ready() {
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
        self.served
            .server()
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
        let served = Arc::clone(&this.served);
        let _poll = served.watch().poll_in_task();
        if served.watch().is_unlisted() {
            watch::list(&served);
        }
        // A driver that this worker wakes sits where no other worker can take it, behind a handler that blocks. It is
        // woken after the poll, or by the monitor if that takes long.
        let (poll, work) = served.with_driver_asleep(|| this.poll_wanted(cx));
        if work {
            served.link().wake_driver();
        }
        poll
    }
}

impl Drop for HandlerTask {
    fn drop(&mut self) {
        // The slot is free when the handler is gone.
        self.handler = None;
        if self.counted {
            self.served.server().uncount_call();
        }
    }
}
