//! StreamSlot: between the middleware of a call with streams and the caller's halves of it.

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use super::{reopen::Reopen, stream_call::StreamCall};
use crate::{Error, Result, layer::Answer};

/// Where the innermost part of a call with streams leaves the open call for the caller, and the caller leaves how it ended.
#[derive(Default)]
pub(super) struct StreamSlot(Mutex<Content>);

#[derive(Default)]
struct Content {
    /// True once the call was open: it is opened only once.
    is_open: bool,
    opened: Option<Opened>,
    /// True once the caller has read how the call ended.
    is_over: bool,
    end: Option<Result<Answer, Error>>,
    waker: Option<Waker>,
}

/// A call that is open on a connection.
pub(super) struct Opened {
    pub(super) call: StreamCall,
    /// Opens it again after a failure, if it may be.
    pub(super) reopen: Option<Reopen>,
}

impl StreamSlot {
    /// True once the call was open.
    pub(super) fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// True while the caller reads.
    pub(super) fn is_read(&self) -> bool {
        let content = self.lock();
        content.is_open && !content.is_over
    }

    /// Leaves the open call for the caller.
    pub(super) fn open(&self, opened: Opened) {
        let mut content = self.lock();
        content.is_open = true;
        content.opened = Some(opened);
    }

    /// Takes the open call.
    pub(super) fn take_opened(&self) -> Option<Opened> {
        self.lock().opened.take()
    }

    /// Leaves how the call ended.
    pub(super) fn end(&self, end: Result<Answer, Error>) {
        let mut content = self.lock();
        content.end = Some(end);
        content.is_over = true;
        let waker = content.waker.take();
        drop(content);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until the caller has read how the call ended.
    pub(super) async fn ended(&self) -> Result<Answer, Error> {
        poll_fn(|cx| {
            let mut content = self.lock();
            match content.end.take() {
                Some(end) => Poll::Ready(end),
                None => {
                    content.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
