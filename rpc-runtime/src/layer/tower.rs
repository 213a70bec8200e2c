//! Tower: layers of the crate tower as middleware.

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{Answer, AnswerFuture, AnyCall, Middleware, Next};
use crate::Status;

/// Makes [`Middleware`] of a tower [`Layer`], such as `tower::timeout::TimeoutLayer`.
///
/// The layer wraps [`Rest`], once; each call uses a clone of the service that it makes. Several layers are put together by
/// `tower::ServiceBuilder`. Layers that know HTTP, such as those of tower-http, do not fit: a call is no HTTP request. Nor
/// does a layer fit whose service cannot be cloned, such as tower's rate limit: put tower's buffer around it.
///
/// An error of the layer itself becomes UNAVAILABLE with its text; [`Tower::map_error`] chooses another status.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_runtime::{Server, Status, middleware::{self, ServerCall, Tower}};
/// use tower::{ServiceBuilder, load_shed::error::Overloaded};
///
/// let layer = ServiceBuilder::new().load_shed().concurrency_limit(100).timeout(Duration::from_secs(5)).into_inner();
/// let shed: Tower<ServerCall, _> = middleware::tower(layer);
/// let server = Server::builder().layer(shed.map_error(|error| match error.is::<Overloaded>() {
///     true => Status::resource_exhausted("100 calls run already"),
///     false => Status::deadline_exceeded("the handler took longer than 5 s"),
/// }));
/// ```
pub fn tower<C, L>(layer: L) -> Tower<C, L::Service>
where
    C: AnyCall,
    L: Layer<Rest<C>>,
{
    Tower {
        service: Mutex::new(layer.layer(Rest(PhantomData))),
        map_error: Arc::new(|error| Status::unavailable(format!("refused by a tower layer: {error}"))),
        call: PhantomData,
    }
}

/// A tower service as [`Middleware`]: see [`tower`].
#[must_use = "middleware does nothing until a builder gets it by `.layer(..)`"]
pub struct Tower<C, S> {
    service: Mutex<S>,
    map_error: Arc<MapError>,
    call: PhantomData<fn(C)>,
}

type LayerError = dyn StdError + Send + Sync;
type MapError = dyn Fn(&LayerError) -> Status + Send + Sync;

impl<C, S> Tower<C, S> {
    /// Sets what the caller gets for an error of the layer itself. Default: UNAVAILABLE, with the text of the error.
    pub fn map_error(mut self, map: impl Fn(&LayerError) -> Status + Send + Sync + 'static) -> Self {
        self.map_error = Arc::new(map);
        self
    }
}

impl<C, S> Middleware<C> for Tower<C, S>
where
    C: AnyCall,
    S: Service<TowerCall<C>, Response = Answer> + Clone + Send + 'static,
    S::Error: Into<Box<LayerError>>,
    S::Future: Send,
{
    fn handle(&self, call: C, next: Next<C>) -> impl Future<Output = Result<Answer, C::Error>> + Send {
        let mut service = self
            .service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let map_error = Arc::clone(&self.map_error);
        async move {
            let ready = poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into);
            let result = match ready {
                Ok(()) => service.call(TowerCall { call, next }).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            // The error of the call itself passes through most layers in a box.
            result.map_err(|error| match error.downcast::<C::Error>() {
                Ok(own) => *own,
                Err(foreign) => map_error(&*foreign).into(),
            })
        }
    }
}

impl<C, S> fmt::Debug for Tower<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tower").finish_non_exhaustive()
    }
}

/// The request of a tower service: a call, with the rest of its way.
#[derive(Debug)]
pub struct TowerCall<C: AnyCall> {
    call: C,
    next: Next<C>,
}

impl<C: AnyCall> TowerCall<C> {
    /// Returns the call.
    pub fn call(&self) -> &C {
        &self.call
    }

    /// Returns the call, to change it.
    pub fn call_mut(&mut self) -> &mut C {
        &mut self.call
    }
}

/// Where there is a clone of the call, as on a client, tower's retry works.
impl<C: AnyCall + Clone> Clone for TowerCall<C> {
    fn clone(&self) -> Self {
        Self {
            call: self.call.clone(),
            next: self.next.clone(),
        }
    }
}

/// The innermost tower service: it runs the rest of a call.
pub struct Rest<C>(PhantomData<fn(C)>);

impl<C: AnyCall> Service<TowerCall<C>> for Rest<C> {
    type Response = Answer;
    type Error = C::Error;
    type Future = AnswerFuture<C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: TowerCall<C>) -> AnswerFuture<C> {
        Box::pin(request.next.run(request.call))
    }
}

impl<C> Clone for Rest<C> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<C> fmt::Debug for Rest<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish()
    }
}
