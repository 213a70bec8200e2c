//! History: the outcomes that the callers of a run saw.

mod flow;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rpc_runtime::{Account, Code, Error, Executed};

pub use self::flow::{Flow, Moving};

/// The outcomes that the callers of a run saw: each call, and the reports about one-way calls.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The calls, in any order.
    pub records: Vec<Record>,
    /// The stretches of one-way calls, by number.
    pub stretches: Vec<Stretch>,
    /// Events that must never happen, one line each.
    pub strange: Vec<String>,
}

/// A call, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// A number that no other call of the run has.
    pub token: u64,
    /// The stub that was called.
    pub procedure: &'static str,
    /// The client that made it.
    pub client: u32,
    /// The kind of the call.
    pub kind: Kind,
    /// Its outcome.
    pub outcome: Outcome,
    /// True if its deadline may have passed on the server, before or during the handler.
    pub hurried: bool,
    /// The messages of its streams.
    pub flow: Flow,
    /// True if its caller said that it may run twice.
    pub may_repeat: bool,
    /// Its deadline in microseconds of virtual time, if it has one that servers must keep.
    pub deadline: Option<u64>,
}

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `send_recv`.
    Call,
    /// `send_recv`, with a stream on one side or both.
    Stream,
    /// `send`, in the stretch with this number.
    Send(u32),
}

impl Kind {
    /// True if the caller waits for the reply.
    pub fn is_awaited(self) -> bool {
        !matches!(self, Self::Send(_))
    }
}

/// The outcome of a call, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not ended.
    Pending,
    /// The right reply; for a one-way call, that the connection accepted it.
    Ok,
    /// A reply that belongs to another call.
    Wrong,
    /// An error.
    Failed {
        /// The error's statement about execution.
        executed: Executed,
        /// The error's code.
        code: Code,
        /// True if the peer sent the error.
        remote: bool,
    },
    /// Its future was dropped before it ended.
    Cancelled,
}

impl Outcome {
    /// Makes the outcome of an error.
    pub fn of(error: &Error) -> Self {
        Self::Failed {
            executed: error.executed(),
            code: error.code(),
            remote: error.status().is_some(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("never ended"),
            Self::Ok => f.write_str("was Ok"),
            Self::Wrong => f.write_str("got the reply of another call"),
            Self::Failed {
                executed,
                code,
                remote,
            } => {
                let from = if *remote { " from the peer" } else { "" };
                write!(f, "failed {code}{from}, executed {executed:?}")
            }
            Self::Cancelled => f.write_str("was cancelled"),
        }
    }
}

/// The one-way calls of a client between two successful barriers, and the reports about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The client that made them.
    pub client: u32,
    /// The number that was reported as lost and not executed.
    pub lost_no: u64,
    /// The number that was reported as lost and perhaps executed.
    pub lost_maybe: u64,
    /// The account of the barrier that ended the stretch, if there is one.
    pub account: Option<Numbers>,
}

/// An [`Account`], as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// One-way calls that the server has read.
    pub received: u64,
    /// Handlers that succeeded.
    pub handled: u64,
    /// Handlers that failed.
    pub failed: u64,
    /// Calls whose deadline passed.
    pub expired: u64,
    /// Calls that were dropped.
    pub dropped: u64,
}

impl From<&Account> for Numbers {
    fn from(account: &Account) -> Self {
        Self {
            received: account.received(),
            handled: account.handled(),
            failed: account.failed(),
            expired: account.expired(),
            dropped: account.dropped().map(|(_, count)| count).sum(),
        }
    }
}

/// Records a history while a load runs. Clones are cheap, and share the history.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    logs: Mutex<Vec<Arc<Mutex<Vec<Record>>>>>,
    stretches: Mutex<Vec<Stretch>>,
    /// The current stretch of each client.
    current: Mutex<HashMap<u32, u32>>,
    strange: Mutex<Vec<String>>,
}

impl Recorder {
    /// Makes an empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the log of a further user. Users do not wait for each other.
    pub fn user(&self) -> UserLog {
        let mut logs = lock(&self.0.logs);
        let records = Arc::default();
        logs.push(Arc::clone(&records));
        UserLog {
            recorder: self.clone(),
            // The first user's tokens begin at 1 << 32, so that 0 is no token.
            base: (logs.len() as u64) << 32,
            records,
        }
    }

    /// Records an event that must never happen.
    pub fn strange(&self, what: String) {
        lock(&self.0.strange).push(what);
    }

    /// Records that a barrier of `client` succeeded. It covers all earlier one-way calls.
    pub fn covered(&self, client: u32, account: Numbers) {
        self.with_stretch(client, |stretch| stretch.account = Some(account));
        lock(&self.0.current).remove(&client);
    }

    /// Records that a flush or barrier of `client` reported lost one-way calls.
    pub fn lost(&self, client: u32, no: u64, maybe: u64) {
        self.with_stretch(client, |stretch| {
            stretch.lost_no += no;
            stretch.lost_maybe += maybe;
        });
    }

    fn with_stretch(&self, client: u32, change: impl FnOnce(&mut Stretch)) {
        let stretch = self.stretch(client);
        if let Some(stretch) = lock(&self.0.stretches).get_mut(stretch as usize) {
            change(stretch);
        }
    }

