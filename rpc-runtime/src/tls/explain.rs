//! Explain: from an error of rustls to a [`TlsError`] that says what to do.

use std::{io, net::IpAddr, time::Duration};

use tokio_rustls::rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, pki_types::UnixTime,
};

use super::{
    fault::{TlsError, TlsFault},
    first_bytes::FirstBytes,
};
use crate::{
    api::tls_protocol::TlsProtocol,
    wire::codec::{GRPC_SERVER, Greeting, HTTP2},
};

/// What the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerRole {
    Server,
    Client,
}

impl PeerRole {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// Explains the end of a handshake with a server of `other` protocol; `None` for ours. `first` are the first bytes that it sent.
pub(super) fn handshake_with_server(
    error: io::Error,
    other: Option<&TlsProtocol>,
    first: &FirstBytes,
) -> io::Error {
    if let Some(protocol) = other_protocol(first.get()) {
        let what_to_do = match other {
            None if protocol == HTTP2 => GRPC_SERVER.to_owned(),
            None => "connect by tcp://, or let it listen on tls://".to_owned(),
            Some(TlsProtocol { without_tls, .. }) => match without_tls {
                Some(scheme) => format!("connect by {scheme}://, or let it use TLS"),
                None => "let it use TLS".to_owned(),
            },
        };
        let text = format!("the server speaks {protocol} without TLS: {what_to_do}");
        return TlsError::new(TlsFault::NoTls, text).into_io();
    }
    let alpn = other.map_or(super::ALPN, |other| other.alpn);
    handshake(error, PeerRole::Server, &[alpn])
}

/// Explains the end of a handshake with a client. The protocols `alpn` were offered; `first` are the first bytes that it sent.
pub(super) fn handshake_with_client(error: io::Error, alpn: &[&[u8]], first: &FirstBytes) -> io::Error {
    if let Some(protocol) = other_protocol(first.get()) {
        let what_to_do = match &*protocol {
            OURS => "connect by tls://",
            _ => "let it use TLS",
        };
        let text = format!("the client speaks {protocol} without TLS on a TLS port: {what_to_do}");
        return TlsError::new(TlsFault::NoTls, text).into_io();
    }
    handshake(error, PeerRole::Client, alpn)
}

/// Explains the end of a handshake with `peer`, which speaks TLS.
fn handshake(error: io::Error, peer: PeerRole, alpn: &[&[u8]]) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            let text = format!(
                "the {} closed the connection during the TLS handshake",
                peer.name()
            );
            TlsError::new(TlsFault::Interrupted, text).into_io()
        }
        _ => match of_rustls(&error) {
            Some(Error::NoApplicationProtocol) => wrong_protocol(peer, alpn).into_io(),
            _ => stream(error, peer),
        },
    }
}

/// Explains the end of a stream whose handshake has succeeded on this side. The peer may still refuse it by an alert.
pub(super) fn stream(error: io::Error, peer: PeerRole) -> io::Error {
    match of_rustls(&error) {
        Some(found) => explain(found, peer).into_io(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            let text =
                "the peer closed the connection without TLS's close_notify: what it sent may be cut short";
            io::Error::new(io::ErrorKind::UnexpectedEof, text)
        }
        None => error,
    }
}

/// Finds the error of rustls within that of a stream.
fn of_rustls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Names what a peer speaks instead of TLS; `None` if it speaks TLS, or has said nothing.
fn other_protocol(first: &[u8]) -> Option<String> {
    match first {
        // A record of TLS: its type, then the major version.
        [] | [0x14..=0x17] | [0x14..=0x17, 3, ..] => None,
        // The magic of a HELLO.
        _ if first.windows(8).any(|part| part == b"rustrpc\x01") => Some(OURS.to_owned()),
        _ => Some(match Greeting::read(first) {
            Some(greeting) => greeting.protocol().to_owned(),
            None => format!(
                "something else (its first bytes are \"{}\")",
                first[..first.len().min(8)].escape_ascii()
            ),
        }),
    }
}

/// How errors name our protocol.
const OURS: &str = "this protocol";

