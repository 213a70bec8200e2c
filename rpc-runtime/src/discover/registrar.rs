//! Registrar: tells a registry of a server, as long as it serves.

use std::{future::Future, sync::Arc};

use super::{Serving, work::Work};
use crate::Error;

/// Tells a registry of a server, as long as the server serves; [`ServerBuilder::register`](crate::server::ServerBuilder::register)
/// takes one.
///
/// This one has a registry of its own:
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use rpc_runtime::{Error, Server, discover::{Registrar, Serving}};
///
/// # struct Hello;
/// # impl rpc_runtime::server::Service for Hello {
/// #     fn name(&self) -> &'static str { "doc.v1.Hello" }
/// #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
/// #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
/// # }
/// #[derive(Clone, Default)]
/// struct Registry(Arc<Mutex<Vec<String>>>);
///
/// impl Registrar for Registry {
///     async fn register(&self, serving: &Serving) -> Result<(), Error> {
///         *self.0.lock().unwrap() = serving.addresses().to_vec(); // a request to the registry
///         serving.ending().await;
///         self.0.lock().unwrap().clear();
///         Ok(())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Error> {
/// let registry = Registry::default();
/// let server = Server::builder().service(Hello).listener("mem:registrar").register(registry.clone()).signals(false);
/// server.serve_with_shutdown(async {}).await?;
/// assert!(registry.0.lock().unwrap().is_empty());
/// # Ok(())
/// # }
/// ```
pub trait Registrar: Send + Sync + 'static {
    /// Looks at the addresses that the server listens on, before it serves. Default: takes all.
    ///
    /// # Errors
    ///
    /// Why the server cannot be registered with these addresses; [`ServerBuilder::bind`](crate::server::ServerBuilder::bind) then fails
    /// with it. A registry that is away is no reason.
    fn check(&self, addresses: &[String]) -> Result<(), Error> {
        let _ = addresses;
        Ok(())
    }

    /// Registers the server, keeps it registered until [`Serving::ending`] is ready, takes it out, and returns.
    ///
    /// The server calls it when it has begun to accept, and never before. When a drain is asked for, the server goes on as it is until this
    /// has returned, but at most for 2 s: then the future is dropped. So no caller is refused by a server that a registry still shows.
    ///
    /// # Errors
    ///
    /// Why the server is not registered now. The server logs it, and calls this again after a pause of 1 s, which doubles up to 30 s
    /// while it fails, with up to a fifth more or less. If this returns without an error before the end, it is called again in the same way.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the server is aborted. The registry should forget the server by itself then, by a lease, say.
    fn register(&self, serving: &Serving) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A registrar of any type.
pub(crate) trait DynRegistrar: Send + Sync {
    /// As [`Registrar::check`].
    fn check(&self, addresses: &[String]) -> Result<(), Error>;

    /// As [`Registrar::register`].
    fn register(self: Arc<Self>, serving: Arc<Serving>) -> Work;
}

impl<R: Registrar> DynRegistrar for R {
    fn check(&self, addresses: &[String]) -> Result<(), Error> {
        Registrar::check(self, addresses)
    }

    fn register(self: Arc<Self>, serving: Arc<Serving>) -> Work {
        Box::pin(async move { Registrar::register(&*self, &serving).await })
    }
}
