//! ConnectionFailure: why there is no connection, and the errors of calls that it stops.

use std::{fmt, io, sync::Arc, time::Duration};

use super::{acceptor::JoinFailure, deadline::Deadline};
use crate::{
    Code, Error, Phase,
    conn::Cause,
    net::{Address, Spot, TlsFailure, WrongUnixServer, name_of},
};

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectionFailure {
    /// DEADLINE_EXCEEDED if an attempt took too long. A call that it stopped fails UNAVAILABLE instead.
    code: Code,
    text: String,
    source: Option<Arc<io::Error>>,
    permanent: bool,
    /// True if a server said that it drains.
    drains: bool,
    /// How far an attempt came.
    phase: Phase,
}

impl ConnectionFailure {
    /// The transport could not be made.
    pub(super) fn unreachable(error: io::Error) -> Self {
        let error = Arc::new(error);
        if let Some(failure) = Self::of_tls(&error) {
            return failure;
        }
        if let Some(wrong) = WrongUnixServer::find(&error) {
            return Self {
                code: Code::Unauthenticated,
                permanent: true,
                ..Self::passing(format!("cannot connect: {wrong}"))
            };
        }
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => ": no server listens there",
            io::ErrorKind::NotFound => ": no such socket",
            io::ErrorKind::PermissionDenied => ": this user lacks permission",
            _ => "",
        };
        Self {
            source: Some(error),
            ..Self::passing(format!("cannot connect{hint}"))
        }
    }

    /// TLS failed; `None` if something else did.
    fn of_tls(error: &Arc<io::Error>) -> Option<Self> {
        let failure = TlsFailure::find(error)?;
        Some(Self {
            code: failure.code,
            permanent: failure.is_permanent,
            source: Some(Arc::clone(error)),
            ..Self::passing(format!("cannot connect: {}", failure.text))
        })
    }

    /// The host name was not found.
    pub(super) fn unresolved(address: &Address, error: io::Error) -> Self {
        Self {
            source: Some(Arc::new(error)),
            phase: Phase::Resolve,
            ..Self::passing(format!("cannot resolve {}", host_of(address)))
        }
    }

    /// The look-up of the host took too long.
    pub(super) fn slow_to_resolve(address: &Address, timeout: Duration) -> Self {
        Self {
            code: Code::DeadlineExceeded,
            phase: Phase::Resolve,
            ..Self::passing(format!(
                "cannot resolve {}: no answer within {timeout:?}: ClientBuilder::connect_timeout",
                host_of(address)
            ))
        }
    }

    /// The target refuses all connections, for ever.
    pub(super) fn refused(error: &Error) -> Self {
        Self {
            code: error.code(),
            permanent: true,
            ..Self::passing(error.message().to_owned())
        }
    }

    /// A server does not speak the protocol of its address, or not as it should.
    pub(super) fn of_bridge(failure: JoinFailure) -> Self {
        let status = match failure {
            JoinFailure::Tls(error) => return Self::unreachable(error),
            JoinFailure::Protocol(status) => status,
        };
        Self {
            code: status.code(),
            permanent: status.code() == Code::FailedPrecondition,
            ..Self::passing(format!("cannot connect: {}", status.message()))
        }
    }

    /// Several addresses failed. It is permanent only if `all` of them failed permanently.
    pub(super) fn of_all(failures: &[(&str, &Self)], all: bool) -> Self {
        let texts: Vec<_> = failures
            .iter()
            .map(|(address, failure)| format!("{address}: {failure}"))
            .collect();
        let permanent = all && failures.iter().all(|(_, failure)| failure.permanent);
        let are_slow = failures
            .iter()
            .all(|(_, failure)| failure.code == Code::DeadlineExceeded);
        let code = match failures.last() {
            Some((_, last)) if permanent || are_slow => last.code,
            _ => Code::Unavailable,
        };
        Self {
            code,
            permanent,
            drains: failures.iter().any(|(_, failure)| failure.drains),
            phase: phase_of(failures.iter().map(|(_, failure)| *failure)),
            ..Self::passing(texts.join("; "))
        }
    }

    /// All endpoints behind one address failed, at least one; for one reason, or each for its own.
    pub(super) fn of_spots(spots: &[(Spot, Self)]) -> Self {
        let (_, last) = &spots[spots.len() - 1];
        let last_text = last.to_string();
        if spots.iter().all(|(_, failure)| failure.to_string() == last_text) {
            return last.clone();
        }
        let named: Vec<_> = spots
            .iter()
            .map(|(spot, failure)| (spot.to_string(), failure))
            .collect();
        let named: Vec<_> = named
            .iter()
            .map(|(spot, failure)| (spot.as_str(), *failure))
            .collect();
        Self::of_all(&named, true)
    }

    /// An attempt took too long.
    pub(super) fn slow(timeout: Duration) -> Self {
        Self {
            code: Code::DeadlineExceeded,
            ..Self::passing(format!(
                "cannot connect: no answer within {timeout:?}: ClientBuilder::connect_timeout"
            ))
        }
    }

    /// A handshake failed; `is_late` if its time was over.
    pub(super) fn of_handshake(cause: &Cause, is_late: bool) -> Self {
        match cause {
            Cause::Lost { text, source: None } if is_late => Self {
                code: Code::DeadlineExceeded,
                ..Self::passing(format!(
                    "cannot connect: {text}, or what was left of ClientBuilder::connect_timeout"
                ))
            },
            cause => Self::of(cause),
        }
    }

    /// The user's connector panicked.
    pub(super) fn panicked(text: &str) -> Self {
        Self::passing(format!("cannot connect: the connector panicked: {text}"))
    }

    /// The runtime of the attempt shut down.
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
            Cause::Lost { text, source } => match source.as_ref().and_then(Self::of_tls) {
                Some(failure) => failure,
                None => Self {
                    source: source.clone(),
                    ..Self::passing(format!("connection lost: {text}"))
                },
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
            drains: false,
            phase: Phase::Connect,
        }
    }

    /// This failure, of a server that said that it drains.
    pub(super) fn in_a_drain(self) -> Self {
        Self { drains: true, ..self }
    }

    /// True if another attempt would fail in the same way, as far as is known.
    pub(super) fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// True if a server said that it drains. Another one may have taken over from it.
    pub(super) fn drains(&self) -> bool {
        self.drains
    }

    /// The error of an operation that it stopped.
    pub(super) fn error(&self) -> Error {
        self.explain(Error::local(self.code, self.text.as_str()))
    }

    /// The error of a call that does not wait for another attempt.
    pub(super) fn error_of_call(&self) -> Error {
        let code = match self.code {
            Code::DeadlineExceeded => Code::Unavailable,
            code => code,
        };
        self.explain(Error::local(code, self.text.as_str()))
    }

    /// The error of a call whose time it used up.
    pub(super) fn late_error(&self, code: Code, deadline: &Deadline) -> Error {
        self.explain(Error::local(
            code,
            format!("no connection within {deadline}: {}", self.text),
        ))
    }

    /// The error of a call to a handler's caller after their connection has ended, perhaps because of `why`.
    pub(super) fn of_caller(why: Option<&Self>) -> Error {
        let text = "the caller's connection has ended";
        match why {
            Some(why) => why.explain(Error::local(Code::Unavailable, format!("{text}: {}", why.text))),
            None => Error::local(Code::Unavailable, text),
        }
    }

    fn explain(&self, error: Error) -> Error {
        let error = match self.phase {
            Phase::Resolve => error.with_phase(Phase::Resolve),
            // The call knows its own phase.
            _ => error,
        };
        match &self.source {
            Some(source) => error.with_shared_source(Arc::clone(source) as _),
            None => error,
        }
    }
}

