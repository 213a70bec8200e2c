//! Layered: a service with middleware around its handlers.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
};

use super::{
    Handler, Incoming, ServerCall, Service,
    context::{HandlerScope, Serving},
};
use crate::{
    Procedure, Result, Status,
    layer::{AnswerFuture, Chain, DynMiddleware, Last, Middleware, Next},
};

/// A service with [middleware](crate::middleware) around its handlers.
///
/// It is served wherever a service is: by a server, by a client for callbacks, or in process for tests.
/// [`ServerBuilder::layer`](crate::server::ServerBuilder::layer) wraps all services of a server, outside of this.
///
/// ```
/// # struct Hello;
/// # impl rpc_runtime::server::Service for Hello {
/// #     fn name(&self) -> &'static str { "doc.v1.Hello" }
/// #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
/// #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
/// # }
/// use rpc_runtime::{Client, middleware::{self, Layered, ServerCall}};
///
/// struct User(&'static str);
///
/// // A test that is always logged in.
/// let service = Layered::new(Hello).layer(middleware::from_fn(async |mut call: ServerCall, next| {
///     call.insert(User("ada"));
///     next.run(call).await
/// }));
/// let client = Client::in_process(service);
/// ```
#[must_use = "a service does nothing until it is served"]
pub struct Layered {
    service: Arc<dyn Service>,
    layers: Vec<ServiceLayer>,
    /// For each procedure its middleware; none for a procedure without.
    chains: Vec<Option<Arc<Chain<ServerCall>>>>,
}

/// A middleware, and what it is for.
#[derive(Clone)]
pub(crate) struct ServiceLayer {
    /// The service or the procedure that it wraps; none: all.
    path: Option<String>,
    middleware: Arc<dyn DynMiddleware<ServerCall>>,
    /// True if it is a policy.
    is_policy: bool,
}

impl ServiceLayer {
    pub(crate) fn new(path: Option<String>, middleware: impl Middleware<ServerCall>) -> Self {
        Self {
            path,
            middleware: Arc::new(middleware),
            is_policy: false,
        }
    }

    /// Makes the layer of a policy: `guard` asks it.
    pub(crate) fn policy(guard: impl Middleware<ServerCall>) -> Self {
        Self {
            is_policy: true,
            ..Self::new(None, guard)
        }
    }

    /// True if it wraps calls of `terminate`, too.
    pub(crate) fn wraps_terminate(&self) -> bool {
        self.path().is_none() && (self.is_policy || self.middleware.wraps_terminate())
    }

    /// The service or the procedure that it wraps; none: all.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// True if it wraps calls of this procedure of this service.
    pub(crate) fn wraps(&self, service: &str, procedure: &Procedure) -> bool {
        self.path()
            .is_none_or(|path| path == service || procedure.is_at(path))
    }
}

impl Layered {
    /// Makes a service without middleware of `service`.
    pub fn new(service: impl Service) -> Self {
        Self::with_layers(Arc::new(service), Vec::new())
    }

    /// Adds middleware, inside of what was added before.
    pub fn layer(self, middleware: impl Middleware<ServerCall>) -> Self {
        self.add(ServiceLayer::new(None, middleware))
    }

    /// Adds a layer, inside of those that were added before.
    pub(crate) fn add(mut self, layer: ServiceLayer) -> Self {
        self.layers.push(layer);
        Self::with_layers(self.service, self.layers)
    }

    pub(crate) fn with_layers(service: Arc<dyn Service>, layers: Vec<ServiceLayer>) -> Self {
        let chain = |procedure: &Procedure| {
            let of_procedure = layers
                .iter()
                .filter(|layer| layer.wraps(service.name(), procedure));
            let of_procedure: Vec<_> = of_procedure.map(|layer| Arc::clone(&layer.middleware)).collect();
            (!of_procedure.is_empty()).then(|| {
                Arc::new(Chain {
                    layers: of_procedure,
                    last: Box::new(RunHandler(Arc::clone(&service))),
                })
            })
        };
        let chains = service.procedures().iter().map(chain).collect();
        Self {
            service,
            layers,
            chains,
        }
    }
}

impl Service for Layered {
    fn name(&self) -> &'static str {
        self.service.name()
    }

    fn procedures(&self) -> &'static [Procedure] {
        self.service.procedures()
    }

    fn descriptors(&self) -> &'static [u8] {
        self.service.descriptors()
    }

    fn served_with(&self, services: &[&dyn Service]) -> Result<()> {
        self.service.served_with(services)
    }

    fn before_drain(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        self.service.before_drain()
    }

    fn is_for_operators(&self) -> bool {
        self.service.is_for_operators()
    }

    fn has_policy(&self) -> bool {
        self.service.has_policy() || self.layers.iter().any(|layer| layer.is_policy)
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match self.chains.get(index) {
            Some(Some(chain)) => run(Arc::clone(chain), index, call),
            _ => self.service.call(index, call),
        }
    }
}

/// Makes the handler that runs a call through its middleware, and ends it.
// Not an async function, since that would move the call twice more.
fn run(chain: Arc<Chain<ServerCall>>, index: usize, call: Incoming) -> Handler {
    let (serving, procedure, trace) = (Serving::of(&call), call.procedure(), call.trace().cloned());
    let (slot, context, payload) = call.into_slot();
    let inherited = context.inherited();
    let call = ServerCall::new(context, payload, procedure, index, Arc::clone(&slot));
    let mut rest = Next::all(chain).runs(call);
    Box::pin(async move {
        let mut scope = HandlerScope::new(serving, inherited, trace);
        let decision = poll_fn(|cx| scope.poll(Pin::new(&mut rest), cx)).await;
        // After a panic it is still there.
        rest.give_up();
        slot.end(decision).await;
    })
}

/// Runs the handler of a call, behind all middleware.
struct RunHandler(Arc<dyn Service>);

impl Last<ServerCall> for RunHandler {
    fn run(&self, call: ServerCall) -> AnswerFuture<ServerCall> {
        let index = call.index();
        let (slot, incoming) = call.into_incoming();
        let handler = incoming.map(|incoming| self.0.call(index, incoming));
        Box::pin(async move {
            match handler {
                Some(handler) => handler.await,
                None => return Err(Status::internal("the handler of this call has run already")),
            }
            slot.take_end()
        })
    }
}

impl fmt::Debug for ServiceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceLayer")
            .field("path", &self.path)
            .field("is_policy", &self.is_policy)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered")
            .field("service", &self.service.name())
            .field("layers", &self.layers.len())
            .finish()
    }
}
