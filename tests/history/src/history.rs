//! History: what the callers of a run saw.

mod flow;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rpc_runtime::{Account, Code, Error, Executed};

pub use self::flow::{Flow, Moving};

/// What the callers of a run saw: every call with its outcome, and what was heard of the sends.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The calls, in any order.
    pub records: Vec<Record>,
    /// What was heard of the sends, by number.
    pub stretches: Vec<Stretch>,
    /// What ought not to have happened whatever became of the server, one line each.
    pub strange: Vec<String>,
}

/// One call, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What no other call of the run has.
    pub token: u64,
    /// The stub that was called.
    pub procedure: &'static str,
    /// The client that made it.
    pub client: u32,
    /// Whether a reply was awaited.
    pub kind: Kind,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether its deadline may have passed on the server, before the handler ran or while it did.
    pub hurried: bool,
    /// What it sent and read of its streams.
    pub flow: Flow,
}

/// Whether a reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `send_recv`.
    Call,
    /// `send_recv`, with a stream on one side or both.
    Stream,
    /// `send`, in the stretch of this number.
    Send(u32),
}

impl Kind {
    /// Whether its caller waits for its end.
    pub fn is_awaited(self) -> bool {
        !matches!(self, Self::Send(_))
    }
}

/// How a call ended, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not ended.
    Pending,
    /// A reply, the right one; or, of a send, that it was taken.
    Ok,
    /// A reply that belongs to another call.
    Wrong,
    /// An error.
    Failed {
        /// Whether the handler ran.
        executed: Executed,
        /// What kind of failure it was.
        code: Code,
        /// Whether the peer said so.
        remote: bool,
    },
    /// Its future was dropped before it ended.
    Cancelled,
}

impl Outcome {
    /// What an error says.
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

/// The sends of one client from one barrier that succeeded to the next, and what was heard of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The client that made them.
    pub client: u32,
    /// Those that were reported as lost, and never to run.
    pub lost_no: u64,
    /// Those that were reported as lost, and perhaps run.
    pub lost_maybe: u64,
    /// The account of the barrier that ended it, if one did.
    pub account: Option<Numbers>,
}

/// An [`Account`], as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// How many sends the server has read.
    pub received: u64,
    /// How many handlers ended well.
    pub handled: u64,
    /// How many handlers failed.
    pub failed: u64,
    /// How many deadlines passed.
    pub expired: u64,
    /// How many were dropped.
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

/// Writes a history down while a load runs; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    logs: Mutex<Vec<Arc<Mutex<Vec<Record>>>>>,
    stretches: Mutex<Vec<Stretch>>,
    /// The stretch that each client is in.
    current: Mutex<HashMap<u32, u32>>,
    strange: Mutex<Vec<String>>,
}

impl Recorder {
    /// A history of nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// The log of a further user: users do not wait for one another.
    pub fn user(&self) -> UserLog {
        let mut logs = lock(&self.0.logs);
        let records = Arc::default();
        logs.push(Arc::clone(&records));
        UserLog {
            recorder: self.clone(),
            // Calls of the first user have tokens from 1 << 32, so that 0 is nobody's.
            base: (logs.len() as u64) << 32,
            records,
        }
    }

    /// Notes that something happened which must not, whatever became of the server.
    pub fn strange(&self, what: String) {
        lock(&self.0.strange).push(what);
    }

    /// Notes that a barrier of `client` succeeded, which covers everything it sent before.
    pub fn covered(&self, client: u32, account: Numbers) {
        self.with_stretch(client, |stretch| stretch.account = Some(account));
        lock(&self.0.current).remove(&client);
    }

    /// Notes that a flush or barrier of `client` told of lost sends.
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

    /// The number of the stretch that `client` is in.
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

    /// Everything that was noted.
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
    /// Begins a call that awaits a reply.
    pub fn call(&self, client: u32, procedure: &'static str, hurried: bool) -> Ticket {
        self.begin(client, procedure, Kind::Call, hurried)
    }

    /// Begins a call with streams; its handler reads at most `limit` messages.
    pub fn stream(&self, client: u32, procedure: &'static str, hurried: bool, limit: u32) -> Ticket {
        let mut ticket = self.begin(client, procedure, Kind::Stream, hurried);
        ticket.moving = Some(Moving::new(limit));
        ticket
    }

    /// Begins a one-way call.
    ///
    /// No flush or barrier of the same client may run until it has ended: else nobody can say whether it is covered.
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
        });
        Ticket {
            records: Arc::clone(&self.records),
            index,
            token,
            end: Some(Outcome::Cancelled),
            moving: None,
        }
    }

    /// The history that the log belongs to.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

/// A call that has begun: it ends once, and one that is dropped was cancelled.
#[derive(Debug)]
pub struct Ticket {
    records: Arc<Mutex<Vec<Record>>>,
    index: usize,
    token: u64,
    end: Option<Outcome>,
    moving: Option<Moving>,
}

impl Ticket {
    /// What no other call of the run has.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// What notes what moves of its streams; nothing moves of a call without.
    pub fn moving(&self) -> Moving {
        self.moving.clone().unwrap_or_default()
    }

    /// Notes how the call ended.
    pub fn end(mut self, outcome: Outcome) {
        self.end = Some(outcome);
    }

    /// Leaves the call as one that never ended.
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
