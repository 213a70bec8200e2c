//! From what a connection says of a failure to the error that a caller reads.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::deadline::Deadline;
use crate::{
    Code, Error, Executed, Metadata, Phase,
    conn::{Cause, Failure},
    driver::runtime,
    net::{Address, Spot, name_of},
};

/// The error of a call that was late on a connection whose peer has never said anything.
pub(super) fn without_hello(failure: Failure, deadline: &Deadline) -> Error {
    let text = late(failure.phase, deadline);
    let text =
        format!("{text}: the peer has not said HELLO yet, so it hangs, or is no server of this protocol");
    Error::local(Code::DeadlineExceeded, text)
        .with_phase(failure.phase)
        .with_executed(failure.executed)
}

/// The error of a call that failed on its connection.
pub(super) fn of_call(failure: Failure, deadline: &Deadline) -> Error {
    let Failure {
        cause,
        phase,
        executed,
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
            format!("no message moved for {after:?}, the call's idle timeout"),
        ),
        Cause::Abandoned => Error::local(
            Code::Cancelled,
            "the Sender was dropped without finish(): call finish() when all is sent",
        ),
        Cause::Nested => Error::local(
            Code::ResourceExhausted,
            "the peer takes no more calls for now, and one inside of a handler must not wait for those around it",
        ),
        Cause::Oversize { len, max } => oversize(len, max),
        Cause::TooDeep { text } => too_deep(&text),
        Cause::Metadata => too_much_metadata(),
        Cause::QueueFull { max } => too_many_waiting(max),
        Cause::InboxFull { max } => Error::local(
            Code::ResourceExhausted,
            format!(
                "replies that nobody has taken yet exceed our limit of {max} bytes: poll the calls, or raise Limits::inbox_bytes"
            ),
        ),
        cause => of_connection(&cause),
    };
    error.with_phase(phase).with_executed(executed)
}

/// The error of something that its connection's end has ended.
pub(super) fn of_connection(cause: &Cause) -> Error {
    Obstacle::of(cause).error()
}

/// The error of a stream with a message that the peer does not take.
pub(super) fn oversize(len: u64, max: u64) -> Error {
    Error::local(
        Code::ResourceExhausted,
        format!(
            "message of {len} bytes exceeds the peer's limit of {max}: send less, or raise its Limits::max_message"
        ),
    )
}

/// The error of a call with a message that is nested deeper than anybody reads, which is said in `text`.
#[cold]
pub(super) fn too_deep(text: &str) -> Error {
    Error::local(
        Code::InvalidArgument,
        format!("not sent: {text}: send it in parts"),
    )
    .with_phase(Phase::Queue)
}

/// The error of a call whose metadata may not travel.
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

/// The error of everything that is asked of a client after its end.
pub(super) fn closed() -> Error {
    Error::local(Code::Unavailable, "the client is closed: make a new one")
}

/// The error of everything that is asked of a client to a handler's caller, after their connection has ended.
pub(super) fn gone(why: Option<&Obstacle>) -> Error {
    let text = "the caller's connection has ended";
    match why {
        Some(why) => why.explain(Error::local(Code::Unavailable, format!("{text}: {}", why.text))),
        None => Error::local(Code::Unavailable, text),
    }
}

/// The runtime that is here, for what needs one: tokio's timers panic outside of it.
///
/// # Errors
///
/// FAILED_PRECONDITION if there is none, or one without timers.
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
                 Limits::max_calls) or does not keep up"
            )
        }
        Phase::Write => format!("not wholly written within {deadline}"),
        Phase::Stream => format!("not at its end within {deadline}"),
        _ => format!("no reply within {deadline}"),
    }
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Obstacle {
    /// DEADLINE_EXCEEDED if an attempt took too long, which a call that it stopped does not say.
    code: Code,
    text: String,
    source: Option<Arc<io::Error>>,
    permanent: bool,
    /// How far an attempt came.
    phase: Phase,
}

