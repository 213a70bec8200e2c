//! TLS 1.3: who a server and a client are, and whom they trust.
//!
//! A server with a `tls://` listener needs a [`ServerTls`]. A client of a `tls://` address checks the server's certificate
//! against the CAs of this machine, unless a [`ClientTls`] says otherwise. Only TLS 1.3 is spoken, never with early data.
//!
//! ```no_run
//! # struct Hello;
//! # impl rpc_runtime::server::Service for Hello {
//! #     fn name(&self) -> &'static str { "doc.v1.Hello" }
//! #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
//! #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
//! # }
//! # async fn example() -> Result<(), rpc_runtime::Error> {
//! use rpc_runtime::{Client, Server, tls::{ClientTls, Identity, Roots, ServerTls}};
//!
//! // The server proves who it is, and asks each client to do so, too.
//! let tls = ServerTls::builder(Identity::pem_files("server.pem", "server.key"))
//!     .client_roots(Roots::pem_file("clients-ca.pem"))
//!     .build()?;
//! let server = Server::builder().service(Hello).listener("tls://0.0.0.0:7400").tls(tls).bind().await?;
//!
//! let tls = ClientTls::builder()
//!     .roots(Roots::pem_file("servers-ca.pem"))
//!     .identity(Identity::pem_files("client.pem", "client.key"))
//!     .build()?;
//! let client: Client = Client::builder("tls://kv.example:7400").tls(tls).connect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Certificates that change
//!
//! Files are read again when they change: a handshake looks at them, at most once in 10 s. If the new files cannot be used,
//! the old certificates stay in use, and one line in the log says why. [`ServerTls::reload`] and [`ClientTls::reload`] read
//! them at once. Open connections keep what they have.
//!
//! # Failures
//!
//! A handshake that fails ends with a [`TlsError`] at both ends. A client finds it in the sources of an
//! [`Error`](crate::Error) by [`TlsError::find`]; no call was executed. A server logs it, and counts it in
//! [`Counters::tls_handshakes_failed`](crate::server::Counters::tls_handshakes_failed).

mod certificate;
mod client;
#[cfg(feature = "tls-dev")]
mod dev;
mod expiry;
mod explain;
mod fault;
mod first_bytes;
mod identity;
mod offered;
mod pem;
mod provider;
mod reload;
mod roots;
mod server;
mod shared_once;
mod stream;

#[cfg(feature = "tls-dev")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls-dev")))]
pub use self::dev::{DevCa, dev};
pub(crate) use self::{
    certificate::CertificateSlot,
    offered::OfferedTls,
    stream::{TlsStream, accept, connect},
};
pub use self::{
    certificate::PeerCertificate,
    client::{ClientTls, ClientTlsBuilder},
    fault::{TlsError, TlsFault},
    identity::Identity,
    roots::Roots,
    server::{ServerTls, ServerTlsBuilder},
};

/// The id of the protocol in ALPN. Both sides require it.
const ALPN: &[u8] = b"rustrpc";
