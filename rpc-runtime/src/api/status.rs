//! Code and Status: a failure as the peer sees it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::Metadata;

/// The kind of a call's outcome: one of the 17 canonical codes of gRPC.
///
/// A handler chooses the code of its [`Status`]; a caller reads it by [`Error::code`](crate::Error::code).
///
/// ```
/// use rpc_runtime::Code;
///
/// assert_eq!(Code::NotFound.to_string(), "NOT_FOUND");
/// assert_eq!(Code::NotFound as u32, 5);
/// assert_eq!(Code::from_number(5), Code::NotFound);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The caller gave up the call.
    Cancelled = 1,
    /// A failure that fits no other code, such as a handler's panic.
    Unknown = 2,
    /// The request is wrong, whatever the state of the server is.
    InvalidArgument = 3,
    /// The deadline passed before the call ended.
    DeadlineExceeded = 4,
    /// Something that the request names does not exist.
    NotFound = 5,
    /// Something that the request would create exists already.
    AlreadyExists = 6,
    /// The server knows the caller, and the caller has no right to do this.
    PermissionDenied = 7,
    /// A limit or a quota is used up.
    ResourceExhausted = 8,
    /// The server is not in the state that the request needs.
    FailedPrecondition = 9,
    /// A concurrent call won: the caller may retry the whole transaction.
    Aborted = 10,
    /// The request reaches past the end of something.
    OutOfRange = 11,
    /// The server has no such procedure.
    Unimplemented = 12,
    /// An invariant is broken, such as a message that cannot be parsed.
    Internal = 13,
    /// The server cannot be reached, or is shutting down.
    Unavailable = 14,
    /// Data is lost or corrupt.
    DataLoss = 15,
    /// The caller has not proved its identity.
    Unauthenticated = 16,
}

impl Code {
    /// Returns the code with this number on the wire; [`Code::Unknown`] for a number without a code.
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

    /// The name of the code, as logs and tools print it: `NOT_FOUND`.
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

/// The error that a handler returns: a code, a text, and optional details and metadata.
///
/// The caller receives it as an [`Error`](crate::Error), and reads it by [`Error::status`](crate::Error::status). A status is one word wide, so a handler's
/// `Result` stays small.
///
/// ```
/// use rpc_runtime::{Code, Context, Result, Status};
///
/// async fn rpc_fetch(_: &Context, key: String) -> Result<String> {
///     if key.is_empty() {
///         return Err(Status::invalid_argument("the key is empty"));
///     }
///     Err(Status::not_found(format!("no key {key:?}")))
/// }
///
/// let status = Status::not_found("no key \"dog\"");
/// assert_eq!(status.code(), Code::NotFound);
/// assert_eq!(status.to_string(), "NOT_FOUND: no key \"dog\"");
/// ```
///
/// # Details
///
/// [`Status::with_details`] adds a message that programs read, beside the text that people read. The bytes that travel are
/// the encoded message and nothing else: no type name goes with them. So caller and handler agree on the type, as they do
/// for requests and replies; say it in the .proto, in the comment of the procedure.
///
/// ```
/// use rpc_runtime::Status;
/// # #[derive(Clone, PartialEq, rpc_runtime::codegen::prost::Message)]
/// # #[prost(prost_path = "rpc_runtime::codegen::prost")]
/// # struct QuotaExceeded { #[prost(uint32, tag = "1")] limit: u32 }
///
/// let status = Status::resource_exhausted("too many keys").with_details(&QuotaExceeded { limit: 100 });
/// // The caller has an `Error`, which has the same method.
/// if let Some(Ok(details)) = status.details_as::<QuotaExceeded>() {
///     assert_eq!(details.limit, 100);
/// }
/// ```
///
/// A procedure with several kinds of details uses one message with a `oneof`, or a `google.protobuf.Any`
/// ([`prost_types::Any`]), which names its type. gRPC carries the same bytes as `grpc-status-details-bin`, and its tools
/// expect an encoded `google.rpc.Status` there, with a list of `Any`: a service that gRPC clients will read gives that
/// message to `with_details`.
///
/// # Other errors
///
/// `?` turns an [`Error`](crate::Error), of a call that the handler made, into a status. Other errors, such as [`std::io::Error`], are
/// not converted: their text may hold paths and addresses that no caller should see, and only the handler knows the code.
/// A missing file may mean NOT_FOUND, INTERNAL or FAILED_PRECONDITION. So a handler says it:
///
/// ```
/// use rpc_runtime::Status;
///
/// # fn read() -> Result<String, Status> {
/// let text = std::fs::read_to_string("/no/such/file").map_err(|error| {
///     eprintln!("cannot read the catalogue: {error}");
///     Status::internal("the catalogue is not readable")
/// })?;
/// # Ok(text)
/// # }
/// # assert_eq!(read().unwrap_err().to_string(), "INTERNAL: the catalogue is not readable");
/// ```
///
/// # Limits
///
/// A status travels in one frame, so details, text and metadata have about 140 KiB together.
///
/// - Of a text of more than 1 KiB, both ends travel, with `…` between them.
/// - Details that do not fit are left out. The text says so, the server logs it, and the rest travels.
/// - Metadata travels within the limits of [`Metadata`], together with the entries of
///   [`Context::add_reply_metadata`](crate::Context::add_reply_metadata). Entries that may not travel are left out, the same
///   way.
#[derive(Clone, PartialEq)]
pub struct Status(Box<StatusParts>);

#[derive(Clone, PartialEq)]
struct StatusParts {
    code: Code,
    message: String,
    details: Bytes,
    metadata: Metadata,
}

const _: () = assert!(size_of::<Status>() == size_of::<usize>());

macro_rules! constructors {
    ($($name:ident: $code:ident, $doc:literal;)*) => {
        /// One constructor for each code.
        impl Status {
            $(
                #[doc = concat!("Creates a status with [`Code::", stringify!($code), "`]: ", $doc, ".")]
                #[must_use]
                pub fn $name(message: impl Into<String>) -> Self {
                    Self::new(Code::$code, message)
                }
            )*
        }
    };
}

impl Status {
    /// Creates a status with `code` and a text for people.
    ///
    /// [`Code::Ok`] is not an error: the status has [`Code::Unknown`] instead.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let code = if code == Code::Ok { Code::Unknown } else { code };
        Self(Box::new(StatusParts {
            code,
            message: message.into(),
            details: Bytes::new(),
            metadata: Metadata::new(),
        }))
    }

