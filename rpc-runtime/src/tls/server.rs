//! ServerTls: who a server is, and which clients it lets in.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_rustls::rustls::{ServerConfig, server::WebPkiClientVerifier, version::TLS13};

use super::{
    ALPN,
    expiry::{self, Expiry},
    fault::TlsError,
    identity::Identity,
    provider::provider,
    reload::{LOOK_EVERY, Reloading, Source},
    roots::Roots,
};
use crate::metrics::Side;

/// Who a server is, and which clients it lets in. A clone is the same configuration.
///
/// ```no_run
/// # fn example() -> Result<(), rpc_runtime::tls::TlsError> {
/// use rpc_runtime::{Server, tls::{Identity, ServerTls}};
///
/// let tls = ServerTls::builder(Identity::pem_files("server.pem", "server.key")).build()?;
/// let server = Server::builder().listener("tls://0.0.0.0:7400").tls(tls.clone());
///
/// // Later, after new files have been written: new connections get the new certificate at once.
/// tls.reload()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Reloading<ServerSource>>);

/// Configures a [`ServerTls`]; [`ServerTls::builder`] returns one.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ServerTlsBuilder {
    source: ServerSource,
    reload_every: Option<Duration>,
}

#[derive(Clone, Debug)]
struct ServerSource {
    identity: Identity,
    client_roots: Option<Roots>,
    anonymous_clients: bool,
    /// None before the configuration is built.
    expiry: Option<Arc<Expiry>>,
}

impl ServerTls {
    /// Makes a builder of the configuration of a server that proves itself by `identity`.
    pub fn builder(identity: Identity) -> ServerTlsBuilder {
        ServerTlsBuilder {
            source: ServerSource {
                identity,
                client_roots: None,
                anonymous_clients: false,
                expiry: None,
            },
            reload_every: Some(LOOK_EVERY),
        }
    }

    /// Reads all files again, now. Connections that begin from now on use what they say; open ones go on as they are.
    ///
    /// Sessions that clients could resume end, so that clients whose certificate has been revoked are checked again. It
    /// blocks the thread while it reads.
    ///
    /// # Errors
    ///
    /// [`TlsFault::Configuration`](super::TlsFault::Configuration) if a file cannot be used; the old ones stay in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0.reload()
    }

    /// Returns the configuration for a handshake.
    pub(super) async fn fresh(&self) -> Arc<ServerConfig> {
        self.0.fresh().await
    }
}

impl ServerTlsBuilder {
    /// Requires a certificate of each client, signed by one of `roots` (mutual TLS). Default: none is asked for.
    ///
    /// [`Peer::certificate`](crate::server::Peer::certificate) tells handlers whose it is.
    pub fn client_roots(mut self, roots: Roots) -> Self {
        self.source.client_roots = Some(roots);
        self
    }

    /// Sets whether clients without a certificate are let in, too, if `client_roots` is set. Default: false.
    ///
    /// A client with a bad certificate is refused either way.
    pub fn anonymous_clients(mut self, let_in: bool) -> Self {
        self.source.anonymous_clients = let_in;
        self
    }

    /// Sets how often handshakes look whether the files have changed; `None` for never. Default: 10 s.
    pub fn reload_every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.reload_every = every.into();
        self
    }

    /// Reads the files and makes the configuration. It blocks the thread while it reads.
    ///
    /// # Errors
    ///
    /// [`TlsFault::Configuration`](super::TlsFault::Configuration), with the file and what is wrong with it.
    pub fn build(mut self) -> Result<ServerTls, TlsError> {
        self.source.expiry = Some(Expiry::new(Side::Server, &self.source.identity));
        Reloading::new(self.source, self.reload_every).map(ServerTls)
    }
}

impl Source for ServerSource {
    type Config = ServerConfig;

    fn load(&self) -> Result<ServerConfig, TlsError> {
        let unusable = |error: &dyn std::fmt::Display| {
            TlsError::configuration(format!(
                "the TLS configuration of the server cannot be used: {error}"
            ))
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable(&error))?;
        let builder = match &self.client_roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.load()?, provider())
                    .with_crls(roots.load_crls()?)
                    .enforce_revocation_expiration();
                let verifier = match self.anonymous_clients {
                    true => verifier.allow_unauthenticated(),
                    false => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(&error))?)
            }
        };
        let (chain, key) = self.identity.load()?;
        let not_after = expiry::of_chain(&chain);
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| self.identity.unusable(&error))?;
        if let Some(expiry) = &self.expiry {
            expiry.note(not_after);
        }
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    fn files(&self) -> Vec<&Path> {
        let roots = self.client_roots.iter().flat_map(Roots::files);
        self.identity.files().chain(roots).collect()
    }
}
