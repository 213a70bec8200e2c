//! The messages that peers send each other about the connection itself.

use std::fmt;

use bytes::Bytes;

use super::FrameError;
use crate::{Account, Metadata, api::account};

/// The payload of a HELLO: who speaks, and what it can take.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Hello {
    /// [`Hello::MAGIC`].
    #[prost(fixed64, tag = "1")]
    pub(crate) magic: u64,
    /// The oldest version of the protocol that this side speaks.
    #[prost(uint32, tag = "2")]
    pub(crate) version_min: u32,
    /// The newest.
    #[prost(uint32, tag = "3")]
    pub(crate) version_max: u32,
    /// The longest frame it reads, without the length before it.
    #[prost(uint32, tag = "4")]
    pub(crate) max_frame: u32,
    /// The longest message it takes, over all fragments, uncompressed.
    #[prost(uint64, tag = "5")]
    pub(crate) max_message: u64,
    /// How many calls may be open to it at once.
    #[prost(uint32, tag = "6")]
    pub(crate) max_calls: u32,
    /// How many bytes of requests may be open to it at once.
    #[prost(uint64, tag = "7")]
    pub(crate) call_bytes: u64,
    /// How many bytes of one-way requests it keeps before it grants more.
    #[prost(uint64, tag = "8")]
    pub(crate) send_bytes: u64,
    /// How many bytes of a stream it keeps before it grants more.
    #[prost(uint64, tag = "9")]
    pub(crate) stream_window: u64,
    /// The compressions it can unpack.
    #[prost(uint32, repeated, tag = "10")]
    pub(crate) encodings: Vec<u32>,
    /// A bit for every optional feature that it has.
    #[prost(uint64, tag = "11")]
    pub(crate) features: u64,
    /// Random bytes that tell one run of a process from another.
    #[prost(bytes = "bytes", tag = "12")]
    pub(crate) instance_id: Bytes,
    /// Name and version of its software, for logs.
    #[prost(string, tag = "13")]
    pub(crate) software: String,
    /// Entries about the connection; `authorization` is one.
    #[prost(message, repeated, tag = "14")]
    pub(crate) metadata: Vec<Entry>,
    /// The shortest time between pings that it accepts.
    #[prost(uint32, tag = "15")]
    pub(crate) ping_floor_ms: u32,
}

impl Hello {
    /// What every HELLO begins with: the bytes `rustrpc` and 1, so that a capture of the stream can be recognised.
    pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"rustrpc\x01");
    /// How long a HELLO's payload may be.
    pub(crate) const MAX_LEN: usize = 16 * 1024;

    /// The entries as metadata.
    ///
    /// # Errors
    ///
    /// [`FrameError::Metadata`] if they are more than may travel in one frame.
    pub(crate) fn to_metadata(&self) -> Result<Metadata, FrameError> {
        let entries = self.metadata.iter();
        // Copied, because the connection keeps them, and a slice would pin the read buffer.
        let metadata: Metadata = entries
            .map(|entry| (entry.key.as_str(), Bytes::copy_from_slice(&entry.value)))
            .collect();
        if metadata.fits() {
            Ok(metadata)
        } else {
            Err(FrameError::Metadata {
                entries: metadata.len(),
                len: metadata.byte_len(),
            })
        }
    }
}

/// Leaves the values of the entries out, for one of them may be a token.
impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("magic", &format_args!("{:#018x}", self.magic))
            .field("version_min", &self.version_min)
            .field("version_max", &self.version_max)
            .field("max_frame", &self.max_frame)
            .field("max_message", &self.max_message)
            .field("max_calls", &self.max_calls)
            .field("call_bytes", &self.call_bytes)
            .field("send_bytes", &self.send_bytes)
            .field("stream_window", &self.stream_window)
            .field("encodings", &self.encodings)
            .field("features", &format_args!("{:#x}", self.features))
            .field("instance_id", &self.instance_id)
            .field("software", &self.software)
            .field("metadata", &self.metadata)
            .field("ping_floor_ms", &self.ping_floor_ms)
            .finish()
    }
}

/// One entry of metadata.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Entry {
    /// Its name.
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    /// Its value, which may be secret.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

impl Entry {
    /// The entries of `metadata`, for a HELLO.
    pub(crate) fn list(metadata: &Metadata) -> Vec<Self> {
        let entries = metadata.iter();
        entries
            .map(|(key, value)| Self {
                key: key.to_owned(),
                value: value.clone(),
            })
            .collect()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: [{} bytes]", self.key, self.value.len())
    }
}

/// The payload of a PONG: which ping it answers, and how far the one-way requests are.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Pong {
    /// The 8 bytes of the newest PING.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) ping: Bytes,
    /// The account of the one-way requests that were read before it.
    #[prost(message, optional, tag = "2")]
    pub(crate) progress: Option<Progress>,
}

