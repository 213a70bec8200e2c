//! Identity: a certificate with its chain, and its private key.

use std::{fmt, path::Path};

use tokio_rustls::rustls::{
    Error,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{
    fault::TlsError,
    pem::{Pem, why_no_pem},
};

/// A certificate with its chain, and its private key: proves who this side is.
///
/// It is read by [`ServerTlsBuilder::build`](super::ServerTlsBuilder::build) or
/// [`ClientTlsBuilder::build`](super::ClientTlsBuilder::build), and files are read again when they change. `Debug` hides the
/// key.
///
/// ```
/// use rpc_runtime::tls::Identity;
///
/// let identity = Identity::pem_files("server.pem", "server.key");
/// ```
#[derive(Clone)]
pub struct Identity {
    chain: Pem,
    key: Pem,
}

impl Identity {
    /// Takes two PEM files: the certificate followed by those that lead to the CA, and the private key.
    ///
    /// The key is in the form of PKCS#8, PKCS#1 or SEC1, not encrypted. Both may be in one file.
    pub fn pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        Self {
            chain: Pem::file(chain),
            key: Pem::file(key),
        }
    }

    /// Takes the two PEM texts themselves. See [`Identity::pem_files`].
    pub fn pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self {
            chain: Pem::text(chain),
            key: Pem::text(key),
        }
    }

    /// Reads the chain and the key.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or has no certificate or no key; the error has its path.
    pub(super) fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let text = self.chain.read()?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let name = self.chain.name();
        let chain = chain.map_err(|error| {
            TlsError::configuration(format!("bad certificate in {name}: {}", why_no_pem(&error)))
        })?;
        if chain.is_empty() {
            let text =
                format!("no certificate in {name}: it must have a block that begins with BEGIN CERTIFICATE");
            return Err(TlsError::configuration(text));
        }
        let text = self.key.read()?;
        // Not with the parser's error, which may quote the file.
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            let name = self.key.name();
            TlsError::configuration(format!(
                "no private key in {name}: it must have a key in PEM, not encrypted"
            ))
        })?;
        Ok((chain, key))
    }

    /// The value of the label `certificate` in metrics: the path of the certificate's file, or `pem`.
    pub(super) fn label(&self) -> String {
        let path = self.chain.path().map(|path| path.to_string_lossy().into_owned());
        path.unwrap_or_else(|| "pem".to_owned())
    }

    /// Explains why TLS cannot use it.
    pub(super) fn unusable(&self, error: &Error) -> TlsError {
        let (chain, key) = (self.chain.name(), self.key.name());
        TlsError::configuration(match error {
            Error::InconsistentKeys(_) => {
                format!("the private key in {key} does not belong to the certificate in {chain}")
            }
            error => {
                format!("the certificate in {chain} with the private key in {key} cannot be used: {error}")
            }
        })
    }

    /// Returns the files that it is read from.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.chain, &self.key].into_iter().filter_map(Pem::path)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("chain", &self.chain.name())
            .field("key", &self.key.path())
            .finish()
    }
}
