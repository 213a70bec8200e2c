//! Door: the ways to a target, for clients, raw peers and bare sockets, over TCP and TLS.

use std::{io, sync::Arc};

use clap::ValueEnum;
use rpc_runtime::{Client, client::ClientBuilder, tls::ClientTls};
use test_support::{LONG, wire::RawPeer};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

use crate::certificates::{Certificates, Shown};

/// The transport of a target and of its attackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// The ways to a target.
#[derive(Clone, Debug, Default)]
pub struct Door {
    address: String,
    tls: Option<DoorTls>,
}

#[derive(Clone)]
struct DoorTls {
    certificates: Arc<Certificates>,
    client: ClientTls,
    attacker: TlsConnector,
}

impl std::fmt::Debug for DoorTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.certificates.fmt(f)
    }
}

impl Door {
    /// Takes the address that a target has printed, and its certificates if it has some.
    ///
    /// # Errors
    ///
    /// If the certificates cannot be used.
    pub fn new(address: String, certificates: Option<Certificates>) -> io::Result<Self> {
        let tls = match certificates {
            None => None,
            Some(certificates) => Some(DoorTls {
                client: certificates.client()?,
                attacker: certificates.attacker(Shown::Nothing)?,
                certificates: Arc::new(certificates),
            }),
        };
        Ok(Self { address, tls })
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its certificates; none over TCP.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.tls.as_ref().map(|tls| &*tls.certificates)
    }

    /// Makes a builder of a client.
    pub fn client(&self) -> ClientBuilder {
        let builder = Client::builder(&self.address);
        match &self.tls {
            None => builder,
            Some(tls) => builder.tls(tls.client.clone()),
        }
    }

    /// Connects a raw peer, after the handshake of TLS if it is over TLS.
    ///
    /// # Errors
    ///
    /// The error of the OS, a failed handshake, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn raw(&self) -> io::Result<RawPeer> {
        match &self.tls {
            None => Ok(RawPeer::over(self.socket().await?)),
            Some(tls) => Ok(RawPeer::over(self.secured(&tls.attacker).await?)),
        }
    }

    /// Connects, and shakes hands by `connector`.
    ///
    /// # Errors
    ///
    /// The error of the OS, a failed handshake, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn secured(&self, connector: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
        let socket = self.socket().await?;
        let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
        timeout(LONG, connector.connect(name, socket)).await?
    }

    /// Connects a bare socket.
    ///
    /// # Errors
    ///
    /// The error of the OS, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn socket(&self) -> io::Result<TcpStream> {
        let host = self.address.split_once("://").map_or("", |(_, host)| host);
        let socket = timeout(LONG, TcpStream::connect(host)).await??;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}
