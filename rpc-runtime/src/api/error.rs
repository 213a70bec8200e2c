//! Error: a failure as the local caller sees it.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::{Code, Metadata, Status, api::time_spent::TimeSpent};

/// Whether the handler of a failed call ran; *ran* means that it was polled at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Executed {
    /// The handler did not run and never will: the call may be made again.
    No,
    /// It may have run, in part or wholly: of a stream that is cut off, say, although messages of it were read.
    Maybe,
    /// The handler ran to its end and returned this error.
    Yes,
}

/// How far a call had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting here for credit, room or a slot.
    Queue,
    /// Waiting for a connection.
    Connect,
    /// Waiting for a connection, of whose server the name could not be looked up.
    Resolve,
    /// Partly written.
    Write,
    /// Written whole, waiting for the reply.
    Wait,
    /// Messages of its streams have gone or come.
    Stream,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Resolve => "resolve",
            Self::Write => "write",
            Self::Wait => "wait",
            Self::Stream => "stream",
        })
    }
}

/// How many one-way calls ended with their connection, of which nothing more will be heard.
///
/// [`Error::lost_sends`] tells them, when a `flush` or a `barrier` fails because of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LostSends {
    no: u64,
    maybe: u64,
}

impl LostSends {
    pub(crate) fn new(no: u64, maybe: u64) -> Self {
        Self { no, maybe }
    }

    /// Those that did not run and never will: they may be sent again.
    pub fn no(&self) -> u64 {
        self.no
    }

    /// Those of which nobody here can know.
    pub fn maybe(&self) -> u64 {
        self.maybe
    }
}

/// `2 never executed, 3 perhaps`
impl fmt::Display for LostSends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} never executed, {} perhaps", self.no, self.maybe)
    }
}

