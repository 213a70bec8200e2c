//! Encoding: how messages are compressed.

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "zstd")]
mod zstd;

use bytes::Bytes;
use http::HeaderMap;
use rpc_runtime::Status;

use super::names;

/// How a side compresses its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    #[cfg(feature = "gzip")]
    Gzip,
    #[cfg(feature = "zstd")]
    Zstd,
}

/// What the headers of a call say about compression.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallCompression {
    /// How the messages of the answer are compressed.
    pub(crate) answer: Encoding,
    /// True if the caller may have compressed messages itself.
    is_used: bool,
}

impl CallCompression {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let is_listed = headers.contains_key(&names::ACCEPT_ENCODING);
        let is_used = headers.contains_key(&names::ENCODING);
        Self {
            answer: match is_listed {
                true => Encoding::accepted(headers),
                false => Encoding::Identity,
            },
            is_used,
        }
    }

    /// True if messages may be compressed, which can take long: other calls of the connection are not to wait for that.
    pub(crate) fn may_compute(self) -> bool {
        self.is_used || self.answer != Encoding::Identity
    }

    /// Returns how the messages of the request with these `headers` are compressed.
    ///
    /// # Errors
    ///
    /// UNIMPLEMENTED for an encoding that is not known here.
    pub(crate) fn request(self, headers: &HeaderMap) -> Result<Encoding, Status> {
        match self.is_used {
            true => Encoding::of_request(headers),
            false => Ok(Encoding::Identity),
        }
    }
}

/// The names of all encodings, as the header grpc-accept-encoding has them.
#[cfg(all(feature = "gzip", feature = "zstd"))]
pub(crate) const ACCEPTED: &str = "zstd, gzip, identity";
#[cfg(all(feature = "gzip", not(feature = "zstd")))]
pub(crate) const ACCEPTED: &str = "gzip, identity";
#[cfg(all(feature = "zstd", not(feature = "gzip")))]
pub(crate) const ACCEPTED: &str = "zstd, identity";
#[cfg(not(any(feature = "gzip", feature = "zstd")))]
pub(crate) const ACCEPTED: &str = "identity";

impl Encoding {
    /// All of this build, the best first.
    pub(crate) const ALL: &'static [Self] = &[
        #[cfg(feature = "zstd")]
        Self::Zstd,
        #[cfg(feature = "gzip")]
        Self::Gzip,
        Self::Identity,
    ];

    /// Returns how the messages of a request are compressed.
    ///
    /// # Errors
    ///
    /// UNIMPLEMENTED for an encoding that is not known here.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Self, Status> {
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
            .get(&names::ENCODING)
            .map_or(&b"identity"[..], |value| value.as_bytes());
        Self::named(name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            format!("grpc-encoding {name} is not supported; use one of: {ACCEPTED}")
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

    /// Returns how the answer is compressed: in the best way that the caller lists and that is known here.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let listed = || {
            let values = headers.get_all(&names::ACCEPT_ENCODING).into_iter();
            values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        };
        let is_listed = |one: &Self| listed().any(|name| name.trim_ascii() == one.name().as_bytes());
        let best = Self::ALL.iter().copied().find(is_listed);
        best.unwrap_or(Self::Identity)
    }

    fn named(name: &[u8]) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|one| one.name().as_bytes() == name)
    }

    /// Its name in headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            #[cfg(feature = "gzip")]
            Self::Gzip => "gzip",
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
        }
    }

    /// Compresses a message; none if it is short, or would not become shorter.
    #[cfg_attr(
        not(any(feature = "gzip", feature = "zstd")),
        allow(unused_variables, reason = "there is no compression")
    )]
    pub(crate) fn compress(self, message: &[u8]) -> Option<Bytes> {
        #[cfg(any(feature = "gzip", feature = "zstd"))]
        if message.len() < WORTH_IT {
            return None;
        }
        match self {
            Self::Identity => None,
            #[cfg(feature = "gzip")]
            Self::Gzip => gzip::compress(message),
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::compress(message),
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
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::decompress(message, max),
        }
    }
}

/// Shorter messages go as they are: what compression adds weighs as much as what it saves. It is the rule of native connections.
#[cfg(any(feature = "gzip", feature = "zstd"))]
const WORTH_IT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_and_is_bounded() {
        let message = vec![7; 100_000];
        for encoding in Encoding::ALL.iter().filter(|one| **one != Encoding::Identity) {
            let compressed = encoding.compress(&message).unwrap();
            assert!(compressed.len() < 1000, "{encoding:?}");
            assert_eq!(encoding.decompress(&compressed, 100_000).unwrap(), message);
            let bomb = encoding.decompress(&compressed, 99_999).unwrap_err();
            assert_eq!(bomb.code(), rpc_runtime::Code::ResourceExhausted, "{encoding:?}");
            assert_eq!(encoding.compress(b"short"), None);
            assert!(encoding.decompress(b"nonsense", 100).is_err());
            assert!(encoding.decompress(b"", 100).is_err(), "{encoding:?}");
        }
    }

    #[test]
    fn the_best_known_name_is_chosen_wherever_it_stands() {
        let mut headers = HeaderMap::new();
        assert_eq!(Encoding::accepted(&headers), Encoding::Identity);
        headers.insert("grpc-accept-encoding", "br, identity".parse().unwrap());
        assert_eq!(Encoding::accepted(&headers), Encoding::Identity);
        headers.insert("grpc-accept-encoding", "identity,deflate,gzip".parse().unwrap());
        #[cfg(feature = "gzip")]
        assert_eq!(Encoding::accepted(&headers), Encoding::Gzip);
        headers.append("grpc-accept-encoding", "zstd".parse().unwrap());
        #[cfg(feature = "zstd")]
        assert_eq!(Encoding::accepted(&headers), Encoding::Zstd);
        headers.insert("grpc-encoding", "br".parse().unwrap());
        let refusal = Encoding::of_request(&headers).unwrap_err();
        assert!(refusal.message().ends_with(ACCEPTED), "{}", refusal.message());
    }

    #[test]
    fn all_encodings_are_announced() {
        let names: Vec<_> = Encoding::ALL.iter().map(|one| one.name()).collect();
        assert_eq!(ACCEPTED, names.join(", "));
    }
}
