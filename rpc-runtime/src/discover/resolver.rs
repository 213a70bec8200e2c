//! Resolver: finds the endpoints of a service, and follows their changes.

use std::{future::Future, sync::Arc};

use super::{Found, work::Work};
use crate::Error;

/// Finds the endpoints of a service, and follows their changes; [`ClientBuilder::resolver`](crate::client::ClientBuilder::resolver)
/// takes one.
///
/// This one asks a registry of its own every ten seconds:
///
/// ```
/// use std::time::Duration;
///
/// use rpc_runtime::{Client, Error, discover::{Endpoint, Found, Resolver}};
///
/// struct Registry(&'static str);
///
/// impl Registry {
///     async fn ask(&self) -> Result<Vec<String>, Error> {
///         Ok(vec![format!("tcp://{}.example.com:5005", self.0)]) // a request to the registry
///     }
/// }
///
/// impl Resolver for Registry {
///     async fn follow(&self, found: &Found) -> Result<(), Error> {
///         loop {
///             let addresses = self.ask().await?;
///             found.set(addresses.into_iter().map(Endpoint::new));
///             found.wait(Duration::from_secs(10)).await;
///         }
///     }
/// }
///
/// let client: Client = Client::builder("registry:///orders").resolver(Registry("orders")).connect_lazy();
/// ```
pub trait Resolver: Send + Sync + 'static {
    /// Tells `found` the endpoints, and each change of them, until it is dropped or fails.
    ///
    /// [`Found::set`] takes the whole set each time. An empty set is an answer, too: there are no servers now.
    ///
    /// If it returns, the last set stays. It is called again when the client asks for a refresh, because a server was lost; and after an
    /// error also after a pause of 1 s, which doubles up to 30 s while it fails, with up to a fifth more or less.
    ///
    /// # Errors
    ///
    /// Why the endpoints cannot be found now. Calls that find no server tell it.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the client is.
    fn follow(&self, found: &Found) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A resolver of any type.
pub(crate) trait DynResolver: Send + Sync {
    /// Follows the endpoints, as [`Resolver::follow`] does.
    fn follow(self: Arc<Self>, found: Arc<Found>) -> Work;
}

impl<R: Resolver> DynResolver for R {
    fn follow(self: Arc<Self>, found: Arc<Found>) -> Work {
        Box::pin(async move { Resolver::follow(&*self, &found).await })
    }
}