/// A failed call, or a failed start of a client or server: what happened, to which call, where, and whether it ran.
///
/// ```
/// use rpc_runtime::{Code, Error, Executed};
///
/// fn advice(error: &Error) -> &'static str {
///     match (error.code(), error.executed()) {
///         (Code::NotFound, _) => "the handler answered: there is no such key",
///         _ if error.is_timeout() => "the deadline passed",
///         (_, Executed::No) => "the handler did not run: the call may be made again",
///         (_, Executed::Maybe) => "the handler may have run: only repeat what does no harm twice",
///         _ => "the handler ran and failed",
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() {
/// let error = rpc_runtime::Client::connect("mem:nobody").await.unwrap_err();
/// assert_eq!(advice(&error), "the handler did not run: the call may be made again");
/// // One line, then the same line with its causes.
/// assert_eq!(error.to_string(), "UNAVAILABLE: cannot connect: no server listens there (at mem:nobody)");
/// assert!(format!("{error:#}").ends_with(" (at mem:nobody): connection refused"));
/// # }
/// ```
///
/// # How it prints
///
/// `{error}` prints one line: what happened, to which call, where, and whether the handler ran. The causes, such as an error
/// of the operating system, are in [`source`](std::error::Error::source), as reporters like anyhow expect. `{error:#}`
/// prints the line and its causes, and so does `{error:?}`, so that `fn main() -> Result<(), Error>` shows everything. The
/// line names addresses: it is for the operator of this program, not for a peer.
///
/// # In a handler
///
/// A handler that calls another server may end with `?`: its caller is told what [`Error::into_status`] makes of the error.
/// Whatever else is wanted, a handler says by `map_err`:
///
/// ```
/// use rpc_runtime::{Code, Context, Error, Status};
///
/// # async fn fetch_by_another_server() -> Result<String, Error> { Ok(String::new()) }
/// async fn rpc_fetch(cx: &Context) -> Result<String, Status> {
///     // What the other handler answered is forwarded, and a failure of the call itself is UNAVAILABLE.
///     let first = fetch_by_another_server().await?;
///     // The same, but a key that is missing there is no failure here.
///     let second = match fetch_by_another_server().await {
///         Err(error) if error.status().is_some() && error.code() == Code::NotFound => String::new(),
///         other => other?,
///     };
///     // Nothing of the other server is told.
///     let third = fetch_by_another_server()
///         .await
///         .map_err(|_| Status::new(Code::FailedPrecondition, "the store is being moved"))?;
///     Ok(first + &second + &third)
/// }
/// ```
#[derive(Clone)]
pub struct Error(Box<ErrorParts>);

#[derive(Clone)]
struct ErrorParts {
    status: Status,
    remote: bool,
    executed: Executed,
    phase: Option<Phase>,
    procedure: Option<&'static str>,
    peer: Option<Arc<str>>,
    /// Why the first try of a call failed that was made twice.
    resent_after: Option<Box<str>>,
    lost_sends: Option<LostSends>,
    time_spent: Option<TimeSpent>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

const _: () = assert!(size_of::<Error>() <= 2 * size_of::<usize>());

impl Error {
    /// A failure that arose on this side: nothing ran because of it.
    pub(crate) fn local(code: Code, message: impl Into<String>) -> Self {
        Self::new(Status::new(code, message), false, Executed::No)
    }

    /// A failure that the peer reported.
    pub(crate) fn remote(status: Status, executed: Executed) -> Self {
        Self::new(status, true, executed)
    }

    fn new(status: Status, remote: bool, executed: Executed) -> Self {
        Self(Box::new(ErrorParts {
            status,
            remote,
            executed,
            phase: None,
            procedure: None,
            peer: None,
            resent_after: None,
            lost_sends: None,
            time_spent: None,
            source: None,
        }))
    }

    pub(crate) fn with_executed(mut self, executed: Executed) -> Self {
        self.0.executed = executed;
        self
    }

    pub(crate) fn with_phase(mut self, phase: Phase) -> Self {
        self.0.phase = Some(phase);
        self
    }

    pub(crate) fn with_procedure(mut self, procedure: &'static str) -> Self {
        self.0.procedure = Some(procedure);
        self.name_unknown(procedure);
        self
    }

    /// Names the procedure that the server does not have: it knows the id, and the caller the path.
    fn name_unknown(&mut self, procedure: &str) {
        if !self.0.remote || self.code() != Code::Unimplemented {
            return;
        }
        let id_len = "0x0123456789abcdef".len();
        let why = self.message().strip_prefix(NO_PROCEDURE);
        if let Some(why) = why.and_then(|rest| rest.strip_prefix("with id ")?.get(id_len..)) {
            let text = format!("{NO_PROCEDURE}{procedure}{why}");
            let status = &self.0.status;
            self.0.status = Status::new(Code::Unimplemented, text)
                .with_details_bytes(status.details().clone())
                .with_metadata(status.metadata().clone());
        }
    }

    /// Adds what to do to what happened.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        let status = &self.0.status;
        self.0.status = Status::new(status.code(), format!("{}; {hint}", status.message()));
        self
    }

    pub(crate) fn with_peer(mut self, peer: impl Into<Arc<str>>) -> Self {
        self.0.peer = Some(peer.into());
        self
    }

    pub(crate) fn with_resent_after(mut self, cause: &str) -> Self {
        self.0.resent_after = Some(cause.into());
        self
    }

    pub(crate) fn with_time_spent(mut self, spent: Option<TimeSpent>) -> Self {
        self.0.time_spent = spent;
        self
    }

    pub(crate) fn with_lost_sends(mut self, lost: LostSends) -> Self {
        self.0.lost_sends = Some(lost);
        self
    }

    pub(crate) fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.with_shared_source(Arc::new(source))
    }

    /// As [`Error::with_source`], for a cause that many calls share: a lost connection's.
    pub(crate) fn with_shared_source(mut self, source: Arc<dyn StdError + Send + Sync>) -> Self {
        self.0.source = Some(source);
        self
    }

    /// What kind of failure this is.
    pub fn code(&self) -> Code {
        self.0.status.code()
    }

    /// What happened, for a person to read.
    pub fn message(&self) -> &str {
        self.0.status.message()
    }

    /// The encoded message that the handler gave with its refusal, or nothing.
    pub fn details(&self) -> &Bytes {
        self.0.status.details()
    }

    /// Decodes the details as a message of type `M`; `None` if there are no details. See [`Status::details_as`].
    ///
    /// # Errors
    ///
    /// The bytes are not a message of this type.
    pub fn details_as<M: Message + Default>(&self) -> Option<Result<M, DecodeError>> {
        self.0.status.details_as()
    }

    /// The entries that came with the refusal.
    pub fn metadata(&self) -> &Metadata {
        self.0.status.metadata()
    }

    /// How long to wait before the call is made again, as the server advised: see [`Status::retry_after`].
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.status.retry_after()
    }

    /// The peer's refusal, if the peer replied; none if the failure arose here.
    pub fn status(&self) -> Option<&Status> {
        self.0.remote.then_some(&self.0.status)
    }

    /// Whether the handler ran: `No` may be called again without doubt.
    pub fn executed(&self) -> Executed {
        self.0.executed
    }

    /// How far the call had come; none if the failure is no call's.
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }

    /// The procedure of the call, as `package.Service/Name`; none if the failure is no call's.
    pub fn procedure(&self) -> Option<&'static str> {
        self.0.procedure
    }

    /// The address of the peer, if there is one.
    pub fn peer(&self) -> Option<&str> {
        self.0.peer.as_deref()
    }

    /// Where the time of the call went, if its deadline passed; none if nothing is known of that.
    pub fn time_spent(&self) -> Option<&TimeSpent> {
        self.0.time_spent.as_ref()
    }

    /// The one-way calls that were lost with their connection, if that is what failed a `flush` or a `barrier`.
    pub fn lost_sends(&self) -> Option<LostSends> {
        self.0.lost_sends
    }

    /// Whether this call's own deadline passed, as this side or the server found. Not if it was the handler that answered
    /// DEADLINE_EXCEEDED, of a deadline of its own: that is a [`Error::status`] with [`Executed::Yes`].
    pub fn is_timeout(&self) -> bool {
        self.code() == Code::DeadlineExceeded && !self.is_answer()
    }

    /// Whether the connection is to blame: the peer could not be reached, was lost, or is going away, and refused or dropped
    /// the call for that. Not if it was the handler that answered UNAVAILABLE: that is a [`Error::status`] with
    /// [`Executed::Yes`].
    pub fn is_closed(&self) -> bool {
        self.code() == Code::Unavailable && !self.is_answer()
    }

    /// The status that the handler itself gave.
    pub(crate) fn into_answer(self) -> Status {
        self.0.status
    }

    /// Whether the handler itself gave this.
    pub(crate) fn is_answer(&self) -> bool {
        self.0.remote && self.0.executed == Executed::Yes
    }
}