impl fmt::Display for ConnectionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.source.iter().try_for_each(|source| write!(f, ": {source}"))
    }
}

/// How far the attempts at several addresses came.
fn phase_of<'a>(mut failures: impl Iterator<Item = &'a ConnectionFailure>) -> Phase {
    if failures.all(|failure| failure.phase == Phase::Resolve) {
        Phase::Resolve
    } else {
        Phase::Connect
    }
}

/// The name that is looked up.
fn host_of(address: &Address) -> &str {
    match address {
        Address::Tcp(host) | Address::Tls(host) => name_of(host),
        // No other address is looked up.
        _ => "the address",
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn deadline() -> Deadline {
        Deadline::new(Some(Duration::from_millis(50)), None, Instant::now())
    }

    #[test]
    fn a_refused_handshake_is_not_retried() {
        let failure = ConnectionFailure::of(&Cause::HelloRejected {
            text: "peer speaks HTTP/1".into(),
        });
        assert!(failure.is_permanent());
        assert_eq!(
            failure.error().to_string(),
            "FAILED_PRECONDITION: handshake failed: peer speaks HTTP/1"
        );
    }

    #[test]
    fn slow_attempts_and_a_missing_server_are_different_errors() {
        let slow = ConnectionFailure::slow(Duration::from_secs(10));
        let away = ConnectionFailure::unreachable(io::ErrorKind::ConnectionRefused.into());
        for (one, other, code) in [
            (&slow, &slow, Code::DeadlineExceeded),
            (&slow, &away, Code::Unavailable),
            (&away, &slow, Code::Unavailable),
        ] {
            let both = ConnectionFailure::of_all(&[("mem:a", one), ("mem:b", other)], true);
            assert_eq!(both.error().code(), code);
            assert_eq!(both.error_of_call().code(), Code::Unavailable);
        }
    }

    #[test]
    fn a_late_call_names_the_failure_of_its_connection() {
        let error = ConnectionFailure::unreachable(io::ErrorKind::ConnectionRefused.into())
            .late_error(Code::Unavailable, &deadline());
        assert_eq!(
            format!("{error:#}"),
            "UNAVAILABLE: no connection within 50ms (Call::timeout or ClientBuilder::timeout): cannot connect: no server listens there: connection refused"
        );
    }
}