/// What became of the one-way requests since the connection began; only complete ones count, or those that never will be.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Progress {
    /// The highest id of one that was received.
    #[prost(uint64, tag = "1")]
    pub(crate) last_id: u64,
    /// How many were received.
    #[prost(uint64, tag = "2")]
    pub(crate) received: u64,
    /// How many handlers ended well.
    #[prost(uint64, tag = "3")]
    pub(crate) handled: u64,
    /// How many handlers ended with an error, or panicked.
    #[prost(uint64, tag = "4")]
    pub(crate) failed: u64,
    /// How many deadlines passed, before the handler began or while it ran.
    #[prost(uint64, tag = "5")]
    pub(crate) expired: u64,
    /// How many were dropped, by reason.
    #[prost(message, repeated, tag = "6")]
    pub(crate) dropped: Vec<Dropped>,
}

impl Progress {
    /// How many wait for their handler, or for its end. A peer that cannot count must not make us panic.
    pub(crate) fn pending(&self) -> u64 {
        let dropped = self.dropped.iter().map(|dropped| dropped.count);
        [self.handled, self.failed, self.expired]
            .into_iter()
            .chain(dropped)
            .fold(self.received, u64::saturating_sub)
    }
}

/// How many one-way requests were dropped for one reason.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Dropped {
    /// The number of a [`DropReason`], or one that only the peer knows.
    #[prost(uint32, tag = "1")]
    pub(crate) reason: u32,
    /// How many.
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
}

/// Why a one-way request was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum DropReason {
    /// The server has no such procedure.
    UnknownProcedure = 1,
    /// The payload is no message of the procedure's type.
    BadPayload = 2,
    /// The server had no room for it.
    Overload = 3,
    /// The server was draining.
    Draining = 4,
    /// Its handler was dropped before its end, by a drain or a disconnect.
    Aborted = 5,
}

impl DropReason {
    /// The number that stands for this reason on the wire.
    pub(crate) const fn number(self) -> u32 {
        self as u32
    }

    /// The reason of a number, if it is known.
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::UnknownProcedure,
            2 => Self::BadPayload,
            3 => Self::Overload,
            4 => Self::Draining,
            5 => Self::Aborted,
            _ => return None,
        })
    }
}

/// The payload of a GOAWAY: why no more may be started, and up to where what was started counts.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Goaway {
    /// The number of a [`Reason`], or one that only the peer knows.
    #[prost(uint32, tag = "1")]
    pub(crate) reason: u32,
    /// The highest id of the receiver's that may still be executed.
    #[prost(uint64, tag = "2")]
    pub(crate) last_id: u64,
    /// What happened, for a person to read.
    #[prost(string, tag = "3")]
    pub(crate) text: String,
    /// How long the sender waits for what is open.
    #[prost(uint64, tag = "4")]
    pub(crate) drain_ms: u64,
    /// When it is worth connecting again; 0 is unknown.
    #[prost(uint64, tag = "5")]
    pub(crate) resume_in_ms: u64,
    /// The last account of the receiver's one-way requests: all up to `last_id` are in it, and the end of the stream
    /// follows.
    #[prost(message, optional, tag = "6")]
    pub(crate) account: Option<Progress>,
}

/// Why a peer goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum Reason {
    /// It finishes what is open and stops.
    Drain = 1,
    /// It read something that the protocol does not allow.
    Protocol = 2,
    /// It did not accept the HELLO.
    HelloRejected = 3,
    /// It had to refuse too much.
    Excess = 4,
    /// It waited too long for a byte.
    Timeout = 5,
    /// The connection is as old as it may become.
    MaxAge = 6,
    /// The receiver may not use it.
    Denied = 7,
}

impl Reason {
    /// The number that stands for this reason on the wire.
    pub(crate) const fn number(self) -> u32 {
        self as u32
    }

    /// The reason of a number, if it is known.
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Drain,
            2 => Self::Protocol,
            3 => Self::HelloRejected,
            4 => Self::Excess,
            5 => Self::Timeout,
            6 => Self::MaxAge,
            7 => Self::Denied,
            _ => return None,
        })
    }
}

impl From<Progress> for Account {
    fn from(progress: Progress) -> Self {
        let dropped = progress.dropped.iter();
        Self::new(
            progress.received,
            progress.handled,
            progress.failed,
            progress.expired,
            dropped.map(|dropped| (public_reason(dropped.reason), dropped.count)),
        )
    }
}

/// The reason as users see it.
fn public_reason(number: u32) -> account::DropReason {
    match DropReason::from_number(number) {
        Some(DropReason::UnknownProcedure) => account::DropReason::UnknownProcedure,
        Some(DropReason::BadPayload) => account::DropReason::BadPayload,
        Some(DropReason::Overload) => account::DropReason::Overload,
        Some(DropReason::Draining) => account::DropReason::Draining,
        Some(DropReason::Aborted) => account::DropReason::Aborted,
        None => account::DropReason::Other(number),
    }
}
