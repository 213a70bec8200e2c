//! ProxyHeader: the header of the PROXY protocol, version 2, by which a proxy names the client of a connection.
//!
//! The protocol is that of HAProxy: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header says of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// The client's address.
    Client(SocketAddr),
    /// The proxy itself has connected, or the client has no IP address.
    Unknown,
}

/// Why a connection has no valid header of a trusted proxy.
#[derive(Debug)]
pub(crate) enum ProxyFault {
    Untrusted { trusted: String },
    Ended { after: usize },
    Io(io::Error),
    Version1,
    NoHeader { first: u8 },
    Version(u8),
    Command(u8),
    Datagram,
    Family(u8),
    TooShort { len: usize, needed: usize },
    TooLong { len: usize },
}

impl ProxyFault {
    /// True if the peer has just left, as a health check or a port scanner does.
    pub(crate) fn has_left(&self) -> bool {
        matches!(self, Self::Ended { after: 0 } | Self::Io(_))
    }
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted { trusted } => {
                write!(f, "it came from an address that is not trusted: add the proxy's to behind_proxies, which has {trusted}")
            }
            Self::Ended { after } => write!(f, "the connection ended after {after} bytes of the PROXY header"),
            Self::Io(error) => write!(f, "the connection was lost before its PROXY header: {error}"),
            Self::Version1 => f.write_str(
                "its PROXY header has version 1, which is text; let the proxy send version 2 (haproxy: send-proxy-v2)",
            ),
            Self::NoHeader { first } => write!(
                f,
                "it began with byte 0x{first:02x} and not with a PROXY header; let the proxy send one (haproxy: send-proxy-v2), \
                 or listen without behind_proxies"
            ),
            Self::Version(version) => write!(f, "its PROXY header has version {version}; only version 2 is known"),
            Self::Command(command) => write!(f, "its PROXY header has the unknown command {command}"),
            Self::Datagram => f.write_str("its PROXY header names datagrams, and this is a stream"),
            Self::Family(family) => write!(f, "its PROXY header has the unknown address family {family}"),
            Self::TooShort { len, needed } => write!(
                f,
                "its PROXY header announced {len} bytes, and its address alone has {needed}"
            ),
            Self::TooLong { len } => {
                write!(f, "its PROXY header announced {len} bytes, and the limit is {MAX_LEN}")
            }
        }
    }
}

impl ProxyHeader {
    /// Reads a header, and not one byte more. Its TLVs are skipped.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as soon as that is known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what was read of the header.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, ProxyFault> {
        read_signature(stream).await?;
        let mut fixed = [0; FIXED_LEN];
        read_exact(stream, &mut fixed, SIGNATURE.len()).await?;
        let [version_and_command, family_and_protocol, high, low] = fixed;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let kind = Kind::parse(version_and_command, family_and_protocol)?;
        let needed = kind.address_len();
        if len < needed {
            return Err(ProxyFault::TooShort { len, needed });
        }
        if len > MAX_LEN {
            return Err(ProxyFault::TooLong { len });
        }
        let mut rest = vec![0; len];
        read_exact(stream, &mut rest, SIGNATURE.len() + FIXED_LEN).await?;
        Ok(kind.client(&rest))
    }
}

/// Which addresses a header carries.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// None that say who the client is. What is there is skipped.
    None {
        len: usize,
    },
    V4,
    V6,
}

impl Kind {
    fn parse(version_and_command: u8, family_and_protocol: u8) -> Result<Self, ProxyFault> {
        let (version, command) = (version_and_command >> 4, version_and_command & 0x0f);
        if version != 2 {
            return Err(ProxyFault::Version(version));
        }
        match command {
            // LOCAL: the proxy speaks for itself, for example to check the server's health.
            0 => return Ok(Self::None { len: 0 }),
            1 => {}
            other => return Err(ProxyFault::Command(other)),
        }
        match (family_and_protocol >> 4, family_and_protocol & 0x0f) {
            (_, 2) => Err(ProxyFault::Datagram),
            (0, _) => Ok(Self::None { len: 0 }),
            (1, 1) => Ok(Self::V4),
            (2, 1) => Ok(Self::V6),
            // A client of a Unix socket of the proxy: two paths of 108 bytes.
            (3, 1) => Ok(Self::None { len: 216 }),
            _ => Err(ProxyFault::Family(family_and_protocol)),
        }
    }

