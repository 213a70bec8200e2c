//! CallerKey: whose calls count together.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use crate::{Peer, Transport, auth::Caller, middleware::ServerCall, net::os::User};

/// Whose calls count together, unless a limit says otherwise: what [`caller`] returns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallerKey(Identity);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    Caller(Arc<str>),
    #[cfg(feature = "_tls")]
    Certificate(String),
    User(User),
    Network(IpAddr),
    /// Of a peer of which nothing else is known.
    Address(Arc<str>),
}

/// Returns whose call this is, by what is known best.
///
/// 1. The name of the [`Caller`] that middleware has put beside the call. So add limits after the middleware that
///    authenticates.
/// 2. A name in the verified certificate: the SPIFFE id, else the first DNS name, the first URI, or the common name.
/// 3. The user of a peer by a Unix socket or a named pipe.
/// 4. The IP address without the port; of IPv6 the first 64 bits, because one machine has all addresses behind them.
/// 5. The name of the listener, for peers in memory and for streams of your own. They count as one caller.
///
/// Behind a proxy, steps 3 and 4 name the proxy, so all of its clients are one caller. Then authenticate the callers.
///
/// ```
/// use rpc_runtime::limit;
///
/// // Each caller may call each procedure 10 times a second.
/// let limit = limit::rate(10).by(|call| (limit::caller(call), call.procedure()));
/// # let _ = rpc_runtime::Server::builder().layer(limit);
/// ```
pub fn caller(call: &ServerCall) -> CallerKey {
    CallerKey(match call.get::<Caller>() {
        Some(caller) => Identity::Caller(caller.name().into()),
        None => of_peer(call.peer()),
    })
}

fn of_peer(peer: &Peer) -> Identity {
    #[cfg(feature = "_tls")]
    if let Some(name) = peer.certificate().and_then(certificate_name) {
        return Identity::Certificate(name.to_owned());
    }
    if let Some(user) = peer.user() {
        return Identity::User(user.clone());
    }
    if let Some(socket) = peer.socket_addr() {
        return Identity::Network(network(socket.ip()));
    }
    Identity::Address(match peer.transport() {
        // In a simulation, where hosts have names.
        Transport::Tcp | Transport::Tls => without_port(peer.address()).into(),
        _ => peer.address().into(),
    })
}

#[cfg(feature = "_tls")]
fn certificate_name(certificate: &crate::tls::PeerCertificate) -> Option<&str> {
    let first_name = || certificate.dns_names().iter().chain(certificate.uris()).next();
    let id = certificate.spiffe_id();
    id.or_else(|| first_name().map(String::as_str))
        .or_else(|| certificate.common_name())
}

/// The address that counts: of IPv6 the first 64 bits.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        ip => ip,
    }
}

fn without_port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::1"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:3::1"), "2001:db8:1:3::");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn the_port_never_counts() {
        assert_eq!(without_port("tcp://node:5005"), "tcp://node");
        assert_eq!(without_port("nowhere"), "nowhere");
    }
}
