//! PeerCertificate: the verified certificate of a peer, and the names in it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The verified certificate of a peer: one that a trusted CA has signed, and whose key the peer has.
///
/// [`Peer::certificate`](crate::server::Peer::certificate) returns it. A handler that lets callers in by name compares one of
/// the names here:
///
/// ```
/// use rpc_runtime::{Code, Context, Status};
///
/// fn only_billing(cx: &Context) -> Result<(), Status> {
///     let id = cx.peer().certificate().and_then(|certificate| certificate.spiffe_id());
///     match id {
///         Some("spiffe://example.org/billing") => Ok(()),
///         _ => Err(Status::new(Code::PermissionDenied, "only billing may do this")),
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificate(Arc<Names>);

#[derive(PartialEq, Eq)]
struct Names {
    chain: Vec<CertificateDer<'static>>,
    dns_names: Vec<String>,
    uris: Vec<String>,
    common_name: Option<String>,
}

/// Where the certificate of a peer is put when its handshake has ended.
pub(crate) type CertificateSlot = Arc<OnceLock<PeerCertificate>>;

impl PeerCertificate {
    /// Reads the names of a chain that has been verified; `None` if there is none.
    pub(super) fn of_verified(chain: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        let chain: Vec<_> = chain?.iter().map(|one| one.clone().into_owned()).collect();
        // The verifier has parsed it already.
        let leaf = EndEntityCert::try_from(chain.first()?).ok()?;
        let owned = |name: &str| name.to_owned();
        Some(Self(Arc::new(Names {
            dns_names: leaf.valid_dns_names().map(owned).collect(),
            uris: leaf.valid_uri_names().map(owned).collect(),
            common_name: common_name(leaf.subject()),
            chain,
        })))
    }

    /// Returns the certificates in DER, as the peer sent them: its own first, then those that lead to the CA.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.0.chain.iter().map(AsRef::as_ref)
    }

    /// Returns the DNS names among the subject's alternative names.
    pub fn dns_names(&self) -> &[String] {
        &self.0.dns_names
    }

    /// Returns the URIs among the subject's alternative names.
    pub fn uris(&self) -> &[String] {
        &self.0.uris
    }

    /// Returns the SPIFFE id, such as `spiffe://example.org/billing`.
    ///
    /// There is one if the certificate has exactly one URI, and that begins with `spiffe://` and a trust domain, as the
    /// standard of X.509-SVID says.
    pub fn spiffe_id(&self) -> Option<&str> {
        let [uri] = &self.0.uris[..] else { return None };
        let domain = uri.strip_prefix("spiffe://")?.split('/').next()?;
        let is_of_domain =
            |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || ".-_".contains(char);
        (!domain.is_empty() && domain.chars().all(is_of_domain)).then_some(uri)
    }

    /// Returns the common name of the subject; `None` if there is none, or more than one.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("dns_names", &self.0.dns_names)
            .field("uris", &self.0.uris)
            .field("common_name", &self.0.common_name)
            .finish_non_exhaustive()
    }
}

/// Finds the common name in a subject: a sequence of sets of sequences, each of an id and a text.
fn common_name(mut subject: &[u8]) -> Option<String> {
    let mut found = None;
    while !subject.is_empty() {
        let mut set = take(&mut subject, SET)?;
        while !set.is_empty() {
            let mut entry = take(&mut set, SEQUENCE)?;
            let id = take(&mut entry, OBJECT_ID)?;
            if id != COMMON_NAME {
                continue;
            }
            let (tag, text) = take_any(&mut entry)?;
            let is_text = matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING);
            let text = std::str::from_utf8(text).ok().filter(|_| is_text)?;
            if found.replace(text.to_owned()).is_some() {
                return None;
            }
        }
    }
    found
}

/// Takes a value of DER with this tag.
pub(super) fn take<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, value) = take_any(der)?;
    (found == tag).then_some(value)
}

/// Takes a tag of DER and its value.
pub(super) fn take_any<'a>(der: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, len], rest) = der.split_first_chunk()?;
    let (len, rest) = match len {
        0..=0x7f => (usize::from(len), rest),
        0x81 => {
            let (&len, rest) = rest.split_first()?;
            (usize::from(len), rest)
        }
        0x82 => {
            let (&len, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(len)), rest)
        }
        // No certificate is that long.
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(len)?;
    *der = rest;
    Some((tag, value))
}

pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
/// The object id 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

#[cfg(test)]
mod tests {
    use super::*;

    /// The entry of a subject: a set of one sequence.
    fn entry(id: &[u8], tag: u8, text: &str) -> Vec<u8> {
        let wrap = |tag: u8, value: &[u8]| [&[tag, value.len() as u8][..], value].concat();
        let pair = [wrap(OBJECT_ID, id), wrap(tag, text.as_bytes())].concat();
        wrap(SET, &wrap(SEQUENCE, &pair))
    }

    #[test]
    fn the_one_common_name_of_a_subject_is_found() {
        let country = entry(&[0x55, 0x04, 0x06], PRINTABLE_STRING, "DE");
        let name = entry(COMMON_NAME, UTF8_STRING, "billing");
        let other = entry(COMMON_NAME, UTF8_STRING, "root");
        let bytes = entry(COMMON_NAME, 0x1e, "bmp");
        assert_eq!(
            common_name(&[country.clone(), name.clone()].concat()).as_deref(),
            Some("billing")
        );
        assert_eq!(common_name(&country), None);
        assert_eq!(common_name(&[name.clone(), other].concat()), None, "two of them");
        assert_eq!(common_name(&bytes), None, "not a text that we read");
        for len in 1..name.len() {
            assert_eq!(common_name(&name[..len]), None, "cut after {len} bytes");
        }
    }

    #[test]
    fn a_spiffe_id_is_the_only_uri_and_has_a_trust_domain() {
        let of = |uris: &[&str]| {
            PeerCertificate(Arc::new(Names {
                chain: Vec::new(),
                dns_names: Vec::new(),
                uris: uris.iter().map(|&uri| uri.to_owned()).collect(),
                common_name: None,
            }))
        };
        assert_eq!(of(&["spiffe://a.b/c"]).spiffe_id(), Some("spiffe://a.b/c"));
        for uris in [
            &[][..],
            &["spiffe://a/b", "spiffe://a/c"],
            &["https://a/b"],
            &["spiffe://"],
            &["spiffe:///b"],
            &["spiffe://A/b"],
            &["spiffe://a:1/b"],
        ] {
            assert_eq!(of(uris).spiffe_id(), None, "{uris:?}");
        }
    }
}