impl Obstacle {
    /// The transport does not come about.
    pub(super) fn unreachable(error: io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => ": nobody listens there",
            io::ErrorKind::NotFound => ": there is no such socket",
            io::ErrorKind::PermissionDenied => ": this user may not",
            _ => "",
        };
        Self {
            source: Some(Arc::new(error)),
            ..Self::passing(format!("cannot connect{hint}"))
        }
    }

    /// The name of a host is not found.
    pub(super) fn unresolved(address: &Address, error: io::Error) -> Self {
        Self {
            source: Some(Arc::new(error)),
            phase: Phase::Resolve,
            ..Self::passing(format!("cannot resolve {}", host_of(address)))
        }
    }

    /// The look-up of a host took too long.
    pub(super) fn slow_to_resolve(address: &Address, timeout: Duration) -> Self {
        Self {
            code: Code::DeadlineExceeded,
            phase: Phase::Resolve,
            ..Self::passing(format!(
                "cannot resolve {}: no answer within {timeout:?}",
                host_of(address)
            ))
        }
    }

    /// Nothing is served there, and never will be again.
    pub(super) fn refused(error: &Error) -> Self {
        Self {
            code: error.code(),
            permanent: true,
            ..Self::passing(error.message().to_owned())
        }
    }

    /// Several addresses failed, each for its own reason; for good only if it was `all` of them that did so.
    pub(super) fn of_all(obstacles: &[(&str, &Self)], all: bool) -> Self {
        let texts: Vec<_> = obstacles
            .iter()
            .map(|(address, obstacle)| format!("{address}: {obstacle}"))
            .collect();
        let permanent = all && obstacles.iter().all(|(_, obstacle)| obstacle.permanent);
        let are_slow = obstacles
            .iter()
            .all(|(_, obstacle)| obstacle.code == Code::DeadlineExceeded);
        let code = match obstacles.last() {
            Some((_, last)) if permanent || are_slow => last.code,
            _ => Code::Unavailable,
        };
        Self {
            code,
            permanent,
            phase: phase_of(obstacles.iter().map(|(_, obstacle)| *obstacle)),
            ..Self::passing(texts.join("; "))
        }
    }

    /// All places behind one address failed, of which there is at least one: for one reason, or each for its own.
    pub(super) fn of_spots(spots: &[(Spot, Self)]) -> Self {
        let (_, last) = &spots[spots.len() - 1];
        let last_text = last.to_string();
        if spots
            .iter()
            .all(|(_, obstacle)| obstacle.to_string() == last_text)
        {
            return last.clone();
        }
        let named: Vec<_> = spots
            .iter()
            .map(|(spot, obstacle)| (spot.to_string(), obstacle))
            .collect();
        let named: Vec<_> = named
            .iter()
            .map(|(spot, obstacle)| (spot.as_str(), *obstacle))
            .collect();
        Self::of_all(&named, true)
    }

    /// An attempt took too long.
    pub(super) fn slow(timeout: Duration) -> Self {
        Self {
            code: Code::DeadlineExceeded,
            ..Self::passing(format!("cannot connect: no answer within {timeout:?}"))
        }
    }

    /// A handshake failed; `is_late` if its time was over.
    pub(super) fn of_handshake(cause: &Cause, is_late: bool) -> Self {
        match cause {
            Cause::Lost { text, source: None } if is_late => Self {
                code: Code::DeadlineExceeded,
                ..Self::passing(format!("cannot connect: {text}"))
            },
            cause => Self::of(cause),
        }
    }

    /// The user's connector panicked.
    pub(super) fn panicked(text: &str) -> Self {
        Self::passing(format!("cannot connect: the connector panicked: {text}"))
    }

    /// The task that made the attempt is gone: its runtime shut down.
    pub(super) fn abandoned() -> Self {
        Self::passing("the runtime that was connecting shut down".to_owned())
    }

    /// A connection ended, or its handshake failed.
    pub(super) fn of(cause: &Cause) -> Self {
        match cause {
            Cause::HelloRejected { .. } => Self {
                code: Code::FailedPrecondition,
                permanent: true,
                ..Self::passing(cause.to_string())
            },
            Cause::Protocol { .. } => Self {
                code: Code::Internal,
                ..Self::passing(cause.to_string())
            },
            Cause::Lost { text, source } => Self {
                source: source.clone(),
                ..Self::passing(format!("connection lost: {text}"))
            },
            cause => Self::passing(cause.to_string()),
        }
    }

    fn passing(text: String) -> Self {
        Self {
            code: Code::Unavailable,
            text,
            source: None,
            permanent: false,
            phase: Phase::Connect,
        }
    }

    /// Whether another attempt would end the same way, as far as anyone can tell.
    pub(super) fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// The error of what this stopped.
    pub(super) fn error(&self) -> Error {
        self.explain(Error::local(self.code, self.text.as_str()))
    }

    /// The error of a call that does not wait until this is over.
    pub(super) fn error_of_call(&self) -> Error {
        let code = match self.code {
            Code::DeadlineExceeded => Code::Unavailable,
            code => code,
        };
        self.explain(Error::local(code, self.text.as_str()))
    }

    /// The error of a call whose time this used up.
    pub(super) fn late_error(&self, code: Code, deadline: &Deadline) -> Error {
        self.explain(Error::local(
            code,
            format!("no connection within {deadline}: {}", self.text),
        ))
    }

    fn explain(&self, error: Error) -> Error {
        let error = match self.phase {
            Phase::Resolve => error.with_phase(Phase::Resolve),
            // The caller knows how far it was.
            _ => error,
        };
        match &self.source {
            Some(source) => error.with_shared_source(Arc::clone(source) as _),
            None => error,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.source.iter().try_for_each(|source| write!(f, ": {source}"))
    }
}

