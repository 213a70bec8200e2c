//! The payloads about the connection itself: HELLO, PONG and GOAWAY.

use std::fmt;

use bytes::Bytes;

use super::FrameError;
use crate::{Account, Metadata, api::account};

/// The payload of a HELLO: who the sender is and what it accepts.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Hello {
    /// [`Hello::MAGIC`].
    #[prost(fixed64, tag = "1")]
    pub(crate) magic: u64,
    /// The oldest version of the protocol that this side speaks.
    #[prost(uint32, tag = "2")]
    pub(crate) version_min: u32,
    /// The newest version of the protocol that this side speaks.
    #[prost(uint32, tag = "3")]
    pub(crate) version_max: u32,
    /// The longest frame that this side reads, in bytes without the length prefix.
    #[prost(uint32, tag = "4")]
    pub(crate) max_frame: u32,
    /// The longest message that this side accepts: all fragments together, in bytes before compression.
    #[prost(uint64, tag = "5")]
    pub(crate) max_message: u64,
    /// Maximum number of calls that may be open to this side at once.
    #[prost(uint32, tag = "6")]
    pub(crate) max_calls: u32,
    /// Maximum number of bytes of requests that may be open to this side at once.
    #[prost(uint64, tag = "7")]
    pub(crate) call_bytes: u64,
    /// Number of bytes of one-way requests that this side keeps before it grants more.
    #[prost(uint64, tag = "8")]
    pub(crate) send_bytes: u64,
    /// Number of bytes of each stream that this side keeps before it grants more.
    #[prost(uint64, tag = "9")]
    pub(crate) stream_window: u64,
    /// The compressions that this side can decode.
    #[prost(uint32, repeated, tag = "10")]
    pub(crate) encodings: Vec<u32>,
    /// One bit for each optional feature that this side has.
    #[prost(uint64, tag = "11")]
    pub(crate) features: u64,
    /// Random bytes that tell one run of a process from another.
    #[prost(bytes = "bytes", tag = "12")]
    pub(crate) instance_id: Bytes,
    /// Name and version of the sender's software, for logs.
    #[prost(string, tag = "13")]
    pub(crate) software: String,
    /// Entries about the connection, for example `authorization`.
    #[prost(message, repeated, tag = "14")]
    pub(crate) metadata: Vec<Entry>,
    /// The shortest interval between pings that this side accepts, in milliseconds.
    #[prost(uint32, tag = "15")]
    pub(crate) ping_floor_ms: u32,
    /// From a server: what a terminate on this connection has to prove its user with; empty if it has not to.
    #[prost(bytes = "bytes", tag = "16")]
    pub(crate) challenge: Bytes,
}

impl Hello {
    /// The first field of every HELLO: the bytes `rustrpc` and 1, which make a capture of the stream recognisable.
    pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"rustrpc\x01");
    /// Maximum length of a HELLO's payload, in bytes.
    pub(crate) const MAX_LEN: usize = 16 * 1024;

    /// The entries as [`Metadata`], without those whose keys are reserved.
    ///
    /// # Errors
    ///
    /// [`FrameError::Metadata`] if the entries exceed what one frame may carry.
    pub(crate) fn to_metadata(&self) -> Result<Metadata, FrameError> {
        let entries = self.metadata.iter();
        // Copied, because the connection keeps them, and a slice would pin the read buffer.
        let metadata: Metadata = entries
            .filter(|entry| !Metadata::is_reserved(&entry.key))
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

/// Shows no values of entries, because one of them may be a token.
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
            .field("challenge", &self.challenge)
            .finish()
    }
}

/// One entry of metadata.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Entry {
    /// The key.
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    /// The value, which may be secret.
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

/// The payload of a PONG: the ping that it answers, and the progress of the one-way requests.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Pong {
    /// The 8 bytes of the newest PING.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) ping: Bytes,
    /// The account of the one-way requests that were read before it.
    #[prost(message, optional, tag = "2")]
    pub(crate) progress: Option<Progress>,
}

/// The account of the one-way requests since the connection began.
///
/// It counts only requests that are complete or never will be.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Progress {
    /// The highest id received.
    #[prost(uint64, tag = "1")]
    pub(crate) last_id: u64,
    /// Number of requests received.
    #[prost(uint64, tag = "2")]
    pub(crate) received: u64,
    /// Number of requests whose handler ended with success.
    #[prost(uint64, tag = "3")]
    pub(crate) handled: u64,
    /// Number of requests whose handler ended with an error or panicked.
    #[prost(uint64, tag = "4")]
    pub(crate) failed: u64,
    /// Number of requests whose deadline passed, before the handler started or while it ran.
    #[prost(uint64, tag = "5")]
    pub(crate) expired: u64,
    /// Number of dropped requests, by reason.
    #[prost(message, repeated, tag = "6")]
    pub(crate) dropped: Vec<Dropped>,
}

