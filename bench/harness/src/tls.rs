//! TLS for all peers alike: a CA of the server's process, TLS 1.3 by rustls and aws-lc-rs, sessions resumed or not.
//!
//! A server writes its CA to a file, and puts the path behind its address: `127.0.0.1:1234,/tmp/ca.pem`.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Whether this process runs the variant with TLS.
pub fn on_tls() -> bool {
    crate::variant() == "tls"
}

/// The certificate of a server at 127.0.0.1, its key, and the path of the CA's file.
pub struct ServerIdentity {
    pub chain: String,
    pub key: String,
    pub ca: String,
}

impl ServerIdentity {
    /// Makes one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let path = std::env::temp_dir().join(format!("bench-{}.pem", std::process::id()));
        std::fs::write(&path, ca.pem()).unwrap();
        Self {
            chain: leaf.pem(),
            key: key.serialize_pem(),
            ca: path.display().to_string(),
        }
    }

    /// The acceptor of a server without a framework.
    pub fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Default for ServerIdentity {
    fn default() -> Self {
        Self::new()
    }
}

/// The address within what a server has told, and the path of its CA.
pub fn address(told: &str) -> (&str, &str) {
    told.split_once(',').expect("a server with TLS tells its CA")
}

/// The connector of a client without a framework.
pub fn connector(ca: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resumes() {
        config.resumption = Resumption::disabled();
    }
    TlsConnector::from(Arc::new(config))
}

static RESUMES: AtomicBool = AtomicBool::new(true);

/// Whether a new connection resumes the session of an earlier one.
pub fn resumes() -> bool {
    RESUMES.load(Ordering::Relaxed)
}

/// Sets it, before the first connection.
pub(crate) fn set_resumes(resumes: bool) {
    RESUMES.store(resumes, Ordering::Relaxed);
}
