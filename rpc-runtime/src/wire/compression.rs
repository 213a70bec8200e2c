//! Compression: messages are made shorter on their way, and decompressed within bounds.

#[cfg(feature = "lz4")]
mod lz4;
mod outgoing;
#[cfg(all(test, any(feature = "zstd", feature = "lz4")))]
mod tests;
#[cfg(feature = "zstd")]
mod zstd;

use std::fmt;

use bytes::Bytes;

pub(crate) use self::outgoing::{Outgoing, compress, stays_plain};
use crate::wire::frame::Encoded;

/// How messages are compressed on their way, if both sides agree.
///
/// This type, and the method `compression` of [`ClientBuilder`](crate::client::ClientBuilder) and
/// [`ServerBuilder`](crate::server::ServerBuilder), which turns compression on, exist only with a feature: `zstd`, `lz4`, or
/// both. Default: off.
///
#[cfg_attr(feature = "lz4", doc = "```")]
#[cfg_attr(not(feature = "lz4"), doc = "```ignore")]
/// # async fn connect() -> Result<(), rpc_runtime::Error> {
/// use rpc_runtime::{Client, Compression};
///
/// let client: Client = Client::builder("tcp://127.0.0.1:5005").compression(Compression::Lz4).connect().await?;
/// # Ok(())
/// # }
/// ```
///
/// Each side turns it on for itself. That side then announces that it reads compressed messages, and compresses what it
/// sends if the other side has announced the same. The two sides may choose differently. Messages below 1 KiB, and messages
/// that would not become shorter, travel as they are.
///
/// Compression pays on slow links. On fast ones, compressing takes longer than sending. The task that sends or reads the
/// message does the work: about 16 ms for 4 MiB of text with Zstandard. All limits count the length of a message before
/// compression. A message that decompresses to another length than announced fails its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(
    not(any(feature = "zstd", feature = "lz4")),
    allow(unreachable_pub, reason = "without a feature, no user sees the type")
)]
pub enum Compression {
    /// Zstandard, level 1: text becomes about five times shorter, at about 250 MB/s. Needs the feature `zstd`: C code.
    #[cfg(feature = "zstd")]
    #[cfg_attr(docsrs, doc(cfg(feature = "zstd")))]
    Zstd,
    /// LZ4: text becomes about three times shorter, twice as fast. Needs the feature `lz4`: Rust without unsafe code.
    #[cfg(feature = "lz4")]
    #[cfg_attr(docsrs, doc(cfg(feature = "lz4")))]
    Lz4,
}

#[cfg_attr(
    not(any(feature = "zstd", feature = "lz4")),
    allow(unused_variables, reason = "there is no compression to use them for")
)]
impl Compression {
    /// All encodings of this build.
    pub(crate) const ALL: &'static [Self] = &[
        #[cfg(feature = "zstd")]
        Self::Zstd,
        #[cfg(feature = "lz4")]
        Self::Lz4,
    ];

    /// The shortest message that is compressed, in bytes: below it, a frame's other bytes weigh as much.
    pub(crate) const MIN_LEN: usize = 1024;

    /// The number of the encoding on the wire.
    pub(crate) const fn encoding(self) -> u32 {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => 1,
            #[cfg(feature = "lz4")]
            Self::Lz4 => 2,
        }
    }

    /// Returns the encoding with this number on the wire, if this build has it.
    pub(crate) fn of_encoding(encoding: u32) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.encoding() == encoding)
    }

    /// The numbers that a side announces: all that this build can decompress, or none if compression is off.
    pub(crate) fn announced(chosen: Option<Self>) -> Vec<u32> {
        match chosen {
            None => Vec::new(),
            Some(_) => Self::ALL.iter().map(|known| known.encoding()).collect(),
        }
    }

    /// Compresses `message`; `None` if that does not make it shorter.
    pub(crate) fn compress(self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::compress(message),
            #[cfg(feature = "lz4")]
            Self::Lz4 => lz4::compress(message),
        }
    }

    /// Decompresses the message of `len` bytes that was compressed into `compressed`.
    ///
    /// Memory never grows above `len` bytes, nor far above what has been read or decompressed so far.
    pub(crate) fn decompress(self, compressed: &[u8], len: usize) -> Result<Vec<u8>, DecompressError> {
        if compressed.len() > len {
            return Err(DecompressError::Longer {
                compressed: compressed.len(),
                len,
            });
        }
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::decompress(compressed, len),
            #[cfg(feature = "lz4")]
            Self::Lz4 => lz4::decompress(compressed, len),
        }
    }
}

#[cfg_attr(
    not(any(feature = "zstd", feature = "lz4")),
    allow(unused_variables, reason = "there is no compression to name")
)]
impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            #[cfg(feature = "zstd")]
            Self::Zstd => f.write_str("zstd"),
            #[cfg(feature = "lz4")]
            Self::Lz4 => f.write_str("lz4"),
        }
    }
}

impl Encoded {
    /// Returns the message, decompressed if it is compressed.
    ///
    /// Decompressing takes milliseconds: never call this under a connection's lock.
    #[inline]
    pub(crate) fn decompress(self) -> Result<Bytes, DecompressError> {
        if self.encoding() == 0 {
            Ok(self.into_bytes())
        } else {
            self.decompress_bytes()
        }
    }

    /// Apart, so that the common case stays short.
    #[cold]
    fn decompress_bytes(self) -> Result<Bytes, DecompressError> {
        let encoding = self.encoding();
        let Some(compression) = Compression::of_encoding(encoding) else {
            let text = format!("compression {encoding} is unknown");
            return Err(DecompressError::Malformed { text });
        };
        // A length that this machine cannot address is above any limit.
        let len = usize::try_from(self.len()).unwrap_or(usize::MAX);
        compression.decompress(self.bytes(), len).map(Bytes::from)
    }
}

/// The reason why a compressed message cannot be decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    not(any(feature = "zstd", feature = "lz4")),
    expect(
        dead_code,
        reason = "without a feature, nothing is decompressed that could be wrong so"
    )
)]
pub(crate) enum DecompressError {
    /// The compressed bytes are longer than the announced message.
    Longer {
        /// The length of the compressed bytes.
        compressed: usize,
        /// The announced length of the message.
        len: usize,
    },
    /// The message decompresses to another length than announced.
    Length {
        /// The decompressed length.
        decompressed: u64,
        /// The announced length.
        len: usize,
    },
    /// More bytes come out than were announced.
    #[cfg(feature = "zstd")]
    Endless {
        /// The announced length.
        len: usize,
    },
    /// The bytes are not valid in this encoding.
    Malformed {
        /// The text of the decompressor.
        text: String,
    },
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Longer { compressed, len } => {
                write!(
                    f,
                    "message announced as {len} bytes has {compressed} compressed bytes"
                )
            }
            Self::Length { decompressed, len } => {
                write!(
                    f,
                    "message announced as {len} bytes decompresses to {decompressed}"
                )
            }
            #[cfg(feature = "zstd")]
            Self::Endless { len } => write!(f, "message announced as {len} bytes decompresses to more"),
            Self::Malformed { text } => write!(f, "compressed message cannot be decompressed: {text}"),
        }
    }
}

impl std::error::Error for DecompressError {}
