//! Certificates: those of a target and its clients, in a folder of their own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rpc_runtime::tls::{self, ClientTls, DevCa, Identity, Roots, ServerTls, TlsError};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        version::TLS13,
    },
};

/// The certificates of a target and its clients, of a CA of their own. The folder is removed when this is dropped.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
    ca: DevCa,
}

/// Whose certificate an attacker shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// None.
    Nothing,
    /// A good one, for the name `client`.
    Client,
}

impl Certificates {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("rpc-attacks-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let ca = tls::dev().map_err(io::Error::other)?;
        let made = Self { folder, ca };
        made.ca.write_to(&made.folder).map_err(io::Error::other)?;
        Ok(made)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Configures a client with no certificate.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn client(&self) -> io::Result<ClientTls> {
        let tls = ClientTls::builder().roots(self.ca.roots()).build();
        tls.map_err(io::Error::other)
    }

    /// Configures a client that is called `name`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn client_named(&self, name: &str) -> io::Result<ClientTls> {
        let identity = self.ca.client(name).map_err(io::Error::other)?;
        let tls = ClientTls::builder()
            .roots(self.ca.roots())
            .identity(identity)
            .build();
        tls.map_err(io::Error::other)
    }

    /// Configures an attacker: rustls alone, without our runtime.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn attacker(&self, shown: Shown) -> io::Result<TlsConnector> {
        let path = |name: &str| self.folder.join(name);
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(path("ca.pem")).map_err(io::Error::other)?)
            .map_err(io::Error::other)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match shown {
            Shown::Nothing => builder.with_no_client_auth(),
            Shown::Client => {
                let chain = CertificateDer::from_pem_file(path("client.pem")).map_err(io::Error::other)?;
                let key = PrivateKeyDer::from_pem_file(path("client.key")).map_err(io::Error::other)?;
                builder
                    .with_client_auth_cert(vec![chain], key)
                    .map_err(io::Error::other)?
            }
        };
        config.alpn_protocols = vec![b"rustrpc".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        // What is left in a temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Configures a target by the files in `folder`. It asks clients for a certificate, and lets in those without one, too.
///
/// # Errors
///
/// If a file cannot be used.
pub fn server_tls(folder: &Path) -> Result<ServerTls, TlsError> {
    let identity = Identity::pem_files(folder.join("server.pem"), folder.join("server.key"));
    ServerTls::builder(identity)
        .client_roots(Roots::pem_file(folder.join("ca.pem")))
        .anonymous_clients(true)
        .build()
}
