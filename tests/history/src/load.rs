//! Load: users that make each kind of call to a probe, and record the outcomes.

mod end;
mod mix;
mod request;
mod user;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_runtime::{Client, Code, Error};
use tokio::{
    sync::{Notify, RwLock},
    task::JoinSet,
    time::timeout,
};

pub use self::mix::Mix;
use self::user::User;
use crate::{
    api::v1::ProbeClient,
    history::{History, Numbers, Recorder},
};

/// A builder of a load.
///
/// ```no_run
/// # use {history::load::Load, rpc_runtime::Client};
/// # async fn load() {
/// let client = Client::connect_lazy("tcp://127.0.0.1:5005");
/// let running = Load::new(7).users(4).start(vec![client]);
/// running.reached(1000).await;
/// let history = running.finish().await;
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a load does nothing until it starts"]
pub struct Load {
    seed: u64,
    users: u32,
    calls: u64,
    mix: Mix,
}

impl Load {
    /// Makes a load. Its actions follow from the seed, apart from time and threads.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            users: 4,
            calls: u64::MAX,
            mix: Mix::default(),
        }
    }

    /// Sets the number of users per client. Default: 4.
    pub fn users(mut self, users: u32) -> Self {
        self.users = users;
        self
    }

    /// Sets the number of calls after which the load ends. Default: unlimited.
    pub fn calls(mut self, calls: u64) -> Self {
        self.calls = calls;
        self
    }

    /// Sets the actions of the users. Default: all.
    pub fn mix(mut self, mix: Mix) -> Self {
        self.mix = mix;
        self
    }

    /// Starts the users of each client.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self, clients: Vec<Client>) -> Running {
        let recorder = Recorder::new();
        let parties: Vec<_> = (0..)
            .zip(clients)
            .map(|(number, client)| Party::new(number, client))
            .collect();
        let progress = Arc::new(Progress::new(self.calls, parties.len() * self.users as usize));
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut users = JoinSet::new();
        for party in &parties {
            for _ in 0..self.users {
                let user = User {
                    party: party.clone(),
                    log: recorder.user(),
                    mix: self.mix.clone(),
                    random: random.fork(),
                    progress: Arc::clone(&progress),
                };
                users.spawn(user.run());
            }
        }
        Running {
            recorder,
            progress,
            parties,
            users,
        }
    }
}

/// A running load. Dropping it ends it at once.
#[derive(Debug)]
pub struct Running {
    recorder: Recorder,
    progress: Arc<Progress>,
    parties: Vec<Party>,
    users: JoinSet<()>,
}

impl Running {
    /// Returns the number of ended calls.
    pub fn ended(&self) -> u64 {
        self.progress.ended()
    }

    /// Returns a view of the number of ended calls.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Waits until `calls` calls have ended or the load is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn reached(&self, calls: u64) {
        self.progress.reached(calls).await;
    }

    /// Tells the users to start no more calls.
    pub fn stop(&self) {
        self.progress.stop();
    }

    /// Waits until the load is over, which needs [`Running::stop`] without a number of calls. Then it makes a last
    /// barrier on each client, and closes the client.
    ///
    /// The server must serve until then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the load at once.
    pub async fn finish(mut self) -> History {
        self.join().await;
        for party in &self.parties {
            party.barrier(&self.recorder).await;
        }
        self.close().await;
        self.recorder.history()
    }

    /// Stops the load without a server. It closes the clients, so every call ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the load at once.
    pub async fn abandon(mut self) -> History {
        self.stop();
        self.close().await;
        self.join().await;
        self.recorder.history()
    }

    async fn join(&mut self) {
        while let Some(user) = self.users.join_next().await {
            if let Err(error) = user {
                self.recorder.strange(format!("a user of the load: {error}"));
            }
        }
    }

    async fn close(&self) {
        for party in &self.parties {
            let result = within(party.probe.close()).await;
            allow(&self.recorder, "a close", result.map(|result| result.map(drop)));
        }
    }
}

/// The number of a load's calls that have ended.
#[derive(Debug)]
pub struct Progress {
    limit: u64,
    begun: AtomicU64,
    ended: AtomicU64,
    stopped: AtomicBool,
    /// The number of users that have not ended.
    users: AtomicUsize,
    changed: Notify,
}