    /// Adds `details`, a message that the caller reads by [`Status::details_as`] or [`Error::details_as`](crate::Error::details_as).
    ///
    /// A message whose fields all have their default values has no bytes, and so is the same as no details.
    #[must_use]
    pub fn with_details(self, details: &impl Message) -> Self {
        self.with_details_bytes(details.encode_to_vec())
    }

    /// Adds details that are already encoded, in whatever format the caller reads.
    #[must_use]
    pub fn with_details_bytes(mut self, details: impl Into<Bytes>) -> Self {
        self.0.details = details.into();
        self
    }

    /// Adds metadata that travels beside the status, and replaces earlier metadata of the status.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = metadata;
        self
    }

    /// Says when the caller may try again, in whole milliseconds, rounded up. See [`Status::retry_after`].
    ///
    /// It is for calls that were refused before their handler started, as by [middleware](crate::middleware): a client of this
    /// library then makes the call again by itself, see
    /// [`ClientBuilder::retry_hints`](crate::ClientBuilder::retry_hints). It is an entry of the metadata, so call it after
    /// [`Status::with_metadata`].
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        let millis = wait.as_nanos().div_ceil(1_000_000).min(MAX_MILLIS);
        self.0.metadata.insert(RETRY_AFTER, millis.to_string());
        self
    }

    /// The kind of the failure.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The text for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The bytes of the details; empty if there are none.
    pub fn details(&self) -> &Bytes {
        &self.0.details
    }

    /// Decodes the details as a message of type `M`; `None` if there are no details.
    ///
    /// The bytes do not name their type: if the handler gave a message of another type, the result may be an error, or
    /// a message with unexpected values.
    ///
    /// # Errors
    ///
    /// The bytes are not a message of this type.
    pub fn details_as<M: Message + Default>(&self) -> Option<Result<M, DecodeError>> {
        let details = self.details();
        (!details.is_empty()).then(|| M::decode(details.clone()))
    }

    /// The entries that travel beside the status.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// How long to wait before the call is made again, as the server advises; `None` if it gives no advice.
    ///
    /// It travels as the metadata entry `retry-after-ms`, a decimal number.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rpc_runtime::Status;
    ///
    /// let status = Status::resource_exhausted("slow down").with_retry_after(Duration::from_millis(50));
    /// assert_eq!(status.retry_after(), Some(Duration::from_millis(50)));
    /// assert_eq!(status.metadata().get_str("retry-after-ms"), Some("50"));
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.metadata().get_str(RETRY_AFTER)?;
        // `parse` also takes a sign.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let millis = text.parse().ok().filter(|_| is_number);
        millis.map(Duration::from_millis)
    }
}

