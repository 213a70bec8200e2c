//! Encoding: how messages are compressed.

use bytes::Bytes;
use http::HeaderMap;
use rpc_runtime::Status;

/// How a side compresses its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    #[cfg(feature = "gzip")]
    Gzip,
}

/// The names of all encodings, as the header grpc-accept-encoding has them.
#[cfg(feature = "gzip")]
pub(crate) const ACCEPTED: &str = "gzip, identity";
#[cfg(not(feature = "gzip"))]
pub(crate) const ACCEPTED: &str = "identity";

impl Encoding {
    /// Returns how the messages of a request are compressed.
    ///
    /// # Errors
    ///
    /// UNIMPLEMENTED for an encoding that is not known here.
    pub(super) fn of_request(headers: &HeaderMap) -> Result<Self, Status> {
        Self::of(headers).map_err(Status::unimplemented)
    }

    /// Returns how the messages of an answer are compressed.
    ///
    /// # Errors
    ///
    /// INTERNAL for an encoding that is not known here, and was not asked for.
    pub(crate) fn of_reply(headers: &HeaderMap) -> Result<Self, Status> {
        Self::of(headers).map_err(Status::internal)
    }

    fn of(headers: &HeaderMap) -> Result<Self, String> {
        let name = headers
            .get("grpc-encoding")
            .map_or(&b"identity"[..], |value| value.as_bytes());
        Self::named(name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            format!("grpc-encoding {name} is not supported, but {ACCEPTED}")
        })
    }

    /// Returns how a client compresses its requests: with gzip if it is asked to, and can.
    pub(crate) fn of_requests(gzip: bool) -> Self {
        match gzip {
            #[cfg(feature = "gzip")]
            true => Self::Gzip,
            _ => Self::Identity,
        }
    }

    /// Returns how the answer may be compressed: in any way that the caller lists and that is known here.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all("grpc-accept-encoding").into_iter();
        let names = accepted.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let known = names.filter_map(|name| Self::named(name.trim_ascii()));
        known.fold(Self::Identity, |chosen, one| match one {
            Self::Identity => chosen,
            #[cfg(feature = "gzip")]
            Self::Gzip => one,
        })
    }

    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"identity" => Some(Self::Identity),
            #[cfg(feature = "gzip")]
            b"gzip" => Some(Self::Gzip),
            _ => None,
        }
    }

    /// Its name in headers; none for no compression.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            #[cfg(feature = "gzip")]
            Self::Gzip => Some("gzip"),
        }
    }

    /// Compresses a message; none if it stays as it is.
    pub(crate) fn compress(self, message: &[u8]) -> Option<Bytes> {
        match self {
            Self::Identity => None,
            #[cfg(feature = "gzip")]
            Self::Gzip => gzip::compress(message),
        }
    }

    /// Decompresses a message, to at most `max` bytes.
    ///
    /// # Errors
    ///
    /// INTERNAL if it is not compressed in this way; RESOURCE_EXHAUSTED if it is longer.
    pub(crate) fn decompress(self, message: &[u8], max: usize) -> Result<Bytes, Status> {
        match self {
            Self::Identity => {
                let _ = (message, max);
                Err(Status::internal(
                    "a message is compressed, and the call has no grpc-encoding",
                ))
            }
            #[cfg(feature = "gzip")]
            Self::Gzip => gzip::decompress(message, max),
        }
    }
}

#[cfg(feature = "gzip")]
mod gzip {
    use std::io::{Read, Write};

    use bytes::Bytes;
    use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
    use rpc_runtime::Status;

    /// Shorter messages are not worth the header of gzip.
    const WORTH_IT: usize = 1024;

    pub(super) fn compress(message: &[u8]) -> Option<Bytes> {
        if message.len() < WORTH_IT {
            return None;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(message).ok()?;
        let compressed = encoder.finish().ok()?;
        (compressed.len() < message.len()).then(|| compressed.into())
    }

    pub(super) fn decompress(message: &[u8], max: usize) -> Result<Bytes, Status> {
        let mut plain = Vec::new();
        let most = (max as u64).saturating_add(1);
        let read = MultiGzDecoder::new(message).take(most).read_to_end(&mut plain);
        read.map_err(|error| Status::internal(format!("a message is no gzip: {error}")))?;
        if plain.len() > max {
            return Err(super::super::messages::too_long(plain.len() as u64, max));
        }
        Ok(plain.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "gzip")]
    #[test]
    fn gzip_comes_back_and_is_bounded() {
        let message = vec![7; 100_000];
        let compressed = Encoding::Gzip.compress(&message).unwrap();
        assert!(compressed.len() < 1000);
        assert_eq!(Encoding::Gzip.decompress(&compressed, 100_000).unwrap(), message);
        let bomb = Encoding::Gzip.decompress(&compressed, 99_999).unwrap_err();
        assert_eq!(bomb.code(), rpc_runtime::Code::ResourceExhausted);
        assert_eq!(Encoding::Gzip.compress(b"short"), None);
        assert!(Encoding::Gzip.decompress(b"nonsense", 100).is_err());
    }

    #[test]
    fn a_known_name_is_chosen_wherever_it_stands() {
        let mut headers = HeaderMap::new();
        assert_eq!(Encoding::accepted(&headers), Encoding::Identity);
        headers.insert("grpc-accept-encoding", "br, identity".parse().unwrap());
        assert_eq!(Encoding::accepted(&headers), Encoding::Identity);
        #[cfg(feature = "gzip")]
        {
            headers.insert("grpc-accept-encoding", "identity, deflate, gzip".parse().unwrap());
            assert_eq!(Encoding::accepted(&headers), Encoding::Gzip);
        }
        headers.insert("grpc-encoding", "br".parse().unwrap());
        assert!(Encoding::of_request(&headers).is_err());
    }
}
