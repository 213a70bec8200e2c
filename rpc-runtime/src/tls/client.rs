//! ClientTls: which servers a client trusts, and who it is.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};

use super::{
    ALPN,
    expiry::{self, Expiry},
    fault::TlsError,
    identity::Identity,
    provider::provider,
    reload::{LOOK_EVERY, Reloading, Source},
    roots::Roots,
    shared_once::SharedOnce,
};
use crate::metrics::Side;

/// Which servers a client trusts, and who it is. A clone is the same configuration.
///
/// ```no_run
/// # fn example() -> Result<(), rpc_runtime::tls::TlsError> {
/// use rpc_runtime::{Client, tls::{ClientTls, Roots}};
///
/// let tls = ClientTls::builder().roots(Roots::pem_file("our-ca.pem")).build()?;
/// let client: Client = Client::builder("tls://kv.example:7400").tls(tls).connect_lazy();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientTls {
    source: Arc<Reloading<ClientSource>>,
    server_name: Option<ServerName<'static>>,
    is_verified: bool,
}

/// Configures a [`ClientTls`]; [`ClientTls::builder`] returns one.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ClientTlsBuilder {
    source: ClientSource,
    server_name: Option<String>,
    reload_every: Option<Duration>,
}

#[derive(Clone, Debug)]
struct ClientSource {
    roots: Roots,
    identity: Option<Identity>,
    any_certificate: bool,
    /// None before the configuration is built, and for a client without a certificate.
    expiry: Option<Arc<Expiry>>,
}

impl ClientTls {
    /// Makes a builder. What is not set: the CAs of this machine, no certificate of our own, and the host of the address as
    /// the server's name.
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder {
            source: ClientSource {
                roots: Roots::system(),
                identity: None,
                any_certificate: false,
                expiry: None,
            },
            server_name: None,
            reload_every: Some(LOOK_EVERY),
        }
    }

    /// Reads all files again, now. Connections that begin from now on use what they say; open ones go on as they are.
    ///
    /// It blocks the thread while it reads.
    ///
    /// # Errors
    ///
    /// [`TlsFault::Configuration`](super::TlsFault::Configuration) if a file cannot be used; the old ones stay in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.source.reload()
    }

    /// Returns what clients use that have set nothing. It is made once, on a thread of its own, since a machine's CAs are many files.
    ///
    /// # Errors
    ///
    /// This machine has no CAs, or reading them takes too long.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing for others.
    pub(super) async fn of_this_machine() -> Result<Self, TlsError> {
        static MADE: SharedOnce<ClientTls> = SharedOnce::new("the CAs of this machine");
        MADE.get(|| Self::builder().build()).await
    }

    /// Returns the configuration for a handshake.
    pub(super) async fn fresh(&self) -> Arc<ClientConfig> {
        self.source.fresh().await
    }

    /// Returns the name that the server's certificate must have; `host` is that of the address.
    ///
    /// # Errors
    ///
    /// The host is no name that a certificate can have.
    pub(super) fn name_for(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => server_name(host.trim_start_matches('[').trim_end_matches(']')),
        }
    }

    /// True if the certificates of servers are verified.
    pub(crate) fn is_verified(&self) -> bool {
        self.is_verified
    }
}

impl ClientTlsBuilder {
    /// Sets which CAs may sign the certificates of servers. Default: those of this machine, [`Roots::system`].
    pub fn roots(mut self, roots: Roots) -> Self {
        self.source.roots = roots;
        self
    }

    /// Sets the certificate of this client, for servers that ask for one (mutual TLS). Default: none.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.source.identity = Some(identity);
        self
    }

    /// Sets the name that the server's certificate must have, and that the client asks for by SNI. Default: the host of
    /// the address.
    ///
    /// For a server that is reached by another name than its certificate has: through a tunnel, say, or by an IP address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets how often handshakes look whether the files have changed; `None` for never. Default: 10 s.
    pub fn reload_every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.reload_every = every.into();
        self
    }

    /// Accepts **any** certificate, of anybody, for any name, expired or not. **Dangerous**: whoever sits between client and
    /// server can read and change everything. For a laboratory at most.
    ///
    /// It takes the place of `roots`. Each server's certificate then counts as unknown:
    /// [`Peer::certificate`](crate::server::Peer::certificate) is `None`.
    pub fn dangerous_any_certificate(mut self) -> Self {
        self.source.any_certificate = true;
        self
    }

    /// Reads the files and makes the configuration. It blocks the thread while it reads.
    ///
    /// # Errors
    ///
    /// [`TlsFault::Configuration`](super::TlsFault::Configuration), with the file and what is wrong with it.
    pub fn build(mut self) -> Result<ClientTls, TlsError> {
        let identity = self.source.identity.as_ref();
        self.source.expiry = identity.map(|identity| Expiry::new(Side::Client, identity));
        let server_name = self.server_name.as_deref().map(server_name).transpose()?;
        let is_verified = !self.source.any_certificate;
        Ok(ClientTls {
            source: Reloading::new(self.source, self.reload_every)?,
            server_name,
            is_verified,
        })
    }
}

impl Source for ClientSource {
    type Config = ClientConfig;

    fn load(&self) -> Result<ClientConfig, TlsError> {
        let unusable = |error: &dyn std::fmt::Display| {
            TlsError::configuration(format!(
                "the TLS configuration of the client cannot be used: {error}"
            ))
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable(&error))?;
        let builder = if self.any_certificate {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
        } else {
            let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.load()?, provider())
                .with_crls(self.roots.load_crls()?)
                .enforce_revocation_expiration()
                .build()
                .map_err(|error| unusable(&error))?;
            builder.with_webpki_verifier(verifier)
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.load()?;
                let not_after = expiry::of_chain(&chain);
                let config = builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| identity.unusable(&error))?;
                if let Some(expiry) = &self.expiry {
                    expiry.note(not_after);
                }
                config
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    fn files(&self) -> Vec<&Path> {
        let identity = self.identity.iter().flat_map(Identity::files);
        let roots = Some(&self.roots).filter(|_| !self.any_certificate);
        roots.into_iter().flat_map(Roots::files).chain(identity).collect()
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        let text = format!(
            "no certificate can have the name {name:?}: connect by a host name or an IP address, or give a name to \
             `ClientTlsBuilder::server_name`"
        );
        TlsError::configuration(text)
    })
}

/// Accepts any certificate. Only [`ClientTlsBuilder::dangerous_any_certificate`] uses it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