    /// The bytes of its addresses: of the client and of the proxy, and then of both ports.
    fn address_len(self) -> usize {
        match self {
            Self::None { len } => len,
            Self::V4 => 4 + 4 + 2 + 2,
            Self::V6 => 16 + 16 + 2 + 2,
        }
    }

    /// The client in `rest`, which is at least as long as the addresses.
    fn client(self, rest: &[u8]) -> ProxyHeader {
        let (ip, port) = match self {
            Self::None { .. } => return ProxyHeader::Unknown,
            Self::V4 => (array::<4>(rest, 0).map(IpAddr::from), array::<2>(rest, 8)),
            Self::V6 => (array::<16>(rest, 0).map(IpAddr::from), array::<2>(rest, 32)),
        };
        match (ip, port) {
            (Some(ip), Some(port)) => ProxyHeader::Client(SocketAddr::new(ip, u16::from_be_bytes(port))),
            _ => ProxyHeader::Unknown,
        }
    }
}

fn array<const LEN: usize>(bytes: &[u8], at: usize) -> Option<[u8; LEN]> {
    bytes.get(at..at + LEN)?.try_into().ok()
}

/// Reads the twelve bytes with which a header begins. Other bytes are an error as soon as one of them is there.
async fn read_signature(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), ProxyFault> {
    let mut start = [0; SIGNATURE.len()];
    let mut len = 0;
    while len < start.len() {
        let count = stream.read(&mut start[len..]).await.map_err(ProxyFault::Io)?;
        if count == 0 {
            return Err(ProxyFault::Ended { after: len });
        }
        len += count;
        let start = &start[..len];
        if SIGNATURE.starts_with(start) || VERSION_1.starts_with(start) {
            continue;
        }
        return Err(match start.starts_with(VERSION_1) {
            true => ProxyFault::Version1,
            false => ProxyFault::NoHeader { first: start[0] },
        });
    }
    Ok(())
}

/// Fills `buf`, of which `before` bytes of the header came before.
async fn read_exact(
    stream: &mut (impl AsyncRead + Unpin),
    buf: &mut [u8],
    before: usize,
) -> Result<(), ProxyFault> {
    let mut len = 0;
    while len < buf.len() {
        match stream.read(&mut buf[len..]).await.map_err(ProxyFault::Io)? {
            0 => return Err(ProxyFault::Ended { after: before + len }),
            count => len += count,
        }
    }
    Ok(())
}