fn explain(error: &Error, peer: PeerRole) -> TlsError {
    let who = peer.name();
    match error {
        Error::InvalidCertificate(error) => certificate(error, peer),
        Error::NoCertificatesPresented => TlsError::new(
            TlsFault::NoCertificate,
            format!(
                "the {who} has no certificate, and one is required: give it one by `ClientTlsBuilder::identity`"
            ),
        ),
        Error::AlertReceived(alert) => of_alert(*alert, peer),
        Error::NoApplicationProtocol => wrong_protocol(peer, &[super::ALPN]),
        Error::PeerIncompatible(what) => {
            let fault = match what {
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired => TlsFault::WrongVersion,
                _ => TlsFault::Other,
            };
            let text = match fault {
                TlsFault::WrongVersion => {
                    format!("the {who} does not speak TLS 1.3, and nothing older is accepted")
                }
                _ => format!("the {who} speaks a TLS that has too little in common with ours: {what:?}"),
            };
            TlsError::new(fault, text)
        }
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => TlsError::new(
            TlsFault::WrongVersion,
            format!("the {who} does not speak TLS 1.3, and nothing older is accepted"),
        ),
        Error::InvalidCertRevocationList(list) => TlsError::new(
            TlsFault::RevocationUnknown,
            format!("a list of revoked certificates cannot be used: {list:?}: publish a valid one"),
        ),
        error => TlsError::new(TlsFault::Other, format!("TLS with the {who} failed: {error}")),
    }
}

/// The peer speaks TLS, and inside of it none of the protocols `alpn`.
pub(super) fn wrong_protocol(peer: PeerRole, alpn: &[&[u8]]) -> TlsError {
    let who = peer.name();
    let ids: Vec<_> = alpn
        .iter()
        .map(|id| format!("\"{}\"", id.escape_ascii()))
        .collect();
    let text = format!(
        "the {who} does not offer the protocol {} in ALPN: it speaks another one over TLS",
        ids.join(" or ")
    );
    TlsError::new(TlsFault::WrongProtocol, text)
}

/// This side refuses the peer's certificate.
fn certificate(error: &CertificateError, peer: PeerRole) -> TlsError {
    let whose = format!("the {}'s certificate", peer.name());
    let (fault, text) = match error {
        CertificateError::Expired => (TlsFault::Expired, format!("{whose} has expired: renew it")),
        CertificateError::ExpiredContext { time, not_after } => (
            TlsFault::Expired,
            format!("{whose} has expired {} ago: renew it", between(*not_after, *time)),
        ),
        CertificateError::NotValidYet => (
            TlsFault::NotYetValid,
            format!("{whose} is not valid yet: compare the clocks of both machines"),
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            TlsFault::NotYetValid,
            format!(
                "{whose} is valid in {} and not yet: compare the clocks of both machines",
                between(*time, *not_before)
            ),
        ),
        CertificateError::Revoked => (
            TlsFault::Revoked,
            format!("{whose} has been revoked: get a new one"),
        ),
        CertificateError::UnknownIssuer => (
            TlsFault::UnknownIssuer,
            format!(
                "{whose} is signed by no CA that is trusted here: add that CA to the `Roots`, or let the {} send its whole \
                 chain",
                peer.name()
            ),
        ),
        CertificateError::UnknownRevocationStatus => (
            TlsFault::RevocationUnknown,
            format!("no revocation list covers {whose}: add the list of each CA of its chain to the `Roots`"),
        ),
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => (
            TlsFault::RevocationUnknown,
            format!("the revocation list for {whose} has expired: publish a new one"),
        ),
        CertificateError::BadSignature => (
            TlsFault::BadSignature,
            format!(
                "a signature of {whose} is wrong, its key is too short, or it is signed by another CA of the same name"
            ),
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            TlsFault::UnsupportedSignature,
            format!("a signature of {whose} uses an algorithm that is not accepted, such as SHA-1"),
        ),
        CertificateError::NotValidForName => (
            TlsFault::WrongName,
            format!("{whose} is for other names: connect by one of its names"),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => (
            TlsFault::WrongName,
            format!(
                "{whose} is not for \"{}\" but for {}: connect by one of its names, or give that name to \
                 `ClientTlsBuilder::server_name`",
                expected.to_str(),
                list(presented)
            ),
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            let usage = match peer {
                PeerRole::Server => "serverAuth",
                PeerRole::Client => "clientAuth",
            };
            (
                TlsFault::WrongPurpose,
                format!(
                    "{whose} may not be used by a {}: it needs the extended key usage {usage}",
                    peer.name()
                ),
            )
        }
        CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(webpki::Error::CaUsedAsEndEntity) => (
                TlsFault::CaAsLeaf,
                format!("{whose} is that of a CA: sign another one with it, and use that"),
            ),
            Some(
                why @ (webpki::Error::EndEntityUsedAsCa
                | webpki::Error::PathLenConstraintViolated
                | webpki::Error::NameConstraintViolation),
            ) => (
                TlsFault::BadChain,
                format!("a CA of the chain may not sign {whose}: {why}"),
            ),
            Some(
                webpki::Error::MaximumSignatureChecksExceeded | webpki::Error::MaximumPathBuildCallsExceeded,
            ) => (
                TlsFault::BadChain,
                format!("{whose} comes with a chain that takes too much work to check"),
            ),
            _ => (
                TlsFault::BadCertificate,
                format!("{whose} is refused: {}", other.0),
            ),
        },
        error => (TlsFault::BadCertificate, format!("{whose} is refused: {error}")),
    };
    TlsError::new(fault, text)
}

