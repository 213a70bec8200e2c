//! Addresses of one server that exclude each other, and errors that say so.

use std::{io, net::SocketAddr};

use crate::{
    Code, Error,
    net::{Address, os},
};

/// The error for an address that cannot be listened on, with what to do.
pub(super) fn refused(addresses: &[Address], index: usize, error: io::Error) -> Error {
    let address = &addresses[index];
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => &in_use(addresses, index),
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        io::ErrorKind::PermissionDenied => "; this user may not listen there",
        io::ErrorKind::NotFound => "; only the last folder of a path is made: make the others",
        io::ErrorKind::InvalidInput if matches!(address, Address::Local(_)) => "; choose a shorter path",
        _ => "",
    };
    Error::local(Code::Unavailable, format!("cannot listen on {address}{hint}")).with_source(error)
}

/// Says what has an address that is in use, and what to do.
fn in_use(addresses: &[Address], index: usize) -> String {
    let address = &addresses[index];
    let earlier = |overlap| {
        let mut earlier = addresses[..index].iter();
        earlier.find(|earlier| overlaps(earlier, address) == Some(overlap))
    };
    if let Some(earlier) = earlier(Overlap::Sure) {
        return format!("; this server already listens on {earlier}: remove one of the two");
    }
    if let Some(earlier) = earlier(Overlap::Perhaps) {
        return format!(
            "; another server listens there, or this server itself by {earlier}: stop the other server, or remove one of \
             the two addresses"
        );
    }
    if let Address::Local(_) = address {
        let text = match os::HAS_PIPES {
            true => "; a pipe of that name is in use: stop its owner, or choose another name",
            false => "; a socket there is in use: stop its owner, or choose another path",
        };
        return text.to_owned();
    }
    if is_any_v6(address) {
        return "; another server has that port, perhaps only for IPv4, which [::] includes: stop that server, or \
                choose another port"
            .to_owned();
    }
    "; another server listens there: stop it, or choose another address".to_owned()
}

/// How surely two addresses of one server exclude each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overlap {
    Sure,
    /// One of them is a host name, which may mean any address.
    Perhaps,
}

fn overlaps(one: &Address, other: &Address) -> Option<Overlap> {
    if one == other {
        return Some(Overlap::Sure);
    }
    if port(one)? != port(other)? || port(one) == Some(0) {
        return None;
    }
    let (Some(one), Some(other)) = (literal(one), literal(other)) else {
        return Some(Overlap::Perhaps);
    };
    let (one, other) = (one.ip(), other.ip());
    let is_same = one == other || one.is_unspecified() || other.is_unspecified();
    (is_same && one.is_ipv4() == other.is_ipv4()).then_some(Overlap::Sure)
}

fn port(address: &Address) -> Option<u16> {
    let (Address::Tcp(host) | Address::Tls(host)) = address else {
        return None;
    };
    host.rsplit_once(':')?.1.parse().ok()
}

/// The socket address in a TCP or TLS address; `None` for a host name.
fn literal(address: &Address) -> Option<SocketAddr> {
    match address {
        Address::Tcp(host) | Address::Tls(host) => host.parse().ok(),
        _ => None,
    }
}

fn is_any_v6(address: &Address) -> bool {
    literal(address).is_some_and(|address| address.is_ipv6() && address.ip().is_unspecified())
}

/// True if the address at `index` must not include IPv4.
///
/// That is `[::]` if the server listens on the same port for IPv4 too.
pub(super) fn is_apart(addresses: &[Address], index: usize) -> bool {
    let address = &addresses[index];
    let mut others = addresses.iter().filter_map(literal);
    is_any_v6(address) && others.any(|other| other.is_ipv4() && Some(other.port()) == port(address))
}
