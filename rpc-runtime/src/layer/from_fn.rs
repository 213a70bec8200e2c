//! FromFn: middleware made of a function.

use std::{fmt, future::Future, marker::PhantomData};

use super::{Answer, AnyCall, Middleware, Next};

/// Makes [`Middleware`] of an async function or closure.
///
/// ```
/// use std::time::Instant;
///
/// use rpc_runtime::{Server, middleware::{self, ServerCall}};
///
/// let server = Server::builder().layer(middleware::from_fn(async |call: ServerCall, next| {
///     let (procedure, begun) = (call.procedure(), Instant::now());
///     let result = next.run(call).await;
///     println!("{procedure} took {:?}", begun.elapsed());
///     result
/// }));
/// ```
///
/// An async closure cannot lend what it captures to its future. Code with state implements [`Middleware`] for a type, or
/// clones the state for each call:
///
/// ```
/// use std::sync::Arc;
///
/// use rpc_runtime::{Status, middleware::{self, ServerCall}};
/// use tokio::sync::Semaphore;
///
/// let places = Arc::new(Semaphore::new(100));
/// let at_most_100 = middleware::from_fn(move |call: ServerCall, next| {
///     let places = Arc::clone(&places);
///     async move {
///         let Ok(_place) = places.try_acquire() else {
///             return Err(Status::resource_exhausted("100 calls run already"));
///         };
///         next.run(call).await
///     }
/// });
/// # let _ = rpc_runtime::Server::builder().layer(at_most_100);
/// ```
pub fn from_fn<C, F, Fut>(function: F) -> FromFn<C, F>
where
    C: AnyCall,
    F: Fn(C, Next<C>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, C::Error>> + Send,
{
    FromFn {
        function,
        wraps_terminate: false,
        call: PhantomData,
    }
}

/// Middleware made of a function: see [`from_fn`].
#[derive(Clone, Copy)]
#[must_use = "middleware does nothing until a builder gets it by `.layer(..)`"]
pub struct FromFn<C, F> {
    function: F,
    wraps_terminate: bool,
    call: PhantomData<fn(C)>,
}

impl<C, F> FromFn<C, F> {
    /// Makes it wrap `terminate`, too: see [`Middleware::wraps_terminate`].
    pub fn with_terminate(self) -> Self {
        Self {
            wraps_terminate: true,
            ..self
        }
    }
}

impl<C, F, Fut> Middleware<C> for FromFn<C, F>
where
    C: AnyCall,
    F: Fn(C, Next<C>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, C::Error>> + Send,
{
    fn handle(&self, call: C, next: Next<C>) -> impl Future<Output = Result<Answer, C::Error>> + Send {
        (self.function)(call, next)
    }

    fn wraps_terminate(&self) -> bool {
        self.wraps_terminate
    }
}

impl<C, F> fmt::Debug for FromFn<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}