/// The peer refuses us, or our certificate.
fn of_alert(alert: AlertDescription, peer: PeerRole) -> TlsError {
    use AlertDescription as A;
    let who = peer.name();
    let (fault, why) = match alert {
        A::CertificateExpired => (
            TlsFault::Expired,
            "our certificate has expired, or is not valid yet",
        ),
        A::UnknownCA => (
            TlsFault::UnknownIssuer,
            "our certificate is signed by no CA that it trusts, or it cannot tell whether ours is revoked",
        ),
        A::CertificateRevoked => (TlsFault::Revoked, "our certificate has been revoked"),
        A::UnsupportedCertificate => (TlsFault::WrongPurpose, "our certificate is not for this use"),
        A::DecryptError => (
            TlsFault::BadSignature,
            "a signature of our certificate is wrong or not accepted",
        ),
        A::BadCertificate => (
            TlsFault::BadCertificate,
            "our certificate is bad, or for another name",
        ),
        A::CertificateUnknown => (TlsFault::BadCertificate, "our certificate is not acceptable"),
        A::CertificateRequired => (
            TlsFault::NoCertificate,
            "it requires a certificate, and we have none",
        ),
        A::NoApplicationProtocol => (TlsFault::WrongProtocol, "it does not offer our protocol in ALPN"),
        A::ProtocolVersion => (TlsFault::WrongVersion, "it does not speak TLS 1.3"),
        alert => {
            let text = format!("the {who} ended the TLS connection: {alert:?}");
            return TlsError::of_alert(TlsFault::Other, text);
        }
    };
    TlsError::of_alert(fault, format!("the {who} refuses us: {why}"))
}

/// The time between two moments, to two digits or so.
fn between(from: UnixTime, to: UnixTime) -> String {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    match seconds {
        0..DAYS => format!("{:?}", Duration::from_secs(seconds)),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// From here on a time is given in days, in seconds.
const DAYS: u64 = 2 * 86_400;

/// A name as people write it: rustls gives it as `DnsName("localhost")` or `IpAddress(0::1)`. `None` if it is of another kind, or not of
/// the characters that such names consist of.
fn plain_name(name: &str) -> Option<String> {
    if let Some(ip) = name.strip_prefix("IpAddress(") {
        let ip: IpAddr = ip.strip_suffix(')')?.parse().ok()?;
        return Some(ip.to_string());
    }
    let host = name.strip_prefix("DnsName(\"")?.strip_suffix("\")")?;
    let is_plain = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte));
    (is_plain && host.len() <= NAME).then(|| host.to_owned())
}

/// So many characters of a name are shown.
const NAME: usize = 80;

/// The first names of a certificate. They are the peer's, so they are escaped and cut.
fn list(names: &[String]) -> String {
    let shown: Vec<_> = names
        .iter()
        .take(SHOWN)
        .map(|name| {
            plain_name(name).unwrap_or_else(|| {
                let shown = name.chars().take(NAME).flat_map(char::escape_default);
                shown.collect::<String>().replace("\\\"", "\"")
            })
        })
        .collect();
    match names.len() {
        0 => "no name".to_owned(),
        all if all > SHOWN => format!("{} and {} others", shown.join(", "), all - SHOWN),
        _ => shown.join(", "),
    }
}

/// The most names of a certificate that an error shows.
const SHOWN: usize = 4;