/// How far the attempts at several addresses came.
fn phase_of<'a>(mut obstacles: impl Iterator<Item = &'a Obstacle>) -> Phase {
    if obstacles.all(|obstacle| obstacle.phase == Phase::Resolve) {
        Phase::Resolve
    } else {
        Phase::Connect
    }
}

/// The name that is looked up.
fn host_of(address: &Address) -> &str {
    match address {
        Address::Tcp(host) => name_of(host),
        // Nothing else is looked up.
        _ => "the address",
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use tokio::time::Instant;

    use super::*;
    use crate::Status;

    fn deadline() -> Deadline {
        Deadline::new(Some(Duration::from_millis(50)), None, Instant::now())
    }

    fn failed(cause: Cause, phase: Phase, executed: Executed) -> Error {
        of_call(
            Failure {
                cause,
                phase,
                executed,
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
                "not sent within 50ms: it waited for a slot or for room, as the peer has too many calls open (its \
                 Limits::max_calls) or does not keep up",
            ),
            (Phase::Write, "not wholly written within 50ms"),
            (Phase::Wait, "no reply within 50ms"),
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

    #[test]
    fn a_refused_handshake_is_nothing_to_try_again() {
        let obstacle = Obstacle::of(&Cause::HelloRejected {
            text: "peer speaks HTTP/1".into(),
        });
        assert!(obstacle.is_permanent());
        assert_eq!(
            obstacle.error().to_string(),
            "FAILED_PRECONDITION: handshake failed: peer speaks HTTP/1"
        );
    }

    #[test]
    fn attempts_that_were_all_too_slow_are_told_from_a_server_that_is_away() {
        let slow = Obstacle::slow(Duration::from_secs(10));
        let away = Obstacle::unreachable(io::ErrorKind::ConnectionRefused.into());
        for (one, other, code) in [
            (&slow, &slow, Code::DeadlineExceeded),
            (&slow, &away, Code::Unavailable),
            (&away, &slow, Code::Unavailable),
        ] {
            let both = Obstacle::of_all(&[("mem:a", one), ("mem:b", other)], true);
            assert_eq!(both.error().code(), code);
            assert_eq!(both.error_of_call().code(), Code::Unavailable);
        }
    }

    #[test]
    fn a_late_call_tells_what_kept_the_connection_away() {
        let error = Obstacle::unreachable(io::ErrorKind::ConnectionRefused.into())
            .late_error(Code::Unavailable, &deadline());
        assert_eq!(
            format!("{error:#}"),
            "UNAVAILABLE: no connection within 50ms: cannot connect: nobody listens there: connection refused"
        );
    }
}
