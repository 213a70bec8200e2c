//! Security: how TLS is put around a TCP stream, where the address begins with `tls://`.

use std::io;

use tokio::net::TcpStream;

#[cfg(feature = "_tls")]
use super::StreamKind;
use super::{
    Peer, Stream,
    os::{User, own_user},
    unix_servers::UnixServers,
};
#[cfg(feature = "_tls")]
use crate::tls::{self, ClientTls, OfferedTls, ServerTls, TlsError, TlsFault};
use crate::{Code, api::tls_protocol::TlsProtocol};

/// How a client makes sure that its server is the right one: at `tls://` addresses by its certificate, at `unix:` and `pipe:` addresses by its user.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientSecurity {
    /// Who may listen at `unix:` and `pipe:` addresses. `None` for anybody.
    unix: Option<UnixServers>,
    /// The name for which the server's certificate must be; `None` for the host of the address.
    #[cfg(feature = "_tls")]
    server_name: Option<String>,
    /// `None` for the CAs of this machine.
    #[cfg(feature = "_tls")]
    tls: Option<ClientTls>,
    /// `None` for our own protocol.
    #[cfg(feature = "_tls")]
    protocol: Option<TlsProtocol>,
}

/// How a server secures the connections of its `tls://` listeners.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerSecurity {
    #[cfg(feature = "_tls")]
    tls: Option<OfferedTls>,
}

/// Why TLS failed.
pub(crate) struct TlsFailure {
    /// The word for it in logs.
    pub(crate) fault: String,
    /// What happened, and what to do.
    pub(crate) text: String,
    /// True if the peer has just left, as a health check or a port scanner does.
    pub(crate) has_left: bool,
    /// The code of calls that it stops.
    pub(crate) code: Code,
    /// True if another attempt would fail in the same way.
    pub(crate) is_permanent: bool,
}

#[cfg(feature = "_tls")]
impl TlsFailure {
    /// Finds it in the error of a stream; `None` if something else failed.
    pub(crate) fn find(error: &io::Error) -> Option<Self> {
        let error = TlsError::find(error)?;
        let (code, is_permanent) = error.verdict();
        Some(Self {
            fault: format!("{:?}", error.fault()),
            text: error.to_string(),
            has_left: error.fault() == TlsFault::Interrupted,
            code,
            is_permanent,
        })
    }

    /// Copies the error of a stream; `None` if something else failed.
    pub(crate) fn copy(error: &io::Error) -> Option<io::Error> {
        TlsError::find(error).map(|error| error.clone().into_io())
    }
}

#[cfg(not(feature = "_tls"))]
impl TlsFailure {
    pub(crate) fn find(_: &io::Error) -> Option<Self> {
        None
    }

    pub(crate) fn copy(_: &io::Error) -> Option<io::Error> {
        None
    }
}

impl ClientSecurity {
    /// Connects to Unix sockets of these servers only.
    pub(crate) fn with_unix_servers(mut self, servers: UnixServers) -> Self {
        self.unix = Some(servers);
        self
    }

    /// Connects to servers whose certificate is for `name`, whatever the host of the address is.
    #[cfg_attr(
        not(feature = "_tls"),
        allow(unused_mut, unused_variables, reason = "no certificate is checked there")
    )]
    pub(crate) fn with_server_name(mut self, name: &str) -> Self {
        #[cfg(feature = "_tls")]
        {
            self.server_name = Some(name.to_owned());
        }
        self
    }

    /// Checks who listens at a Unix socket or a named pipe; `user` is none if the OS does not say.
    ///
    /// # Errors
    ///
    /// A [`WrongUnixServer`](super::unix_servers::WrongUnixServer) within.
    pub(super) fn check_local(&self, user: Option<&User>) -> io::Result<()> {
        match &self.unix {
            None => Ok(()),
            Some(servers) => servers.check(user, own_user().as_ref()),
        }
    }

    /// The scheme of addresses that do not say theirs: that of TLS if it is configured.
    pub(crate) fn scheme(&self) -> &'static str {
        #[cfg(feature = "_tls")]
        if self.tls.is_some() {
            return "tls";
        }
        "tcp"
    }

    /// True if it makes sure that a TLS server is the one that it names.
    pub(crate) fn is_verified(&self) -> bool {
        #[cfg(feature = "_tls")]
        return self.tls.as_ref().is_none_or(ClientTls::is_verified);
        #[cfg(not(feature = "_tls"))]
        true
    }
}

#[cfg(feature = "_tls")]
impl ClientSecurity {
    pub(crate) fn with_tls(self, tls: ClientTls) -> Self {
        Self {
            tls: Some(tls),
            ..self
        }
    }

    /// The same for servers that speak another protocol.
    pub(crate) fn speaking(self, protocol: TlsProtocol) -> Self {
        let protocol = Some(protocol);
        Self { protocol, ..self }
    }

    /// Shakes hands with the server at `host`.
    ///
    /// # Errors
    ///
    /// A `TlsError` within, or the error of the OS.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the stream.
    pub(super) async fn shake_hands(
        &self,
        stream: TcpStream,
        host: &str,
        peer: Peer,
    ) -> io::Result<(Stream, Peer)> {
        let host = self.server_name.as_deref().unwrap_or(host);
        let (stream, certificate) =
            tls::connect(self.tls.as_ref(), self.protocol.as_ref(), stream, host).await?;
        let (peer, slot) = peer.over_tls();
        if let Some(certificate) = certificate {
            // Nothing else sets it.
            let _ = slot.set(certificate);
        }
        Ok((Stream::of(StreamKind::Tls(Box::new(stream))), peer))
    }
}

#[cfg(feature = "_tls")]
impl ServerSecurity {
    pub(crate) fn new(tls: ServerTls) -> Self {
        Self {
            tls: Some(OfferedTls::new(tls)),
        }
    }

    /// Offers these protocols of a guest in ALPN, too.
    pub(crate) fn with_guests(self, guests: &'static [&'static [u8]]) -> Self {
        Self {
            tls: self.tls.map(|tls| tls.with_guests(guests)),
        }
    }

    /// True if it has a certificate.
    pub(crate) fn is_set(&self) -> bool {
        self.tls.is_some()
    }

    /// Begins a handshake with a client. Reading and writing the stream drive it.
    ///
    /// # Errors
    ///
    /// `Unsupported` without a certificate; the builder has checked that.
    pub(super) fn accept(&self, stream: TcpStream, peer: Peer) -> io::Result<(Stream, Peer)> {
        let tls = self.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let (peer, certificate) = peer.over_tls();
        let stream = tls::accept(tls, stream, certificate);
        Ok((Stream::of(StreamKind::Tls(Box::new(stream))), peer))
    }
}

/// Without TLS no address begins with `tls://`, so nothing calls these.
#[cfg(not(feature = "_tls"))]
impl ClientSecurity {
    pub(crate) fn speaking(self, _: TlsProtocol) -> Self {
        self
    }

    pub(super) async fn shake_hands(&self, _: TcpStream, _: &str, _: Peer) -> io::Result<(Stream, Peer)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(not(feature = "_tls"))]
impl ServerSecurity {
    pub(crate) fn with_guests(self, _: &'static [&'static [u8]]) -> Self {
        self
    }

    pub(crate) fn is_set(&self) -> bool {
        false
    }

    pub(super) fn accept(&self, _: TcpStream, _: Peer) -> io::Result<(Stream, Peer)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
