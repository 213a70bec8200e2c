//! BorrowingHandler: a handler that borrows its service and its context.

use std::future::Future;

use crate::{Context, Result};

/// A function from a service, a context and a request to the future of a handler, which may borrow the first two.
///
/// Generated code passes such functions to [`Incoming::handle_with`](super::Incoming::handle_with). The trait names the future, which no
/// bound on a function can: each lifetime has a future of its own.
pub trait BorrowingHandler<'a, S, Req, Rep>: Copy + Send + Sync + 'static {
    /// The future of the handler.
    type Future: Future<Output = Result<Rep>> + Send;

    /// Makes the future of the handler.
    fn make(self, service: &'a S, cx: &'a Context, request: Req) -> Self::Future;
}

impl<'a, S: 'a, Req, Rep, F, Fut> BorrowingHandler<'a, S, Req, Rep> for F
where
    F: Fn(&'a S, &'a Context, Req) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Rep>> + Send,
{
    type Future = Fut;

    #[inline]
    fn make(self, service: &'a S, cx: &'a Context, request: Req) -> Fut {
        self(service, cx, request)
    }
}
