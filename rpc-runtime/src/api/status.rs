//! Code and Status: a failure as the peer sees it.

use std::fmt;

use bytes::Bytes;

use crate::Metadata;

/// How a call ended, as a number that both peers understand: the 17 canonical codes of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The caller gave the call up.
    Cancelled = 1,
    /// A failure that fits no other code: a handler's panic is one.
    Unknown = 2,
    /// The request makes no sense, whatever the state of the server.
    InvalidArgument = 3,
    /// The deadline passed before the call ended.
    DeadlineExceeded = 4,
    /// What the request names does not exist.
    NotFound = 5,
    /// What the request would create exists already.
    AlreadyExists = 6,
    /// The caller is known, and may not do this.
    PermissionDenied = 7,
    /// A limit or a quota is used up.
    ResourceExhausted = 8,
    /// The server is not in the state that the request needs.
    FailedPrecondition = 9,
    /// The call lost against a concurrent one; the whole transaction may be tried again.
    Aborted = 10,
    /// The request reaches past the end of something.
    OutOfRange = 11,
    /// The server has no such procedure.
    Unimplemented = 12,
    /// An invariant is broken: a message that cannot be parsed is one.
    Internal = 13,
    /// The server cannot be reached, or is going away.
    Unavailable = 14,
    /// Data is lost or corrupt.
    DataLoss = 15,
    /// The caller did not prove who it is.
    Unauthenticated = 16,
}

impl Code {
    /// The code of a number from the wire; [`Code::Unknown`] for one that we do not know.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => Self::Unknown,
        }
    }

    /// The name of the code as logs and tools print it: `NOT_FOUND`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A handler's refusal, as it crosses the wire: a code, a text, and optionally details and metadata.
///
/// One word wide, so a handler's `Result` stays small.
///
/// ```
/// use rpc_runtime::{Code, Status};
///
/// let status = Status::new(Code::NotFound, "no key \"dog\"");
/// assert_eq!(status.to_string(), "NOT_FOUND: no key \"dog\"");
/// ```
#[derive(Clone, PartialEq)]
pub struct Status(Box<Inner>);

#[derive(Clone, PartialEq)]
struct Inner {
    code: Code,
    message: String,
    details: Bytes,
    metadata: Metadata,
}

const _: () = assert!(size_of::<Status>() == size_of::<usize>());

impl Status {
    /// A refusal with `code`; of a text of more than 1 KiB only both ends travel, with `…` between them.
    ///
    /// [`Status::with_details`] and [`Status::with_metadata`] tell the other limits.
    ///
    /// [`Code::Ok`] is no refusal: the peer receives [`Code::Unknown`] instead.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let code = if code == Code::Ok { Code::Unknown } else { code };
        Self(Box::new(Inner {
            code,
            message: message.into(),
            details: Bytes::new(),
            metadata: Metadata::new(),
        }))
    }

    /// The same refusal with `details`: an encoded message that the caller knows how to read.
    ///
    /// A status travels in one frame, so details, text and metadata have about 140 KiB together. Details that do not fit are
    /// left out: the caller is told so in the text, the server logs it, and code, text and metadata travel all the same.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Bytes>) -> Self {
        self.0.details = details.into();
        self
    }

    /// The same refusal with `metadata` beside it.
    ///
    /// At most [`Metadata::MAX_ENTRIES`] entries and [`Metadata::MAX_LEN`] bytes travel, with those of
    /// [`Context::add_reply_metadata`](crate::Context::add_reply_metadata); no key may begin with `rpc-`. What may not travel
    /// is left out, as with [`Status::with_details`].
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = metadata;
        self
    }

    /// What kind of failure this is.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What happened, for a person to read.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// An encoded message that says more, or nothing.
    pub fn details(&self) -> &Bytes {
        &self.0.details
    }

    /// The entries that came with the refusal.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

/// The readable text, for `main` prints it.
impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_number() {
        for number in 0..=16 {
            assert_eq!(Code::from_number(number) as u32, number);
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
    }

    #[test]
    fn ok_is_no_refusal() {
        assert_eq!(Status::new(Code::Ok, "").code(), Code::Unknown);
    }
}