impl Progress {
    /// Number of requests that wait for their handler or whose handler runs.
    ///
    /// Wrong numbers from a peer do not cause a panic.
    pub(crate) fn pending(&self) -> u64 {
        let dropped = self.dropped.iter().map(|dropped| dropped.count);
        [self.handled, self.failed, self.expired]
            .into_iter()
            .chain(dropped)
            .fold(self.received, u64::saturating_sub)
    }
}

/// The number of one-way requests that were dropped for one reason.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Dropped {
    /// The number of a [`DropReason`], or one that only the peer knows.
    #[prost(uint32, tag = "1")]
    pub(crate) reason: u32,
    /// Number of requests.
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
}

/// Why a one-way request was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum DropReason {
    /// The server has no such procedure.
    UnknownProcedure = 1,
    /// The payload is not a message of the procedure's type.
    BadPayload = 2,
    /// The server had no room for the request.
    Overload = 3,
    /// The server was draining.
    Draining = 4,
    /// A drain or a disconnect dropped the handler before it ended.
    Aborted = 5,
    /// A rule of the server refused the call, such as a right that its caller lacks.
    Refused = 6,
}

impl DropReason {
    /// The number of this reason on the wire.
    pub(crate) const fn number(self) -> u32 {
        self as u32
    }

    /// The reason with this number, if this version knows it.
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::UnknownProcedure,
            2 => Self::BadPayload,
            3 => Self::Overload,
            4 => Self::Draining,
            5 => Self::Aborted,
            6 => Self::Refused,
            _ => return None,
        })
    }
}

/// The payload of a GOAWAY: why no more may be started, and which of the started calls still count.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Goaway {
    /// The number of a [`Reason`], or one that only the peer knows.
    #[prost(uint32, tag = "1")]
    pub(crate) reason: u32,
    /// The highest id of the receiver's own calls that may still be executed.
    #[prost(uint64, tag = "2")]
    pub(crate) last_id: u64,
    /// What happened, as text for a person.
    #[prost(string, tag = "3")]
    pub(crate) text: String,
    /// How long the sender waits for open calls, in milliseconds.
    #[prost(uint64, tag = "4")]
    pub(crate) drain_ms: u64,
    /// After how many milliseconds it is worth connecting again; 0 means unknown.
    #[prost(uint64, tag = "5")]
    pub(crate) resume_in_ms: u64,
    /// The last account of the receiver's one-way requests.
    ///
    /// It covers all of them up to `last_id`, and the end of the stream follows.
    #[prost(message, optional, tag = "6")]
    pub(crate) account: Option<Progress>,
}

/// Why a peer sends a GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum Reason {
    /// It finishes the open calls and stops.
    Drain = 1,
    /// It read something that the protocol does not allow.
    Protocol = 2,
    /// It did not accept the HELLO.
    HelloRejected = 3,
    /// It had to refuse too many requests.
    Excess = 4,
    /// It waited too long for a byte.
    Timeout = 5,
    /// The connection has reached its maximum age.
    MaxAge = 6,
}

impl Reason {
    /// The number of this reason on the wire.
    pub(crate) const fn number(self) -> u32 {
        self as u32
    }

    /// The reason with this number, if this version knows it.
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Drain,
            2 => Self::Protocol,
            3 => Self::HelloRejected,
            4 => Self::Excess,
            5 => Self::Timeout,
            6 => Self::MaxAge,
            // 7 was reserved and never sent; a reader takes it for a drain, as all that it does not know.
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

/// Converts the number of a reason to the public type.
fn public_reason(number: u32) -> account::DropReason {
    match DropReason::from_number(number) {
        Some(DropReason::UnknownProcedure) => account::DropReason::UnknownProcedure,
        Some(DropReason::BadPayload) => account::DropReason::BadPayload,
        Some(DropReason::Overload) => account::DropReason::Overload,
        Some(DropReason::Draining) => account::DropReason::Draining,
        Some(DropReason::Aborted) => account::DropReason::Aborted,
        Some(DropReason::Refused) => account::DropReason::Refused,
        None => account::DropReason::Other(number),
    }
}
