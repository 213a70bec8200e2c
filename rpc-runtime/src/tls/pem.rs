//! Pem: a text of certificates or keys, in memory or in a file.

use std::{
    borrow::Cow,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::pki_types::pem;

use super::fault::TlsError;

/// A text of certificates or keys, in memory or in a file.
#[derive(Clone)]
pub(super) enum Pem {
    Text(Arc<[u8]>),
    File(PathBuf),
}

impl Pem {
    pub(super) fn text(text: impl AsRef<[u8]>) -> Self {
        Self::Text(text.as_ref().into())
    }

    pub(super) fn file(path: impl AsRef<Path>) -> Self {
        Self::File(path.as_ref().to_owned())
    }

    /// Returns the text.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is too long; the error has its path.
    pub(super) fn read(&self) -> Result<Cow<'_, [u8]>, TlsError> {
        match self {
            Self::Text(text) => Ok(Cow::Borrowed(text)),
            Self::File(path) => read(path).map(Cow::Owned),
        }
    }

    /// Returns the path; `None` for a text in memory.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Text(_) => None,
            Self::File(path) => Some(path),
        }
    }

    /// The name for errors.
    pub(super) fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Text(_) => Cow::Borrowed("the given PEM text"),
            Self::File(path) => path.to_string_lossy(),
        }
    }
}

/// Says why a text is no PEM. The parser's own words may quote the text, and that may be a key in the place of a certificate.
pub(super) fn why_no_pem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a block has no END line, or another one than its BEGIN line says"
        }
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a block is no base64",
        _ => "it is no PEM",
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::configuration(format!("cannot read {}: {error}", path.display()));
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(failed)?.take(LONGEST + 1);
    file.read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST {
        let text = format!("{} is longer than {LONGEST} bytes, the limit", path.display());
        return Err(TlsError::configuration(text));
    }
    Ok(text)
}

/// The longest file, in bytes. Lists of revoked certificates may be long.
const LONGEST: u64 = 64 << 20;
