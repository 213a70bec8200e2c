//! What a builder says of a client of several servers.

use std::sync::Arc;

use super::{ClientBuilder, place};
use crate::{
    Client, Code, Error,
    balance::{Balancer, LeastLoaded, Outliers},
    client::{
        channel::addresses::{AddressEntry, ConnectTarget},
        cluster::{Cluster, ClusterPlan},
        known_procedures::KnownProcedures,
    },
    discover::{DynResolver, Endpoint, Resolver, resolver_of},
};

/// What a builder says of a client of several servers.
#[derive(Clone, Default)]
pub(super) struct ClusterChoice {
    pub(super) resolver: Option<Arc<dyn DynResolver>>,
    balancer: Option<Arc<dyn Balancer>>,
    /// None for the default, and `Some(None)` for no ejections.
    outliers: Option<Option<Outliers>>,
    zone: Option<String>,
    scheme: Option<String>,
}

/// Clients of several servers.
impl<C> ClientBuilder<C> {
    /// Finds the servers by `resolver`, and [balances](crate::balance) the calls over them. The address then only names the service, in
    /// errors and logs.
    ///
    /// The client keeps [`connections`](Self::connections) to each endpoint. It picks one endpoint for each call, a one-way call included: so
    /// there is no order between one-way calls to different servers. A call that did not begin on its server, because the connection was
    /// lost, is tried on another one at once. A stream stays where it began.
    ///
    /// A server that the resolver has no more gets no new calls; those that it has go on. If the resolver fails, the last endpoints stay.
    ///
    /// ```
    /// use rpc_runtime::{Client, Error, discover::{Endpoint, Found, Resolver}};
    ///
    /// struct Three;
    ///
    /// impl Resolver for Three {
    ///     async fn follow(&self, found: &Found) -> Result<(), Error> {
    ///         found.set((1..=3).map(|number| Endpoint::new(format!("10.0.0.{number}:5005"))));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let client: Client = Client::builder("three:///kv").resolver(Three).connect_lazy();
    /// ```
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.cluster.resolver = Some(Arc::new(resolver));
        self
    }

    /// Sets how a client of several servers chooses one for each call. Default: [`LeastLoaded`].
    pub fn balancer(mut self, balancer: impl Balancer) -> Self {
        self.cluster.balancer = Some(Arc::new(balancer));
        self
    }

    /// Sets when a server that fails gets no calls for a while; `None` for never. Default: [`Outliers::default`].
    pub fn outliers(mut self, outliers: impl Into<Option<Outliers>>) -> Self {
        self.cluster.outliers = Some(outliers.into());
        self
    }

    /// Sets the zone of this client: servers in the same zone get its calls. Default: none, all servers are alike.
    ///
    /// While at least five of seven servers of the zone can take calls, they take all of them. With fewer, a part of the calls goes to other
    /// zones: with half of them three of ten calls, and with none all.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.cluster.zone = Some(zone.into());
        self
    }

    /// Sets the scheme of endpoints whose address has none, such as `10.0.0.7:5005`. Default: `tls` if the client has
    /// TLS set, and otherwise `tcp`.
    ///
    /// For servers of another [protocol](crate::protocol) it is that of the protocol: `grpc` or `grpcs`.
    pub fn endpoint_scheme(mut self, scheme: impl Into<String>) -> Self {
        self.cluster.scheme = Some(scheme.into());
        self
    }

    /// The resolver that the program has given, or the one of the address, if that is a target.
    ///
    /// # Errors
    ///
    /// The address is a target with a mistake.
    pub(super) fn resolver_to_follow(&mut self) -> Option<Result<Arc<dyn DynResolver>, Error>> {
        let given = self.cluster.resolver.take().map(Ok);
        // A connector takes any text as an address.
        let has_target = given.is_none() && self.connector.is_none();
        given.or_else(|| resolver_of(&self.places[0].address).filter(|_| has_target))
    }

    /// Makes a client that follows `resolver`.
    pub(super) fn cluster(mut self, resolver: Arc<dyn DynResolver>) -> Client
    where
        C: 'static,
    {
        let name = Arc::clone(&self.places[0].address);
        let choice = std::mem::take(&mut self.cluster);
        let scheme = choice.scheme.unwrap_or_else(|| self.security.scheme().to_owned());
        let has_fallback = self.places.len() > 1;
        let procedures = Arc::new(KnownProcedures::default());
        let (template, known) = (self.clone(), Arc::clone(&procedures));
        let make = move |endpoint: &Endpoint| {
            let mut one = template.clone();
            let address = match one.connector {
                Some(_) => endpoint.address().to_owned(),
                None => with_scheme(endpoint.address(), &scheme),
            };
            if let Some(name) = endpoint.server_name() {
                one.security = one.security.with_server_name(name);
            }
            one.places = vec![place(&address)];
            one.plain(Arc::clone(&known))
        };
        let error = match has_fallback {
            true => "a client that follows a resolver has no ClientBuilder::fallback: let the resolver find all addresses".to_owned(),
            false => format!("a client of {name} has several servers: choose one by Client::at, or all by Client::terminate_all"),
        };
        let error = Error::local(Code::FailedPrecondition, error);
        self.places = vec![AddressEntry::new(ConnectTarget::Bad(error), Arc::clone(&name))];
        self.connections = 1;
        let max_waiting = self.limits.max_waiting;
        let layers = std::mem::take(&mut self.layers);
        let front = self.plain(Arc::clone(&procedures));
        if has_fallback {
            return front;
        }
        let cluster = Cluster::new(ClusterPlan {
            name,
            resolver,
            balancer: choice.balancer.unwrap_or_else(|| Arc::new(LeastLoaded)),
            outliers: choice.outliers.unwrap_or_else(|| Some(Outliers::default())),
            zone: choice.zone,
            make: Box::new(make),
            procedures,
            front: Arc::clone(front.channel()),
            max_waiting,
        });
        front.with_cluster(cluster, layers)
    }
}

/// An address with a scheme: its own, or `scheme`.
fn with_scheme(address: &str, scheme: &str) -> String {
    let has_own = address.contains("://")
        || ["mem:", "unix:", "pipe:"]
            .iter()
            .any(|own| address.starts_with(own))
        || address
            .split_once(':')
            .is_some_and(|(own, _)| own.ends_with("+unix"));
    match has_own {
        true => address.to_owned(),
        false => format!("{scheme}://{address}"),
    }
}