/// The first bytes of each header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of each header of version 1.
const VERSION_1: &[u8] = b"PROXY ";
/// The bytes between the signature and the addresses: version and command, family and protocol, length.
const FIXED_LEN: usize = 4;
/// The longest addresses and TLVs. Proxies send some tens of bytes, and a few hundred with TLVs about TLS.
const MAX_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// A header: version and command, family and protocol, the announced length, what follows.
    fn header(version_and_command: u8, family: u8, len: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_and_command, family]);
        bytes.extend(len.to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    /// 192.0.2.1:513 to 198.51.100.2:258.
    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 2, 1, 1, 2];

    /// Reads a header; returns what is left behind it, too.
    async fn read(mut bytes: &[u8]) -> (Result<ProxyHeader, String>, &[u8]) {
        let read = ProxyHeader::read(&mut bytes).await;
        (read.map_err(|fault| fault.to_string()), bytes)
    }

    #[tokio::test]
    async fn a_header_names_the_client_and_takes_no_byte_behind_it() {
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        v6[32..34].copy_from_slice(&[0x1f, 0x90]);
        // A TLV of type 4 (no operation) and two bytes.
        let with_tlv = [&V4[..], &[4, 0, 2, 7, 7]].concat();
        for (header, client) in [
            (
                header(0x21, 0x11, 12, &V4),
                ProxyHeader::Client("192.0.2.1:513".parse().unwrap()),
            ),
            (
                header(0x21, 0x11, 17, &with_tlv),
                ProxyHeader::Client("192.0.2.1:513".parse().unwrap()),
            ),
            (
                header(0x21, 0x21, 36, &v6),
                ProxyHeader::Client("[2001:db8::9]:8080".parse().unwrap()),
            ),
            (header(0x20, 0x00, 0, &[]), ProxyHeader::Unknown),
            // LOCAL: addresses are there and say nothing.
            (header(0x20, 0x11, 12, &V4), ProxyHeader::Unknown),
            (header(0x21, 0x00, 3, &[4, 0, 0]), ProxyHeader::Unknown),
            (header(0x21, 0x31, 216, &[1; 216]), ProxyHeader::Unknown),
            (
                header(0x21, 0x11, 4096, &[&V4[..], &[0; 4084]].concat()),
                ProxyHeader::Client("192.0.2.1:513".parse().unwrap()),
            ),
        ] {
            let bytes = [&header[..], b"behind"].concat();
            let (read, left) = read(&bytes).await;
            assert_eq!((read.unwrap(), left), (client, &b"behind"[..]));
        }
    }

    #[tokio::test]
    async fn a_wrong_header_says_what_is_wrong() {
        for (bytes, says) in [
            (b"PROXY UNKNOWN\r\n".to_vec(), "version 1"),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n".to_vec(), "version 1"),
            (b"PRI * HTTP/2.0\r\n".to_vec(), "began with byte 0x50"),
            (vec![0, 0, 0, 20], "began with byte 0x00"),
            (vec![0x16, 3, 1], "began with byte 0x16"),
            (b"\r\n\r\nGET".to_vec(), "began with byte 0x0d"),
            (header(0x11, 0x11, 12, &V4), "version 1; only version 2"),
            (header(0x31, 0x11, 12, &V4), "version 3"),
            (header(0x22, 0x11, 12, &V4), "command 2"),
            (header(0x21, 0x12, 12, &V4), "datagrams"),
            (header(0x21, 0x41, 12, &V4), "family 65"),
            (
                header(0x21, 0x11, 11, &V4),
                "announced 11 bytes, and its address alone has 12",
            ),
            (
                header(0x21, 0x21, 12, &V4),
                "announced 12 bytes, and its address alone has 36",
            ),
            (
                header(0x21, 0x11, 4097, &V4),
                "announced 4097 bytes, and the limit is 4096",
            ),
            (header(0x21, 0x11, u16::MAX, &V4), "announced 65535 bytes"),
            (header(0x21, 0x11, 13, &V4), "ended after 28 bytes"),
            (header(0x21, 0x11, 12, &V4[..5]), "ended after 21 bytes"),
            (SIGNATURE[..7].to_vec(), "ended after 7 bytes"),
            (b"PROXY".to_vec(), "ended after 5 bytes"),
            (Vec::new(), "ended after 0 bytes"),
        ] {
            let (read, _) = read(&bytes).await;
            let fault = read.unwrap_err();
            assert!(fault.contains(says), "{bytes:?}: {fault}");
        }
    }

    #[tokio::test]
    async fn a_header_that_comes_byte_by_byte_is_read() {
        let bytes = header(0x21, 0x11, 12, &V4);
        let (mut ours, theirs) = tokio::io::duplex(1);
        let writing = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut ours, &bytes)
                .await
                .unwrap();
            ours
        });
        let mut theirs = theirs;
        let read = ProxyHeader::read(&mut theirs).await.unwrap();
        assert_eq!(read, ProxyHeader::Client("192.0.2.1:513".parse().unwrap()));
        writing.await.unwrap();
    }
}
