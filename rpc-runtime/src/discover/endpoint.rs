//! Endpoint: one server of a service, as a resolver finds it.

use std::collections::BTreeMap;

/// One server of a service, as a [`Resolver`](super::Resolver) finds it: an address, a weight, a zone and metadata.
///
/// ```
/// use rpc_runtime::discover::Endpoint;
///
/// let endpoint = Endpoint::new("tcp://10.0.0.7:5005").with_weight(2).with_zone("eu-west-1a").with_metadata("version", "1.4");
/// assert_eq!((endpoint.address(), endpoint.weight(), endpoint.zone()), ("tcp://10.0.0.7:5005", 2, Some("eu-west-1a")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    address: String,
    weight: u32,
    zone: Option<String>,
    server_name: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl Endpoint {
    /// Makes an endpoint of an address, as clients write it: `tcp://10.0.0.7:5005`, say.
    ///
    /// An address without a scheme, such as `10.0.0.7:5005`, gets that of the client: `tcp://`, or `tls://` if the client has
    /// TLS, or what [`ClientBuilder::endpoint_scheme`](crate::client::ClientBuilder::endpoint_scheme) sets.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            weight: 1,
            zone: None,
            server_name: None,
            metadata: BTreeMap::new(),
        }
    }

    /// Sets how many calls the endpoint gets beside the others: one of weight 2 gets twice as many as one of weight 1. Default: 1.
    ///
    /// An endpoint of weight 0 gets none.
    #[must_use]
    pub fn with_weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// Sets the zone in which the endpoint stands. Default: none.
    #[must_use]
    pub fn with_zone(self, zone: impl Into<String>) -> Self {
        Self {
            zone: Some(zone.into()),
            ..self
        }
    }

    /// Sets the name for which the certificate of the server must be. Default: the host of the address.
    ///
    /// A resolver that finds IP addresses for a name sets that name. A name that the client sets itself, by
    /// `ClientTlsBuilder::server_name`, goes before it.
    #[must_use]
    pub fn with_server_name(self, name: impl Into<String>) -> Self {
        Self {
            server_name: Some(name.into()),
            ..self
        }
    }

    /// Adds an entry that describes the endpoint, in place of one of the same key. Default: none.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Returns the address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the weight.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Returns the zone, if it is known.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Returns the name for which its certificate must be; none for the host of the address.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Returns the entries that describe it.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}
