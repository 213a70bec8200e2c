//! Errors: from the failure that a connection reports to the error that a caller reads.

use std::time::Duration;

use tokio::runtime::Handle;

use super::{connection_failure::ConnectionFailure, deadline::Deadline};
use crate::{
    Code, Error, Executed, Metadata, Phase,
    api::time_spent::TimeSpent,
    conn::{CallFailure, Cause},
    driver::{SharedConnection, runtime},
    message::decode::DecodeFailure,
};

/// The error of a late call on a connection whose peer has said nothing.
pub(super) fn without_hello(failure: CallFailure, deadline: &Deadline) -> Error {
    let text = late(failure.phase, deadline);
    let text = format!(
        "{text}: the peer has not said HELLO yet, so it hangs, has its ServerBuilder::max_connections, or does not speak \
         this protocol"
    );
    Error::local(Code::DeadlineExceeded, text)
        .with_phase(failure.phase)
        .with_executed(failure.executed)
}

/// The error of a call that failed on its connection.
pub(super) fn of_call(failure: CallFailure, deadline: &Deadline) -> Error {
    let CallFailure {
        cause,
        phase,
        executed,
        ..
    } = failure;
    let error = match cause {
        Cause::Replied(status) => Error::remote(status, executed),
        Cause::Broken(status) => Error::local(status.code(), status.message()),
        Cause::Deadline => Error::local(Code::DeadlineExceeded, late(phase, deadline)),
        Cause::TooLong { len, max } if executed == Executed::No => Error::local(
            Code::ResourceExhausted,
            format!(
                "request of {len} bytes exceeds the peer's limit of {max}: send less, or raise its Limits::max_message"
            ),
        ),
        Cause::TooLong { len, max } => Error::local(
            Code::ResourceExhausted,
            format!(
                "reply of {len} bytes exceeds our limit of {max}: ask for less, or raise our Limits::max_message"
            ),
        ),
        Cause::Idle { after } => Error::local(
            Code::DeadlineExceeded,
            format!("no message moved for {after:?}: Call::idle_timeout"),
        ),
        Cause::Abandoned => Error::local(
            Code::Cancelled,
            "the Sender was dropped without finish(): call finish() when all is sent",
        ),
        Cause::Nested => Error::local(
            Code::ResourceExhausted,
            "the peer takes no more calls for now (its Limits::max_calls or Limits::call_bytes), and nested calls are not \
             queued, to avoid deadlock: try again later",
        ),
        Cause::Oversize { len, max } => oversize(len, max),
        Cause::TooDeep { text } => too_deep(&text),
        Cause::Metadata => too_much_metadata(),
        Cause::QueueFull { max } => too_many_waiting(max),
        Cause::InboxFull { max } => Error::local(
            Code::ResourceExhausted,
            format!(
                "unread replies exceed our limit of {max} bytes: poll the calls, or raise Limits::inbox_bytes"
            ),
        ),
        cause => of_connection(&cause),
    };
    error.with_phase(phase).with_executed(executed)
}

/// Where the time of a failed call went, if its deadline passed, as this side or the server found.
pub(super) fn time_spent(
    failure: &CallFailure,
    deadline: &Deadline,
    shared: &SharedConnection,
) -> Option<TimeSpent> {
    let is_told = match &failure.cause {
        Cause::Deadline => false,
        // If the handler itself gives the code, it means a deadline of its own.
        Cause::Replied(status) => {
            if status.code() != Code::DeadlineExceeded || failure.executed == Executed::Yes {
                return None;
            }
            true
        }
        _ => return None,
    };
    let begun = deadline.begun()?;
    let total = begun.elapsed();
    let Some(times) = failure.times.as_deref() else {
        return Some(TimeSpent::unsent(total));
    };
    let queued_here = times.opened.saturating_sub(shared.time(begun));
    let spent = TimeSpent::sent(queued_here, total);
    Some(match is_told {
        false => spent,
        true => spent.with_server_time(
            Duration::from_micros(times.queue_us),
            Duration::from_micros(times.run_us),
        ),
    })
}

/// The error of an operation that the end of its connection ended.
pub(super) fn of_connection(cause: &Cause) -> Error {
    ConnectionFailure::of(cause).error()
}

/// The error of a stream with a message that is longer than the peer's limit.
pub(super) fn oversize(len: u64, max: u64) -> Error {
    Error::local(
        Code::ResourceExhausted,
        format!(
            "message of {len} bytes exceeds the peer's limit of {max}: send less, or raise its Limits::max_message"
        ),
    )
}

/// The error of a call with a message that is nested too deep; `text` says where.
#[cold]
pub(super) fn too_deep(text: &str) -> Error {
    Error::local(
        Code::InvalidArgument,
        format!("not sent: {text}: send it in parts"),
    )
    .with_phase(Phase::Queue)
}

/// The error of a call whose metadata exceeds the limits.
pub(super) fn too_much_metadata() -> Error {
    let (entries, len) = (Metadata::MAX_ENTRIES, Metadata::MAX_LEN);
    Error::local(
        Code::InvalidArgument,
        format!("metadata exceeds limit of {entries} entries or {len} bytes: put it into the request"),
    )
}

/// The error of a call with a metadata key that may not travel; `text` is what [`Metadata::check_key`] says.
pub(super) fn bad_metadata_key(text: String) -> Error {
    Error::local(Code::InvalidArgument, text)
}

/// The error of a call that found the queue full.
pub(super) fn too_many_waiting(max: usize) -> Error {
    Error::local(
        Code::ResourceExhausted,
        format!("{max} callers wait already: start fewer calls at once, or raise Limits::max_waiting"),
    )
}