impl Progress {
    fn new(limit: u64, users: usize) -> Self {
        Self {
            limit,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            users: AtomicUsize::new(users),
            changed: Notify::new(),
        }
    }

    /// Returns the number of ended calls.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    /// Waits until `calls` calls have ended or the load is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn reached(&self, calls: u64) {
        loop {
            let changed = self.changed.notified();
            if self.ended() >= calls || self.is_over() {
                return;
            }
            changed.await;
        }
    }

    /// True if all users have ended.
    pub fn is_over(&self) -> bool {
        self.users.load(Ordering::SeqCst) == 0
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// A user has ended.
    fn leave(&self) {
        self.users.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// True if a user may begin another call.
    fn goes_on(&self) -> bool {
        !self.stopped.load(Ordering::SeqCst) && self.begun.load(Ordering::SeqCst) < self.limit
    }

    /// Takes up to `calls` of those that are left to be made.
    fn take(&self, calls: u64) -> u64 {
        let before = self.begun.fetch_add(calls, Ordering::SeqCst);
        self.limit.saturating_sub(before).min(calls)
    }

    fn end(&self) {
        let ended = self.ended.fetch_add(1, Ordering::SeqCst) + 1;
        if ended % 16 == 0 {
            self.changed.notify_waiters();
        }
    }
}

/// One client, which several users share.
#[derive(Clone, Debug)]
struct Party {
    number: u32,
    probe: ProbeClient,
    /// Held shared while a send is under way, and alone by a flush or barrier: so it is certain what that covers.
    turn: Arc<RwLock<()>>,
}

impl Party {
    fn new(number: u32, client: Client) -> Self {
        Self {
            number,
            probe: ProbeClient::new(client),
            turn: Arc::default(),
        }
    }

    async fn barrier(&self, recorder: &Recorder) {
        let _alone = self.turn.write().await;
        let result = within(self.probe.barrier()).await;
        let result =
            result.map(|result| result.map(|account| recorder.covered(self.number, Numbers::from(&account))));
        self.heard(recorder, "a barrier", result);
    }

    async fn settled(&self, recorder: &Recorder) {
        let _alone = self.turn.write().await;
        let result = within(self.probe.settled()).await;
        let result =
            result.map(|result| result.map(|account| recorder.covered(self.number, Numbers::from(&account))));
        self.heard(recorder, "a settled", result);
    }

    async fn flush(&self, recorder: &Recorder) {
        let _alone = self.turn.write().await;
        let result = within(self.probe.flush()).await;
        self.heard(recorder, "a flush", result);
    }

    /// Begins a barrier, and drops it within `patience`.
    async fn abandoned_barrier(&self, recorder: &Recorder, patience: Duration) {
        let _alone = self.turn.write().await;
        // A dropped barrier has reported nothing. The next barrier reports its losses.
        match timeout(patience, self.probe.barrier()).await {
            Ok(Ok(account)) => recorder.covered(self.number, Numbers::from(&account)),
            Ok(result) => self.heard(recorder, "a barrier", Some(result.map(drop))),
            Err(_) => {}
        }
    }

    /// Records lost one-way calls that a flush or a barrier reported.
    fn heard(&self, recorder: &Recorder, what: &str, result: Option<Result<(), Error>>) {
        if let Some(Err(error)) = &result {
            if let Some(lost) = error.lost_sends() {
                recorder.lost(self.number, lost.no(), lost.maybe());
            }
        }
        allow(recorder, what, result);
    }
}

/// Servers restart, so UNAVAILABLE is a good outcome. A timeout and other errors are not.
fn allow(recorder: &Recorder, what: &str, result: Option<Result<(), Error>>) {
    match result {
        None => recorder.strange(format!("{what} took more than {LONG:?}")),
        Some(Err(error)) if !matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded) => {
            recorder.strange(format!("{what}: {error}"));
        }
        Some(_) => {}
    }
}

/// Returns the output of `future`; `None` if it takes longer than [`LONG`].
async fn within<T>(future: impl Future<Output = T>) -> Option<T> {
    timeout(LONG, future).await.ok()
}

/// Longer than any step takes, even on a busy machine.
const LONG: Duration = Duration::from_secs(120);
