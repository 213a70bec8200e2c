//! BridgePlan: which addresses of a client go to servers of another protocol, and what those cannot do.

use std::sync::Arc;

use super::{
    acceptor::{Bridge, BridgeSettings},
    channel::addresses::{AddressEntry, BridgedTarget, ConnectTarget},
    known_procedures::KnownProcedures,
};
use crate::{
    Code, Error, Limits,
    api::tls_protocol::TlsProtocol,
    net::{Address, ClientSecurity, Connector, Transport},
};

/// What the builder says of the client that is made.
pub(super) struct BridgePlan<'a> {
    pub(super) bridges: &'a [Arc<dyn Bridge>],
    pub(super) security: &'a ClientSecurity,
    pub(super) connector: Option<&'a Connector>,
    pub(super) limits: &'a Limits,
    /// What the client may call at such servers.
    pub(super) procedures: Arc<KnownProcedures>,
    /// What the builder was given that works with our own protocol only, and what to do instead.
    pub(super) misfit: Option<&'static str>,
}

impl BridgePlan<'_> {
    /// Gives each of `places` whose scheme belongs to a bridge to that. Returns the procedures that it may call, if there is one.
    pub(super) fn apply(&self, places: &mut [AddressEntry]) -> Option<Arc<KnownProcedures>> {
        let procedures = Arc::clone(&self.procedures);
        let mut is_bridged = false;
        for place in places {
            if let Some(target) = self.target(&place.address, &procedures) {
                place.target = target;
                is_bridged = true;
            } else if let (ConnectTarget::Bad(error), true) = (&mut place.target, self.speaks("grpc")) {
                if let Some(better) = Address::error_with_grpc(&place.address) {
                    *error = better;
                }
            }
        }
        is_bridged.then_some(procedures)
    }

    /// True if there is a bridge for addresses of `scheme`.
    fn speaks(&self, scheme: &str) -> bool {
        self.bridges.iter().any(|bridge| bridge.way(scheme).is_some())
    }

    fn target(&self, text: &Arc<str>, procedures: &Arc<KnownProcedures>) -> Option<ConnectTarget> {
        let (scheme, _) = text.split_once(':')?;
        let mut found = self.bridges.iter().map(|bridge| (bridge, bridge.way(scheme)));
        let (bridge, way) = found.find_map(|(bridge, way)| Some((bridge, way?)))?;
        if let Some(misfit) = self.misfit {
            let text = format!("a server at {text} speaks another protocol: {misfit}");
            return Some(ConnectTarget::Bad(Error::local(Code::FailedPrecondition, text)));
        }
        let way = match self.connector {
            Some(connector) => ConnectTarget::Custom(connector.clone(), Arc::clone(text)),
            None => {
                let without_tls = scheme_without_tls(&**bridge, scheme);
                match Address::parse_as(text, scheme, way.transport, without_tls) {
                    Ok(address) => {
                        let protocol = TlsProtocol {
                            alpn: way.alpn,
                            without_tls: without_tls.map(Arc::from),
                        };
                        ConnectTarget::Address(address, self.security.clone().speaking(protocol))
                    }
                    Err(error) => return Some(ConnectTarget::Bad(error)),
                }
            }
        };
        Some(ConnectTarget::Bridged(Arc::new(BridgedTarget {
            way,
            address: Arc::clone(text),
            bridge: Arc::clone(bridge),
            settings: BridgeSettings {
                limits: self.limits.clone(),
                procedures: Arc::clone(procedures),
            },
        })))
    }
}

/// The scheme for servers of the same protocol without TLS: `grpc` for `grpcs`, say.
fn scheme_without_tls<'a>(bridge: &dyn Bridge, scheme: &'a str) -> Option<&'a str> {
    let plain = scheme.strip_suffix('s')?;
    (bridge.way(plain)?.transport == Transport::Tcp).then_some(plain)
}

/// Why a client of a server that speaks another protocol cannot have services.
pub(super) const NO_CALLBACKS: &str =
    "it cannot call back, so the client can have no `.service(..)`: use a stream of replies instead";
/// Why it cannot have our compression.
pub(super) const NO_COMPRESSION: &str = "`.compression(..)` is for the protocol of this library: ask the other protocol for its own, such as `Grpc::gzip`";
/// Why a client cannot terminate if one of its addresses is of another protocol.
pub(super) const NO_TERMINATE: &str = "a client with an address of another protocol, given by .protocol(..), cannot terminate a server: make a client \
     without one, or stop the server in its own way";
/// Why such a client cannot ping.
pub(super) const NO_PING: &str = "a client with an address of another protocol, given by .protocol(..), cannot ping: make a client without one, or \
     call a procedure, such as that of grpc.health.v1.Health";