constructors! {
    cancelled: Cancelled, "the caller gave up the call";
    unknown: Unknown, "the failure fits no other code";
    invalid_argument: InvalidArgument, "the request is wrong, whatever the state of the server is";
    deadline_exceeded: DeadlineExceeded, "a deadline passed";
    not_found: NotFound, "something that the request names does not exist";
    already_exists: AlreadyExists, "something that the request would create exists already";
    permission_denied: PermissionDenied, "the caller has no right to do this";
    resource_exhausted: ResourceExhausted, "a limit or a quota is used up";
    failed_precondition: FailedPrecondition, "the server is not in the state that the request needs";
    aborted: Aborted, "a concurrent call won, and the caller may retry the whole transaction";
    out_of_range: OutOfRange, "the request reaches past the end of something";
    unimplemented: Unimplemented, "the server does not have this procedure or feature";
    internal: Internal, "an invariant is broken";
    unavailable: Unavailable, "the service cannot be reached now, and the caller may retry";
    data_loss: DataLoss, "data is lost or corrupt";
    unauthenticated: Unauthenticated, "the caller has not proved its identity";
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

/// The same line as `Display`, because `unwrap` and `main` print `Debug`: no details and no metadata.
impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Status {}

/// The key of the metadata entry that says when to try again.
const RETRY_AFTER: &str = "retry-after-ms";
/// The longest wait that travels.
const MAX_MILLIS: u128 = u64::MAX as u128;

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

    #[test]
    fn each_code_but_ok_has_a_constructor() {
        let all = [
            Status::cancelled("x"),
            Status::unknown("x"),
            Status::invalid_argument("x"),
            Status::deadline_exceeded("x"),
            Status::not_found("x"),
            Status::already_exists("x"),
            Status::permission_denied("x"),
            Status::resource_exhausted("x"),
            Status::failed_precondition("x"),
            Status::aborted("x"),
            Status::out_of_range("x"),
            Status::unimplemented("x"),
            Status::internal("x"),
            Status::unavailable("x"),
            Status::data_loss("x"),
            Status::unauthenticated("x"),
        ];
        for (status, number) in all.iter().zip(1..) {
            assert_eq!(status.code() as u32, number);
            assert_eq!(status.message(), "x");
        }
        assert_eq!(all.len(), 16);
    }

    #[test]
    fn details_are_the_bytes_of_the_message_and_nothing_else() {
        let status = Status::not_found("no").with_details(&"typed".to_owned());
        assert_eq!(status.details(), &"typed".to_owned().encode_to_vec());
        assert_eq!(status.details_as::<String>(), Some(Ok("typed".to_owned())));
        assert!(status.details_as::<bool>().unwrap().is_err(), "another type");
        assert_eq!(Status::not_found("no").details_as::<String>(), None);
        let empty = Status::not_found("no").with_details(&String::new());
        assert_eq!(empty.details_as::<String>(), None);
        let bytes = Status::not_found("no").with_details_bytes("raw");
        assert_eq!(bytes.details(), "raw");
    }

    #[test]
    fn a_retry_hint_is_whole_milliseconds_and_replaces_an_earlier_one() {
        let status = Status::unavailable("no").with_metadata(Metadata::from([("k", "v")]));
        assert_eq!(status.retry_after(), None);
        for (wait, millis) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(20), 20),
            (Duration::from_micros(20_001), 21),
            (Duration::MAX, u64::MAX),
        ] {
            let hinted = status.clone().with_retry_after(Duration::from_secs(9));
            let hinted = hinted.with_retry_after(wait);
            assert_eq!(
                hinted.retry_after(),
                Some(Duration::from_millis(millis)),
                "{wait:?}"
            );
            assert_eq!(hinted.metadata().len(), 2);
        }
    }

    #[test]
    fn what_is_no_number_is_no_retry_hint() {
        for text in ["", "-1", "+1", "1.5", "1s", " 1", "18446744073709551616"] {
            let status = Status::unavailable("no").with_metadata(Metadata::from([(RETRY_AFTER, text)]));
            assert_eq!(status.retry_after(), None, "{text:?}");
        }
    }

    #[test]
    fn debug_shows_no_details_and_no_metadata() {
        let status = Status::internal("no")
            .with_details_bytes("secret")
            .with_metadata(Metadata::from([("token", "secret")]));
        assert_eq!(format!("{status:?}"), "INTERNAL: no");
    }
}
