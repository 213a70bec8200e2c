//! Sockets: those that the process was given when it started.

use std::env;

use listenfd::ListenFd;
use rpc_runtime::{
    Error, Status,
    server::{Endpoint, ListeningSocket},
};

use crate::names::Name;

/// The listening sockets that the process was given when it started: by systemd, or by the process before this one.
///
/// [`Sockets::endpoints`] makes of an address what a server listens by:
///
/// | address | sockets |
/// |---|---|
/// | `fd:NAME` | those of systemd with this name: `FileDescriptorName=` of the socket unit, or else the name of that unit, `kv.socket` |
/// | `fd+tls:NAME` | the same, with TLS |
/// | another one | those that the process before this one has handed over for just this address; without one, the server binds it |
///
/// Sockets that no endpoint was made of are closed when this is dropped, and logged.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(Name, ListeningSocket)>);

impl Sockets {
    /// Takes the sockets. Without any it is empty.
    ///
    /// Call it once, at the beginning of `main`: it changes the environment, so that further processes do not take the same sockets. That is safe
    /// only while there are no other threads.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT if what was given is neither a TCP nor a Unix socket for streams.
    pub fn take() -> Result<Self, Error> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut given = ListenFd::from_env();
        let names = Name::read(&names, given.len());
        let sockets = names.into_iter().enumerate().map(|(index, name)| {
            let socket = match take_one(&mut given, index)? {
                socket if matches!(name, Name::Unit(_)) => socket.kept_elsewhere(),
                socket => socket,
            };
            Ok((name, socket))
        });
        sockets.collect::<Result<_, Error>>().map(Self)
    }

    /// Returns true if there are no sockets, or endpoints were made of all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes what a server listens by at `address`: see [`Sockets`].
    ///
    /// There is one endpoint for each socket of systemd, since a unit may listen at several addresses. For other addresses there is one.
    ///
    /// # Errors
    ///
    /// NOT_FOUND if no socket has the name; it lists the names that there are.
    pub fn endpoints(&mut self, address: &str) -> Result<Vec<Endpoint>, Error> {
        if let Some(name) = address.strip_prefix("fd:") {
            return self.of_unit(name, "tcp://");
        }
        if let Some(name) = address.strip_prefix("fd+tls:") {
            return self.of_unit(name, "tls://");
        }
        let wanted = Name::Address(address.to_owned());
        let sockets = self.take_named(&wanted);
        Ok(vec![match sockets.is_empty() {
            true => Endpoint::new(address),
            false => Endpoint::sockets(address, sockets),
        }])
    }

    /// Makes endpoints of the sockets of systemd with this name; those of TCP have the scheme `tcp`.
    fn of_unit(&mut self, name: &str, tcp: &str) -> Result<Vec<Endpoint>, Error> {
        let sockets = self.take_named(&Name::Unit(name.to_owned()));
        if sockets.is_empty() {
            return Err(self.missing(name));
        }
        let endpoints = sockets.into_iter().map(|socket| {
            let address = socket.address().replacen("tcp://", tcp, 1);
            Endpoint::sockets(address, [socket])
        });
        Ok(endpoints.collect())
    }

    fn take_named(&mut self, wanted: &Name) -> Vec<ListeningSocket> {
        let all = std::mem::take(&mut self.0);
        let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| name == wanted);
        self.0 = left;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }

    fn missing(&self, name: &str) -> Error {
        let there: Vec<_> = self
            .0
            .iter()
            .filter_map(|(name, _)| match name {
                Name::Unit(name) => Some(name.as_str()),
                Name::Address(_) => None,
            })
            .collect();
        let there = match there.is_empty() {
            true => "it was given none: start it by a socket unit, or by systemd-socket-activate --fdname"
                .to_owned(),
            false => format!(
                "it has {}: set FileDescriptorName= in the socket unit",
                there.join(", ")
            ),
        };
        Status::not_found(format!(
            "this process was given no socket with the name {name:?}; {there}"
        ))
        .into()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for (name, socket) in &self.0 {
            let address = socket.address();
            tracing::warn!(
                ?name,
                address,
                "this process was given a socket that it does not use: it is closed"
            );
        }
    }
}

/// Takes the socket at `index`.
fn take_one(given: &mut ListenFd, index: usize) -> Result<ListeningSocket, Error> {
    if let Ok(Some(socket)) = given.take_tcp_listener(index) {
        return Ok(socket.into());
    }
    match given.take_unix_listener(index) {
        Ok(Some(socket)) => Ok(socket.into()),
        _ => Err(Status::invalid_argument(format!(
            "file descriptor {} of LISTEN_FDS is no TCP socket and no Unix socket for streams: only such sockets can be in the unit",
            FIRST + index
        ))
        .into()),
    }
}

/// The first file descriptor that is given.
const FIRST: usize = 3;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn given(names: &[Name]) -> Sockets {
        let socket = || ListeningSocket::from(TcpListener::bind("127.0.0.1:0").unwrap());
        Sockets(names.iter().map(|name| (name.clone(), socket())).collect())
    }

    fn unit(name: &str) -> Name {
        Name::Unit(name.to_owned())
    }

    #[test]
    fn each_socket_of_a_unit_is_an_endpoint() {
        let mut sockets = given(&[unit("kv"), unit("admin"), unit("kv")]);
        assert_eq!(sockets.endpoints("fd:kv").unwrap().len(), 2);
        assert_eq!(sockets.endpoints("fd+tls:admin").unwrap().len(), 1);
        assert!(sockets.is_empty());
    }

    #[test]
    fn sockets_of_the_process_before_are_one_endpoint_and_another_address_is_bound() {
        let address = |address: &str| Name::Address(address.to_owned());
        let mut sockets = given(&[address("tcp://127.0.0.1:0"), address("tcp://127.0.0.1:0")]);
        let other = format!("{:?}", sockets.endpoints("tcp://127.0.0.1:5005").unwrap());
        assert!(other.contains("sockets: None"), "{other}");
        assert!(!sockets.is_empty());
        let handed_over = sockets.endpoints("tcp://127.0.0.1:0").unwrap();
        assert_eq!(handed_over.len(), 1);
        assert!(sockets.is_empty());
    }

    #[test]
    fn a_missing_name_is_an_error_with_the_names_there_are() {
        let error = given(&[unit("admin"), unit("x.socket")])
            .endpoints("fd:kv")
            .unwrap_err();
        assert!(
            error
                .message()
                .contains("no socket with the name \"kv\"; it has admin, x.socket"),
            "{error}"
        );
        let error = Sockets::default().endpoints("fd:kv").unwrap_err();
        assert!(error.message().contains("given none"), "{error}");
    }
}