/// The error of a call that had no time left when it began.
pub(super) fn expired(deadline: &Deadline) -> Error {
    Error::local(
        Code::DeadlineExceeded,
        format!("no time was left to begin: {deadline}"),
    )
    .with_phase(Phase::Queue)
}

/// The error of a call whose reply cannot be decoded.
#[cold]
pub(super) fn unreadable_reply(failure: DecodeFailure) -> Error {
    let error = match failure {
        DecodeFailure::Compressed(error) => {
            Error::local(Code::Internal, "the reply cannot be decompressed").with_source(error)
        }
        DecodeFailure::Row(_) => Error::local(
            Code::Internal,
            format!("the peer's stream is malformed: {failure}"),
        ),
        DecodeFailure::TooLong { .. } => {
            let text = format!("{failure}: ask for less, or raise our Limits::max_message");
            Error::local(Code::ResourceExhausted, text)
        }
        DecodeFailure::TooLarge(budget) => Error::local(Code::ResourceExhausted, budget.excess("the reply")),
        DecodeFailure::Malformed(error) => {
            let text =
                "the reply is not a message of the procedure's type: use the same .proto on both sides";
            Error::local(Code::Internal, text).with_source(error)
        }
    };
    executed(error)
}

/// The error of a settle whose reply is longer than any account of one-way calls.
pub(super) fn account_too_long() -> Error {
    executed(Error::local(
        Code::Internal,
        "the account of one-way calls is too long",
    ))
}

fn executed(error: Error) -> Error {
    error.with_executed(Executed::Yes).with_phase(Phase::Wait)
}

/// The error of a call that was to go by one connection only, which takes no more calls.
pub(super) fn moved() -> Error {
    Error::local(Code::Unavailable, "the connection takes no more calls").with_phase(Phase::Queue)
}

/// The error of every operation of a closed client.
pub(super) fn closed() -> Error {
    Error::local(Code::Unavailable, "the client is closed: make a new one")
}

/// The error of a call that does not wait for a connection.
pub(super) fn not_connected() -> Error {
    Error::local(
        Code::Unavailable,
        "the connection was lost in the moment of the call",
    )
}

/// Returns the current runtime, for operations that need one: tokio's timers panic outside of it.
///
/// # Errors
///
/// FAILED_PRECONDITION if there is no runtime, or one without timers.
pub(super) fn check_runtime() -> Result<Handle, Error> {
    runtime::with_timers(
        "there is no tokio runtime here to connect in: call from inside one, for example under #[tokio::main]",
    )
}

fn late(phase: Phase, deadline: &Deadline) -> String {
    match phase {
        Phase::Queue | Phase::Connect => {
            format!(
                "not sent within {deadline}: it waited for a slot or for room, as the peer has too many calls open (its \
                 Limits::max_calls, Limits::call_bytes or Limits::send_bytes) or does not keep up (our Limits::high_water)"
            )
        }
        Phase::Write => format!("not wholly written within {deadline}"),
        Phase::Stream => format!("not at its end within {deadline}"),
        _ => format!("no reply within {deadline}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io, sync::Arc};

    use tokio::time::Instant;

    use super::*;
    use crate::Status;

    fn deadline() -> Deadline {
        Deadline::new(Some(Duration::from_millis(50)), None, Instant::now())
    }

    fn failed(cause: Cause, phase: Phase, executed: Executed) -> Error {
        of_call(
            CallFailure {
                cause,
                phase,
                executed,
                times: None,
            },
            &deadline(),
        )
    }

    #[test]
    fn a_refusal_keeps_its_status() {
        let status = Status::new(Code::NotFound, "no key").with_details_bytes("d");
        let error = failed(Cause::Replied(status.clone()), Phase::Wait, Executed::Yes);
        assert_eq!(error.status(), Some(&status));
        assert_eq!(
            (error.executed(), error.phase()),
            (Executed::Yes, Some(Phase::Wait))
        );
    }

    #[test]
    fn a_missed_deadline_says_where_the_call_was() {
        for (phase, text) in [
            (
                Phase::Queue,
                "not sent within 50ms (Call::timeout or ClientBuilder::timeout): it waited for a slot or for room, as the \
                 peer has too many calls open (its Limits::max_calls, Limits::call_bytes or Limits::send_bytes) or does \
                 not keep up (our Limits::high_water)",
            ),
            (
                Phase::Write,
                "not wholly written within 50ms (Call::timeout or ClientBuilder::timeout)",
            ),
            (
                Phase::Wait,
                "no reply within 50ms (Call::timeout or ClientBuilder::timeout)",
            ),
        ] {
            let error = failed(Cause::Deadline, phase, Executed::Maybe);
            assert_eq!((error.code(), error.message()), (Code::DeadlineExceeded, text));
            assert!(error.status().is_none());
        }
    }

    #[test]
    fn a_request_that_is_too_long_names_both_sizes() {
        let error = failed(Cause::TooLong { len: 20, max: 10 }, Phase::Queue, Executed::No);
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert!(
            error
                .message()
                .starts_with("request of 20 bytes exceeds the peer's limit of 10"),
            "{error}"
        );
        let error = failed(Cause::TooLong { len: 20, max: 10 }, Phase::Wait, Executed::Yes);
        assert!(
            error
                .message()
                .starts_with("reply of 20 bytes exceeds our limit of 10"),
            "{error}"
        );
    }

    #[test]
    fn a_lost_connection_is_unavailable_with_the_cause_of_the_os() {
        let source = Some(Arc::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        let error = failed(
            Cause::Lost {
                text: "read failed".into(),
                source,
            },
            Phase::Wait,
            Executed::Maybe,
        );
        assert!(error.is_closed());
        assert_eq!(error.message(), "connection lost: read failed");
        let cause = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>())
            .unwrap();
        assert_eq!(cause.kind(), io::ErrorKind::ConnectionReset);
    }
}