    /// Returns the number of the current stretch of `client`.
    fn stretch(&self, client: u32) -> u32 {
        *lock(&self.0.current).entry(client).or_insert_with(|| {
            let mut stretches = lock(&self.0.stretches);
            stretches.push(Stretch {
                client,
                ..Stretch::default()
            });
            u32::try_from(stretches.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// Returns the recorded history.
    pub fn history(&self) -> History {
        let logs = lock(&self.0.logs);
        let records = logs.iter().flat_map(|log| lock(log).clone()).collect();
        History {
            records,
            stretches: lock(&self.0.stretches).clone(),
            strange: lock(&self.0.strange).clone(),
        }
    }
}

/// The calls of one user.
#[derive(Debug)]
pub struct UserLog {
    recorder: Recorder,
    base: u64,
    records: Arc<Mutex<Vec<Record>>>,
}

impl UserLog {
    /// Records the beginning of a call with a reply.
    pub fn call(&self, client: u32, procedure: &'static str, hurried: bool) -> Ticket {
        self.begin(client, procedure, Kind::Call, hurried)
    }

    /// Records the beginning of a call with streams; its handler reads at most `limit` messages.
    pub fn stream(&self, client: u32, procedure: &'static str, hurried: bool, limit: u32) -> Ticket {
        let mut ticket = self.begin(client, procedure, Kind::Stream, hurried);
        ticket.moving = Some(Moving::new(limit));
        ticket
    }

    /// Records the beginning of a one-way call.
    ///
    /// No flush or barrier of the same client may run before its end, or else it is unknown whether it is covered.
    pub fn send(&self, client: u32, procedure: &'static str, hurried: bool) -> Ticket {
        let stretch = self.recorder.stretch(client);
        self.begin(client, procedure, Kind::Send(stretch), hurried)
    }

    fn begin(&self, client: u32, procedure: &'static str, kind: Kind, hurried: bool) -> Ticket {
        let mut records = lock(&self.records);
        let index = records.len();
        let token = self.base + index as u64;
        records.push(Record {
            token,
            procedure,
            client,
            kind,
            outcome: Outcome::Pending,
            hurried,
            flow: Flow::default(),
            may_repeat: false,
            deadline: None,
        });
        Ticket {
            records: Arc::clone(&self.records),
            index,
            token,
            end: Some(Outcome::Cancelled),
            moving: None,
        }
    }

    /// Returns the history of the log.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

/// A call that has begun. It ends once; a dropped one counts as cancelled.
#[derive(Debug)]
pub struct Ticket {
    records: Arc<Mutex<Vec<Record>>>,
    index: usize,
    token: u64,
    end: Option<Outcome>,
    moving: Option<Moving>,
}

impl Ticket {
    /// A number that no other call of the run has.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Returns the recorder of its streams.
    pub fn moving(&self) -> Moving {
        self.moving.clone().unwrap_or_default()
    }

    /// Records that the call may run twice.
    pub fn may_repeat(self) -> Self {
        self.change(|record| record.may_repeat = true);
        self
    }

    /// Records the deadline, in microseconds of virtual time.
    pub fn by(self, deadline: u64) -> Self {
        self.change(|record| record.deadline = Some(deadline));
        self
    }

    fn change(&self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = lock(&self.records).get_mut(self.index) {
            change(record);
        }
    }

    /// Records the outcome of the call.
    pub fn end(mut self, outcome: Outcome) {
        self.end = Some(outcome);
    }

    /// Leaves the call without an outcome.
    pub fn never_ended(mut self) {
        self.end = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(record) = lock(&self.records).get_mut(self.index) {
            if let Some(end) = self.end {
                record.outcome = end;
            }
            if let Some(moving) = &self.moving {
                record.flow = moving.flow();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_that_is_dropped_was_cancelled() {
        let recorder = Recorder::new();
        let (one, two) = (recorder.user(), recorder.user());
        one.call(0, "echo", false).end(Outcome::Ok);
        drop(one.call(0, "echo", false));
        two.call(0, "hang", true).never_ended();
        let records = recorder.history().records;
        let outcomes: Vec<_> = records.iter().map(|record| record.outcome).collect();
        assert_eq!(outcomes, [Outcome::Ok, Outcome::Cancelled, Outcome::Pending]);
        let mut tokens: Vec<_> = records.iter().map(|record| record.token).collect();
        tokens.dedup();
        assert_eq!(tokens.len(), 3);
    }

    #[test]
    fn a_barrier_ends_the_stretch_of_its_client_alone() {
        let recorder = Recorder::new();
        let user = recorder.user();
        let stretch_of_a_send = |client| {
            user.send(client, "echo", false).end(Outcome::Ok);
            match recorder.history().records.last().map(|record| record.kind) {
                Some(Kind::Send(stretch)) => stretch,
                other => panic!("{other:?}"),
            }
        };
        let (first, other) = (stretch_of_a_send(1), stretch_of_a_send(2));
        recorder.lost(1, 2, 3);
        assert_eq!(stretch_of_a_send(1), first);
        recorder.covered(1, Numbers::default());
        assert_ne!(stretch_of_a_send(1), first);
        assert_eq!(stretch_of_a_send(2), other);
        let stretches = recorder.history().stretches;
        assert_eq!(stretches.len(), 3);
        let expected = Stretch {
            client: 1,
            lost_no: 2,
            lost_maybe: 3,
            account: Some(Numbers::default()),
        };
        assert_eq!(stretches[first as usize], expected);
    }
}
