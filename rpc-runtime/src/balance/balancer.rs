//! Balancer: how a client chooses a server for each call.

use super::Backend;

/// How a client chooses a server for each call; [`ClientBuilder::balancer`](crate::client::ClientBuilder::balancer) takes one.
///
/// This one prefers servers whose metadata says that they have a newer version:
///
/// ```
/// use rpc_runtime::{Client, balance::{Backend, Balancer, Pick, Picker}};
///
/// #[derive(Debug)]
/// struct Newest;
///
/// impl Balancer for Newest {
///     fn picker(&self, backends: &[Backend]) -> Picker {
///         let version = |backend: &Backend| backend.endpoint().metadata().get("version").cloned();
///         let newest = (0..backends.len()).max_by_key(|index| version(&backends[*index])).unwrap_or(0);
///         Box::new(move |_: &Pick<'_>| newest)
///     }
/// }
///
/// let client: Client = Client::builder("dns:///kv.example.com:5005").balancer(Newest).connect_lazy();
/// ```
pub trait Balancer: Send + Sync + 'static {
    /// Makes what picks among `backends`, of which there is at least one. It is used until they change.
    ///
    /// Only backends that can take a call are among them. They change when one connects or is lost, when the resolver finds others, and
    /// when an outlier goes or comes back. What a balancer remembers beyond that stands in itself.
    fn picker(&self, backends: &[Backend]) -> Picker;
}

/// Picks the index of a backend for a call. It is called for each call, perhaps by several threads at once, and must not block.
///
/// An index behind the last one counts from the first one again. If it panics, the call fails with INTERNAL.
pub type Picker = Box<dyn Fn(&Pick<'_>) -> usize + Send + Sync>;

/// The call for which a backend is picked.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    pub(crate) procedure: &'a str,
    pub(crate) hash: Option<u64>,
}

impl Pick<'_> {
    /// Returns the path of the procedure: `package.Service/Name`.
    pub fn procedure(&self) -> &str {
        self.procedure
    }

    /// Returns the hash of the call's key, the same in each process; none if the call has no key.
    ///
    /// [`Call::hash_key`](crate::Call::hash_key) gives it one, or the option `hash_by` of the procedure in the .proto file.
    pub fn hash(&self) -> Option<u64> {
        self.hash
    }
}
