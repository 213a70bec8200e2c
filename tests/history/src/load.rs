//! Load: users that call a probe in every way, and write down what they saw.

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

/// A load to be configured.
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
    /// What a load does follows from its seed, apart from time and threads.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            users: 4,
            calls: u64::MAX,
            mix: Mix::default(),
        }
    }

    /// How many users there are for each client. Default 4.
    pub fn users(mut self, users: u32) -> Self {
        self.users = users;
        self
    }

    /// After how many calls it ends by itself. Default: never.
    pub fn calls(mut self, calls: u64) -> Self {
        self.calls = calls;
        self
    }

    /// What the users do. Default: everything.
    pub fn mix(mut self, mix: Mix) -> Self {
        self.mix = mix;
        self
    }

    /// Starts the users: several for each of the clients.
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

/// A load that has started. Dropping it ends it at once.
#[derive(Debug)]
pub struct Running {
    recorder: Recorder,
    progress: Arc<Progress>,
    parties: Vec<Party>,
    users: JoinSet<()>,
}

impl Running {
    /// How many calls have ended.
    pub fn ended(&self) -> u64 {
        self.progress.ended()
    }

    /// What tells how many calls have ended, apart from the load itself.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Waits until that many calls have ended, or the load is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn reached(&self, calls: u64) {
        self.progress.reached(calls).await;
    }

    /// Tells the users to begin nothing more.
    pub fn stop(&self) {
        self.progress.stop();
    }

    /// Waits until the load is over, which needs [`Running::stop`] if it has no number of calls; then makes a last
    /// barrier on each client, and closes it.
    ///
    /// The server is to be there to the end.
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

    /// Stops the load without a server: closes the clients, so that every call ends.
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

/// How many calls of a load have ended.
#[derive(Debug)]
pub struct Progress {
    limit: u64,
    begun: AtomicU64,
    ended: AtomicU64,
    stopped: AtomicBool,
    /// How many users have not ended.
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

    /// How many calls have ended.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    /// Waits until that many calls have ended, or the load is over.
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

    /// Whether all users have ended.
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

    /// Whether a user may begin something.
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

    async fn flush(&self, recorder: &Recorder) {
        let _alone = self.turn.write().await;
        let result = within(self.probe.flush()).await;
        self.heard(recorder, "a flush", result);
    }

    /// Begins a barrier, and gives it up within `patience`.
    async fn abandoned_barrier(&self, recorder: &Recorder, patience: Duration) {
        let _alone = self.turn.write().await;
        // One that is given up has told nothing yet: what it would have told, the next one tells.
        match timeout(patience, self.probe.barrier()).await {
            Ok(Ok(account)) => recorder.covered(self.number, Numbers::from(&account)),
            Ok(result) => self.heard(recorder, "a barrier", Some(result.map(drop))),
            Err(_) => {}
        }
    }

    /// Notes what a flush or barrier told of lost sends.
    fn heard(&self, recorder: &Recorder, what: &str, result: Option<Result<(), Error>>) {
        if let Some(Err(error)) = &result {
            if let Some(lost) = error.lost_sends() {
                recorder.lost(self.number, lost.no(), lost.maybe());
            }
        }
        allow(recorder, what, result);
    }
}

/// Servers come and go, so that nobody is there is as good as any answer; silence and other errors are not.
fn allow(recorder: &Recorder, what: &str, result: Option<Result<(), Error>>) {
    match result {
        None => recorder.strange(format!("{what} took more than {LONG:?}")),
        Some(Err(error)) if !matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded) => {
            recorder.strange(format!("{what}: {error}"));
        }
        Some(_) => {}
    }
}

/// What `future` returns; none if it takes longer than anything may.
async fn within<T>(future: impl Future<Output = T>) -> Option<T> {
    timeout(LONG, future).await.ok()
}

/// Longer than anything takes, whatever else the machine does.
const LONG: Duration = Duration::from_secs(120);
