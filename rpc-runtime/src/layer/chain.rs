//! Chain: the middleware of a call in its order, and what comes behind it.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{Answer, AnyCall, CallError, Tries};

/// Code that wraps calls: it decides whether and how a call goes on, and sees how it ended.
///
/// One trait serves both sides and every shape of call: with one request or a stream, with one reply, a stream or none.
/// `C` is [`ServerCall`](crate::middleware::ServerCall) for a server, or [`ClientCall`](crate::middleware::ClientCall) for a
/// client. [`from_fn`](crate::middleware::from_fn) makes one of a function.
///
/// ```
/// use rpc_runtime::{Result, Status, middleware::{Answer, Middleware, Next, ServerCall}};
///
/// struct Tokens(Vec<String>);
///
/// impl Middleware<ServerCall> for Tokens {
///     async fn handle(&self, call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
///         let token = call.metadata().get_str("x-token").unwrap_or_default();
///         if !self.0.iter().any(|known| known == token) {
///             return Err(Status::unauthenticated("send x-token"));
///         }
///         next.run(call).await
///     }
/// }
/// ```
///
/// # Errors
///
/// An error that is returned without [`Next::run`] refuses the call: its caller gets it with
/// [`Executed::No`](crate::Executed::No).
///
/// # Cancel safety
///
/// When a call is no longer wanted, because it is cancelled or its deadline has passed, the future of
/// [`Middleware::handle`] is dropped at its next await, and with it the rest of the call. A panic in it counts as a panic
/// of the handler.
pub trait Middleware<C: AnyCall>: Send + Sync + 'static {
    /// Wraps `call`: `next` runs the rest of it.
    fn handle(&self, call: C, next: Next<C>) -> impl Future<Output = Result<Answer, C::Error>> + Send;

    /// Returns true if this also wraps calls of `terminate` to a server that has a policy. Default: false.
    ///
    /// It is for middleware that finds out who calls, so that the [`Policy`](crate::auth::Policy) knows it. Such middleware must
    /// answer quickly: a server must end when it is told to. It counts only for middleware of the whole server, added by
    /// [`ServerBuilder::layer`](crate::server::ServerBuilder::layer).
    fn wraps_terminate(&self) -> bool {
        false
    }
}

/// A middleware of any type.
pub(crate) trait DynMiddleware<C: AnyCall>: Send + Sync {
    /// Wraps `call`, as [`Middleware::handle`] does.
    fn handle(self: Arc<Self>, call: C, next: Next<C>) -> AnswerFuture<C>;

    /// As [`Middleware::wraps_terminate`].
    fn wraps_terminate(&self) -> bool;
}

impl<C: AnyCall, M: Middleware<C>> DynMiddleware<C> for M {
    fn handle(self: Arc<Self>, call: C, next: Next<C>) -> AnswerFuture<C> {
        Box::pin(async move { Middleware::handle(&*self, call, next).await })
    }

    fn wraps_terminate(&self) -> bool {
        Middleware::wraps_terminate(self)
    }
}

/// What stands behind the last middleware: the handler on a server, the connection on a client.
pub(crate) trait Last<C: AnyCall>: Send + Sync {
    /// Runs `call` to its end.
    fn run(&self, call: C) -> AnswerFuture<C>;
}

/// The rest of a call, in a box.
pub(crate) type AnswerFuture<C> = Pin<Box<dyn Future<Output = Result<Answer, <C as AnyCall>::Error>> + Send>>;

/// The middleware of a call, the outermost first, and what stands behind it.
pub(crate) struct Chain<C: AnyCall> {
    pub(crate) layers: Vec<Arc<dyn DynMiddleware<C>>>,
    pub(crate) last: Box<dyn Last<C>>,
}

/// The rest of a call: the middleware that was added later, and then the handler or the server.
///
/// On a client it may be cloned to run a clone of the call again.
pub struct Next<C: AnyCall> {
    chain: Arc<Chain<C>>,
    /// Which middleware comes next.
    at: usize,
}

impl<C: AnyCall> Next<C> {
    /// All of the chain.
    pub(crate) fn all(chain: Arc<Chain<C>>) -> Self {
        Self { chain, at: 0 }
    }

    /// Runs the rest of `call` and returns how it ended.
    ///
    /// A call with streams ends with its streams: on a client, when the caller has read the last message.
    ///
    /// # Errors
    ///
    /// How the rest of the call failed. On a server also UNKNOWN if its handler panicked. On a client it never says
    /// [`Executed::No`](crate::Executed::No) if a try within may have run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handler, or on a client cancels the call.
    pub fn run(self, call: C) -> impl Future<Output = Result<Answer, C::Error>> + Send {
        self.runs(call)
    }

    /// As [`Next::run`], with a type that has a name.
    pub(crate) fn runs(self, call: C) -> Running<C> {
        Running {
            stage: RunStage::New(self, call),
            before: None,
        }
    }

    /// Makes the future of the rest.
    fn start(mut self, call: C) -> AnswerFuture<C> {
        match self.chain.layers.get(self.at) {
            Some(layer) => {
                let layer = Arc::clone(layer);
                self.at += 1;
                layer.handle(call, self)
            }
            None => self.chain.last.run(call),
        }
    }
}

/// The rest of a call that runs, or is about to.
// Written by hand, because an `async fn` would hold the call twice, and move it once more.
pub(crate) struct Running<C: AnyCall> {
    stage: RunStage<C>,
    /// The tries of the call, and their number before it ran; none on a server.
    before: Option<(Arc<Tries>, usize)>,
}

enum RunStage<C: AnyCall> {
    New(Next<C>, C),
    Begun(AnswerFuture<C>),
    Over,
}

impl<C: AnyCall> Running<C> {
    /// Drops the rest of the call. It must not be polled again.
    pub(crate) fn give_up(&mut self) {
        self.stage = RunStage::Over;
    }
}

/// Nothing in it is ever pinned.
impl<C: AnyCall> Unpin for Running<C> {}

impl<C: AnyCall> Future for Running<C> {
    type Output = Result<Answer, C::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !matches!(this.stage, RunStage::Begun(_)) {
            let RunStage::New(next, call) = mem::replace(&mut this.stage, RunStage::Over) else {
                panic!("polled after its end");
            };
            this.before = call.tries().map(|tries| (Arc::clone(tries), tries.count()));
            this.stage = RunStage::Begun(next.start(call));
        }
        let RunStage::Begun(rest) = &mut this.stage else {
            unreachable!("it has just begun")
        };
        let result = ready!(rest.as_mut().poll(cx));
        this.stage = RunStage::Over;
        Poll::Ready(result.map_err(|error| match &this.before {
            // Middleware within may have given up a try that runs.
            Some((tries, before)) if tries.count() > *before => error.doubted(),
            _ => error,
        }))
    }
}

impl<C: AnyCall> Clone for Next<C> {
    fn clone(&self) -> Self {
        Self {
            chain: Arc::clone(&self.chain),
            at: self.at,
        }
    }
}

impl<C: AnyCall> fmt::Debug for Next<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next")
            .field("middleware_left", &(self.chain.layers.len() - self.at))
            .finish()
    }
}