/// Makes the error of a failure on this side, such as that of a client's [middleware](crate::middleware) which refuses a call.
///
/// It says [`Executed::No`]. If middleware returns it after a try that may have run, the caller gets [`Executed::Maybe`].
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::new(status, false, Executed::No)
    }
}

/// One line: `NOT_FOUND: no key "dog" (demo.kv.v1.Kv/rpc_fetch at tcp://127.0.0.1:5005, executed: yes)`.
///
/// The causes are in [`source`](StdError::source). The alternate form `{error:#}` appends those to the line that it does not have yet:
/// `: connection refused`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "{}", inner.status)?;
        if let Some(procedure) = inner.procedure {
            write!(f, " ({procedure}")?;
            if let Some(peer) = &inner.peer {
                write!(f, " at {peer}")?;
            }
            if let (Some(phase), false) = (inner.phase, inner.remote) {
                write!(f, ", phase: {phase}")?;
            }
            let executed = match inner.executed {
                Executed::No => "no",
                Executed::Maybe => "maybe",
                Executed::Yes => "yes",
            };
            write!(f, ", executed: {executed}")?;
            if let Some(spent) = &inner.time_spent {
                write!(f, ", spent: {spent}")?;
            }
            if let Some(cause) = &inner.resent_after {
                write!(f, ", resent after: {cause}")?;
            }
            f.write_str(")")?;
        } else if let Some(peer) = &inner.peer {
            write!(f, " (at {peer})")?;
        }
        if !f.alternate() {
            return Ok(());
        }
        let mut source = self.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !inner.status.message().ends_with(&text) {
                write!(f, ": {text}")?;
            }
            source = cause.source();
        }
        Ok(())
    }
}

/// The same line as `{error:#}`, because `unwrap` and `main` print `Debug`: no details and no metadata.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// How a server begins what it says of a procedure that it does not have; `with id ` and the id follow.
pub(crate) const NO_PROCEDURE: &str = "this server has no procedure ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_in_one_line_the_fault_the_place_and_whether_the_call_ran() {
        let error = Error::local(Code::Unavailable, "connection lost")
            .with_procedure("demo.kv.v1.Kv/rpc_fetch")
            .with_peer("tcp://127.0.0.1:5005")
            .with_phase(Phase::Wait)
            .with_executed(Executed::Maybe)
            .with_source(std::io::Error::other("reset"));
        let line = "UNAVAILABLE: connection lost (demo.kv.v1.Kv/rpc_fetch at tcp://127.0.0.1:5005, phase: wait, executed: maybe)";
        assert_eq!(
            error.to_string(),
            line,
            "its own line, for `source` tells the cause"
        );
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("reset"));
        assert_eq!(format!("{error:#}"), format!("{line}: reset"));
        assert_eq!(format!("{error:?}"), format!("{line}: reset"));
        assert_eq!(format!("{error:#?}"), format!("{line}: reset"));
    }

    #[test]
    fn each_cause_stands_once_in_the_chain() {
        let inner = Error::local(Code::Unavailable, "inner").with_source(std::io::Error::other("reset"));
        let outer = Error::local(Code::Internal, "outer").with_source(inner);
        assert_eq!(outer.to_string(), "INTERNAL: outer");
        assert_eq!(format!("{outer:#}"), "INTERNAL: outer: UNAVAILABLE: inner: reset");
    }

    #[test]
    fn a_call_that_failed_twice_tells_both_reasons() {
        let error = Error::local(Code::DeadlineExceeded, "no reply within 1s")
            .with_procedure("demo.kv.v1.Kv/rpc_fetch")
            .with_peer("mem:kv")
            .with_phase(Phase::Wait)
            .with_executed(Executed::Maybe)
            .with_time_spent(Some(TimeSpent::unsent(Duration::from_secs(1))))
            .with_resent_after("peer is going away: draining");
        assert_eq!(
            error.to_string(),
            "DEADLINE_EXCEEDED: no reply within 1s (demo.kv.v1.Kv/rpc_fetch at mem:kv, phase: wait, executed: maybe, \
             spent: 1s queued here, resent after: peer is going away: draining)"
        );
    }
}
