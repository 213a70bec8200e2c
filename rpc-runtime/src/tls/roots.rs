//! Roots: the CAs that this side trusts, and the certificates that they have revoked.

use std::{fmt, path::Path, sync::Arc};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject},
};

use super::{
    fault::TlsError,
    pem::{Pem, why_no_pem},
};

/// The CAs that this side trusts, and the certificates that they have revoked.
///
/// ```
/// use rpc_runtime::tls::Roots;
///
/// // The CAs of this machine, one of our own, and what that has revoked.
/// let roots = Roots::system().with_pem_file("our-ca.pem").with_crl_file("our-ca.crl");
/// ```
#[derive(Clone)]
#[must_use = "roots do nothing until a builder takes them"]
pub struct Roots {
    system: bool,
    cas: Vec<Pem>,
    crls: Vec<Pem>,
}

impl Roots {
    /// Trusts the CAs of this machine, as its administrator has set them up.
    ///
    /// They are those of `/etc/ssl/certs` or the like, or of the file and folder that the environment variables
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    pub fn system() -> Self {
        Self {
            system: true,
            ..Self::none()
        }
    }

    /// Trusts the CAs of a PEM file, and no others.
    pub fn pem_file(path: impl AsRef<Path>) -> Self {
        Self::none().with_pem_file(path)
    }

    /// Trusts the CAs of a PEM text, and no others.
    pub fn pem(text: impl AsRef<[u8]>) -> Self {
        Self::none().with_pem(text)
    }

    fn none() -> Self {
        Self {
            system: false,
            cas: Vec::new(),
            crls: Vec::new(),
        }
    }

    /// Also trusts the CAs of a PEM file.
    pub fn with_pem_file(mut self, path: impl AsRef<Path>) -> Self {
        self.cas.push(Pem::file(path));
        self
    }

    /// Also trusts the CAs of a PEM text.
    pub fn with_pem(mut self, text: impl AsRef<[u8]>) -> Self {
        self.cas.push(Pem::text(text));
        self
    }

    /// Refuses the certificates in a PEM file of revocation lists (`BEGIN X509 CRL`).
    ///
    /// Once there is one list, each certificate of a chain, but for the root, must be covered by a list that its CA has
    /// signed and that has not expired. So a missing list refuses all, and lets none in.
    pub fn with_crl_file(mut self, path: impl AsRef<Path>) -> Self {
        self.crls.push(Pem::file(path));
        self
    }

    /// Refuses the certificates in a PEM text of revocation lists. See [`Roots::with_crl_file`].
    pub fn with_crl(mut self, text: impl AsRef<[u8]>) -> Self {
        self.crls.push(Pem::text(text));
        self
    }

    /// Reads the CAs.
    ///
    /// # Errors
    ///
    /// A file cannot be read, has no certificate or a bad one; this machine has no CAs.
    pub(super) fn load(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut store = RootCertStore::empty();
        if self.system {
            // Machines have CAs that nothing can parse; those are left out.
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                let why = found
                    .errors
                    .first()
                    .map(|error| format!(" ({error})"))
                    .unwrap_or_default();
                let text = format!(
                    "this machine has no CAs{why}: install its package of them, often ca-certificates, or give \
                     `Roots::pem_file`"
                );
                return Err(TlsError::configuration(text));
            }
        }
        for pem in &self.cas {
            let name = pem.name();
            let bad = |error: &dyn fmt::Display| {
                TlsError::configuration(format!("bad certificate of a CA in {name}: {error}"))
            };
            let before = store.len();
            for certificate in CertificateDer::pem_slice_iter(&pem.read()?) {
                let certificate = certificate.map_err(|error| bad(&why_no_pem(&error)))?;
                store.add(certificate).map_err(|error| bad(&error))?;
            }
            if store.len() == before {
                let text = format!(
                    "no certificate of a CA in {name}: it must have a block that begins with BEGIN CERTIFICATE"
                );
                return Err(TlsError::configuration(text));
            }
        }
        Ok(Arc::new(store))
    }

    /// Reads the revocation lists.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or has no list.
    pub(super) fn load_crls(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let mut all = Vec::new();
        for pem in &self.crls {
            let name = pem.name();
            let text = pem.read()?;
            let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
            let lists = lists.map_err(|error| {
                TlsError::configuration(format!("bad revocation list in {name}: {}", why_no_pem(&error)))
            })?;
            if lists.is_empty() {
                let text = format!(
                    "no revocation list in {name}: it must have a block that begins with BEGIN X509 CRL"
                );
                return Err(TlsError::configuration(text));
            }
            all.extend(lists);
        }
        Ok(all)
    }

    /// Returns the files that it is read from.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.cas.iter().chain(&self.crls).filter_map(Pem::path)
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pems: &[Pem]| pems.iter().map(|pem| pem.name().into_owned()).collect::<Vec<_>>();
        f.debug_struct("Roots")
            .field("system", &self.system)
            .field("cas", &names(&self.cas))
            .field("crls", &names(&self.crls))
            .finish()
    }
}
