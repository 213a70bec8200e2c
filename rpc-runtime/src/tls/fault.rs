//! TlsError: why a TLS handshake failed, or why a configuration cannot be used.

use std::{error::Error as StdError, fmt, io};

use crate::{Code, Error};

/// What is wrong with a TLS handshake or a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFault {
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is for other names.
    WrongName,
    /// The certificate may not be used by a server, or not by a client.
    WrongPurpose,
    /// No CA that is trusted here has signed the certificate, or a certificate of the chain is missing.
    UnknownIssuer,
    /// A CA of the chain may not sign this certificate.
    BadChain,
    /// The certificate is that of a CA.
    CaAsLeaf,
    /// The certificate has been revoked.
    Revoked,
    /// No valid list of revoked certificates covers the certificate.
    RevocationUnknown,
    /// A signature is wrong, its key is too short, or another CA of the same name has signed the certificate.
    BadSignature,
    /// A signature uses an algorithm that is not accepted.
    UnsupportedSignature,
    /// The certificate cannot be read, or is refused for another reason.
    BadCertificate,
    /// The peer has sent no certificate.
    NoCertificate,
    /// The peer speaks something else than TLS.
    NoTls,
    /// The peer speaks another protocol over TLS: ALPN has not agreed on this one.
    WrongProtocol,
    /// The peer does not speak TLS 1.3.
    WrongVersion,
    /// The peer closed the connection during the handshake.
    Interrupted,
    /// Our own configuration cannot be used: a file is missing, say, or a key belongs to another certificate.
    Configuration,
    /// Anything else; the text says what.
    Other,
}

/// A TLS handshake that failed, or a configuration that cannot be used.
///
/// ```no_run
/// # async fn example() {
/// use rpc_runtime::{Client, tls::{TlsError, TlsFault}};
///
/// if let Err(error) = Client::connect("tls://kv.example:7400").await {
///     match TlsError::find(&error).map(TlsError::fault) {
///         Some(TlsFault::Expired) => println!("somebody has to renew a certificate: {error:#}"),
///         _ => println!("{error:#}"),
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    fault: TlsFault,
    is_from_peer: bool,
    text: Box<str>,
}

impl TlsError {
    /// Makes the error of a fault that this side has found.
    pub(super) fn new(fault: TlsFault, text: impl Into<Box<str>>) -> Self {
        Self {
            fault,
            is_from_peer: false,
            text: text.into(),
        }
    }

    /// Makes the error of a fault that the peer has told by an alert.
    pub(super) fn of_alert(fault: TlsFault, text: impl Into<Box<str>>) -> Self {
        Self {
            is_from_peer: true,
            ..Self::new(fault, text)
        }
    }

    /// Makes the error of a configuration that cannot be used.
    pub(super) fn configuration(text: impl Into<Box<str>>) -> Self {
        Self::new(TlsFault::Configuration, text)
    }

    /// Returns what is wrong.
    ///
    /// If the peer has found it, this is what its alert says. An alert says less than the peer knows: `Expired` then also
    /// stands for a certificate that is not valid yet, and `BadCertificate` for a wrong name.
    pub fn fault(&self) -> TlsFault {
        self.fault
    }

    /// Returns true if the peer has refused us, and false if we have refused the peer.
    pub fn is_from_peer(&self) -> bool {
        self.is_from_peer
    }

    /// Finds the TLS error among an error and its sources, such as those of an [`Error`].
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            // The source of an `io::Error` is that of the error within, and not the error within.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(within) => Some(within),
                None => error.source(),
            };
        }
        None
    }

    /// Wraps it for the byte stream whose handshake has failed.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match self.fault {
            TlsFault::Interrupted => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }

    /// True if a certificate is to blame.
    fn is_of_certificate(&self) -> bool {
        use TlsFault as F;
        match self.fault {
            F::Expired | F::NotYetValid | F::WrongName | F::WrongPurpose | F::UnknownIssuer | F::BadChain => {
                true
            }
            F::CaAsLeaf | F::Revoked | F::RevocationUnknown | F::BadSignature | F::UnsupportedSignature => {
                true
            }
            F::BadCertificate | F::NoCertificate => true,
            F::NoTls | F::WrongProtocol | F::WrongVersion | F::Interrupted | F::Configuration | F::Other => {
                false
            }
        }
    }

    /// The code of calls that it stops, and whether another attempt would fail in the same way.
    pub(crate) fn verdict(&self) -> (Code, bool) {
        match self.fault {
            _ if self.is_of_certificate() => (Code::Unauthenticated, true),
            TlsFault::Interrupted | TlsFault::Other => (Code::Unavailable, false),
            _ => (Code::FailedPrecondition, true),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for TlsError {}

/// FAILED_PRECONDITION for a configuration, UNAUTHENTICATED for a certificate.
impl From<TlsError> for Error {
    fn from(error: TlsError) -> Self {
        let (code, _) = error.verdict();
        Self::local(code, "TLS cannot be used").with_source(error)
    }
}
