//! Certificates of a CA that lives as long as a test, and who trusts them.

use std::{io, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rpc_runtime::tls::{ClientTls, ClientTlsBuilder, Identity, Roots, ServerTls, ServerTlsBuilder};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
        version::TLS13,
    },
};

/// The name in the certificates of servers.
pub(crate) const SERVER: &str = "kv.test";
/// The id in the certificates of clients.
pub(crate) const CLIENT: &str = "spiffe://test/billing";

/// A CA.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

/// A certificate and its key, in DER.
pub(crate) struct Leaf {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::named("root")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            issuer: Issuer::new(params, key),
            der,
        }
    }

    /// Makes the certificate of a server.
    pub(crate) fn server(&self) -> Leaf {
        let name = SanType::DnsName(SERVER.try_into().unwrap());
        self.leaf(name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Makes the certificate of a client.
    pub(crate) fn client(&self) -> Leaf {
        let id = SanType::URI(CLIENT.try_into().unwrap());
        self.leaf(id, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn leaf(&self, name: SanType, usage: ExtendedKeyUsagePurpose) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        Leaf {
            certificate: params.signed_by(&key, &self.issuer).unwrap().der().to_vec(),
            key: key.serialized_der().to_vec(),
        }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::pem(pem("CERTIFICATE", &self.der))
    }

    /// Configures a server that asks clients for no certificate.
    pub(crate) fn server_tls(&self) -> ServerTlsBuilder {
        ServerTls::builder(self.server().identity())
    }

    /// Configures a native client without a certificate.
    pub(crate) fn client_tls(&self) -> ClientTlsBuilder {
        ClientTls::builder().roots(self.roots()).server_name(SERVER)
    }

    /// Connects by rustls alone, and offers `protocols` in ALPN.
    pub(crate) async fn dial(
        &self,
        address: &str,
        shown: Option<&Leaf>,
        protocols: &[&[u8]],
    ) -> io::Result<TlsStream<TcpStream>> {
        let (_, socket) = address.split_once("://").unwrap();
        self.shake_hands(TcpStream::connect(socket).await?, shown, protocols)
            .await
    }

    /// Shakes hands on a connection that is there.
    pub(crate) async fn shake_hands(
        &self,
        stream: TcpStream,
        shown: Option<&Leaf>,
        protocols: &[&[u8]],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.der.clone())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain = vec![CertificateDer::from(leaf.certificate.clone())];
                let key = PrivatePkcs8KeyDer::from(leaf.key.clone());
                builder.with_client_auth_cert(chain, key.into()).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|&id| id.to_owned()).collect();
        let name = ServerName::try_from(SERVER).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

impl Leaf {
    pub(crate) fn identity(&self) -> Identity {
        Identity::pem(self.certificate_pem(), self.key_pem())
    }

    pub(crate) fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    // A line of 64 characters has 48 bytes.
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
