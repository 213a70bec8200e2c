//! Compression: messages made shorter on their way, and longer again within bounds.

#[cfg(feature = "lz4")]
mod lz4;
mod outgoing;
#[cfg(all(test, any(feature = "zstd", feature = "lz4")))]
mod tests;
#[cfg(feature = "zstd")]
mod zstd;

use std::fmt;

use bytes::Bytes;

pub(crate) use self::outgoing::{Outgoing, pack};
use crate::wire::frame::Encoded;

/// How messages are compressed on their way, where both sides agree to it.
///
/// Off by default; [`ClientBuilder::compression`](crate::ClientBuilder::compression) and
/// [`ServerBuilder::compression`](crate::ServerBuilder::compression) turn it on, each for its own side: that side then
/// says that it takes compressed messages, and compresses what it sends if the other has said so, too. The two may
/// choose differently. Messages below 1 KiB, and those that would not become shorter, travel as they are.
///
/// Each variant needs the feature of its name, so that nobody builds what nobody uses. It pays on slow links: on fast
/// ones, compressing takes longer than sending. It is done by the task that sends or reads the message, which takes
/// about 16 ms for 4 MiB of text in Zstandard. All limits count the length of a message before compression, and a
/// message that unpacks to any other length than it announced fails its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Zstandard, level 1: text becomes about five times shorter, at 250 MB/s or so. Feature `zstd`: C code.
    #[cfg(feature = "zstd")]
    Zstd,
    /// LZ4: text becomes about three times shorter, twice as fast. Feature `lz4`: Rust without unsafe.
    #[cfg(feature = "lz4")]
    Lz4,
}

#[cfg_attr(
    not(any(feature = "zstd", feature = "lz4")),
    allow(unused_variables, reason = "there is no compression to use them for")
)]
impl Compression {
    /// All that this build knows.
    pub(crate) const ALL: &'static [Self] = &[
        #[cfg(feature = "zstd")]
        Self::Zstd,
        #[cfg(feature = "lz4")]
        Self::Lz4,
    ];

    /// From this length on, a message is compressed: below it, a frame's other bytes weigh as much.
    pub(crate) const MIN_LEN: usize = 1024;

    /// The number that stands for it on the wire.
    pub(crate) const fn encoding(self) -> u32 {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => 1,
            #[cfg(feature = "lz4")]
            Self::Lz4 => 2,
        }
    }

    /// What stands behind the number on the wire, if this build knows it.
    pub(crate) fn of_encoding(encoding: u32) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.encoding() == encoding)
    }

    /// The numbers that a side announces which has turned compression on: all that this build can unpack.
    pub(crate) fn announced(chosen: Option<Self>) -> Vec<u32> {
        match chosen {
            None => Vec::new(),
            Some(_) => Self::ALL.iter().map(|known| known.encoding()).collect(),
        }
    }

    /// `message` compressed, if that makes it shorter.
    pub(crate) fn pack(self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::pack(message),
            #[cfg(feature = "lz4")]
            Self::Lz4 => lz4::pack(message),
        }
    }

    /// The message of `len` bytes that was compressed into `packed`.
    ///
    /// Memory is never taken for more than `len` bytes, nor for many more than have come out or in so far.
    pub(crate) fn unpack(self, packed: &[u8], len: usize) -> Result<Vec<u8>, UnpackError> {
        if packed.len() > len {
            return Err(UnpackError::Longer {
                packed: packed.len(),
                len,
            });
        }
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::unpack(packed, len),
            #[cfg(feature = "lz4")]
            Self::Lz4 => lz4::unpack(packed, len),
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
    /// The message that has travelled.
    ///
    /// It takes its time if the message is compressed: never call it under a connection's lock.
    #[inline]
    pub(crate) fn unpack(self) -> Result<Bytes, UnpackError> {
        if self.encoding() == 0 {
            Ok(self.into_bytes())
        } else {
            self.unpack_packed()
        }
    }

    /// Apart, so that the common case stays short.
    #[cold]
    fn unpack_packed(self) -> Result<Bytes, UnpackError> {
        let encoding = self.encoding();
        let Some(compression) = Compression::of_encoding(encoding) else {
            let text = format!("compression {encoding} is unknown");
            return Err(UnpackError::Malformed { text });
        };
        // One that is not even addressable is longer than any limit.
        let len = usize::try_from(self.len()).unwrap_or(usize::MAX);
        compression.unpack(self.bytes(), len).map(Bytes::from)
    }
}

/// Why a compressed message is none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(
    not(any(feature = "zstd", feature = "lz4")),
    expect(
        dead_code,
        reason = "without a feature, nothing is unpacked that could be wrong so"
    )
)]
pub(crate) enum UnpackError {
    /// It is longer than the message that it is said to be.
    Longer {
        /// How long it is.
        packed: usize,
        /// How long the message was said to be.
        len: usize,
    },
    /// It unpacks to another length than it announced.
    Length {
        /// What it unpacks to.
        unpacked: u64,
        /// What was announced.
        len: usize,
    },
    /// It goes on when as much has come out as was announced.
    #[cfg(feature = "zstd")]
    Endless {
        /// What was announced.
        len: usize,
    },
    /// The bytes make no sense.
    Malformed {
        /// In the words of who read them.
        text: String,
    },
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Longer { packed, len } => {
                write!(f, "message of {len} bytes came compressed to {packed}")
            }
            Self::Length { unpacked, len } => {
                write!(f, "compressed message of {len} bytes unpacks to {unpacked}")
            }
            #[cfg(feature = "zstd")]
            Self::Endless { len } => write!(f, "compressed message of {len} bytes unpacks to more"),
            Self::Malformed { text } => write!(f, "compressed message cannot be unpacked: {text}"),
        }
    }
}

impl std::error::Error for UnpackError {}
