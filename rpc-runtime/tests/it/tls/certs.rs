//! Certificates for tests, good and bad.

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rpc_runtime::tls::{ClientTls, ClientTlsBuilder, Identity, Roots, ServerTls, ServerTlsBuilder};

/// The name of the server in all good certificates.
pub(crate) const SERVER: &str = "kv.test";
/// The id of the client in all good certificates.
pub(crate) const CLIENT: &str = "spiffe://test/billing";

/// Whose certificate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

impl Side {
    pub(crate) fn usage(self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Self::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }
}

/// A CA, its own certificate, and those above it but for the root.
pub(crate) struct Ca {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    /// In DER.
    pub(crate) certificate: Vec<u8>,
    /// From its own certificate up, without the root.
    above: Vec<Vec<u8>>,
}

/// A certificate with its chain, in DER, and its key in PEM.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: String,
}

impl Leaf {
    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem(der)).collect()
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::pem(self.chain_pem(), &self.key)
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// The parameters of a good certificate.
pub(crate) fn leaf_params(side: Side) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = match side {
        Side::Server => vec![SanType::DnsName(SERVER.try_into().unwrap())],
        Side::Client => vec![SanType::URI(CLIENT.try_into().unwrap())],
    };
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{side:?}"));
    params.extended_key_usages = vec![side.usage()];
    params.serial_number = Some(SerialNumber::from_slice(&[7]));
    params
}

impl Ca {
    /// Makes a root.
    pub(crate) fn root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            above: Vec::new(),
        }
    }

    /// Makes a CA that this one has signed.
    pub(crate) fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let above = [vec![certificate.clone()], self.above.clone()].concat();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            above,
        }
    }

    /// Makes a certificate with its chain.
    pub(crate) fn leaf(&self, side: Side, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = leaf_params(side);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Leaf {
            chain: [vec![certificate], self.above.clone()].concat(),
            key: key_pem(&key),
        }
    }

    pub(crate) fn pem(&self) -> String {
        pem(&self.certificate)
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::pem(self.pem())
    }

    /// Makes a list of revoked certificates, in PEM. A good certificate has the serial number 7.
    pub(crate) fn crl(
        &self,
        revoked: &[u8],
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> String {
        let revoked = revoked.iter().map(|&serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[serial]),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let mut params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        wrap("X509 CRL", params.signed_by(&self.issuer).unwrap().der())
    }
}

/// Writes a certificate in PEM.
pub(crate) fn pem(der: &[u8]) -> String {
    wrap("CERTIFICATE", der)
}

/// Writes a key in PEM.
pub(crate) fn key_pem(key: &KeyPair) -> String {
    wrap("PRIVATE KEY", key.serialized_der())
}

fn wrap(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A CA that both sides trust, and good certificates of it.
pub(crate) struct World {
    pub(crate) root: Ca,
    pub(crate) server: Leaf,
    pub(crate) client: Leaf,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = Ca::root("root", |_| {});
        Self {
            server: root.leaf(Side::Server, |_| {}),
            client: root.leaf(Side::Client, |_| {}),
            root,
        }
    }

    /// Configures the server: with mutual TLS.
    pub(crate) fn server(&self) -> ServerTlsBuilder {
        ServerTls::builder(self.server.identity()).client_roots(self.root.roots())
    }

    /// Configures the client, which connects by an IP address.
    pub(crate) fn client(&self) -> ClientTlsBuilder {
        ClientTls::builder()
            .roots(self.root.roots())
            .identity(self.client.identity())
            .server_name(SERVER)
    }
}
