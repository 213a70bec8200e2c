//! Load: clients that call until their server has ended, and write down what they saw.

mod streams;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use rpc_runtime::{Bytes, Client, Error, Executed, client::ConnectionState, status::Phase};
use tokio::{sync::watch, task::JoinSet};

use super::plan::{Plan, Slow};
use crate::{
    api::v1::ProbeClient,
    history::{Outcome, Recorder, Ticket, UserLog},
};

/// Clients that call one server until it has ended.
pub(super) struct Load {
    shared: Arc<Shared>,
    /// The clients that read come first.
    clients: Vec<Client>,
    readers: usize,
    users: JoinSet<()>,
}

struct Shared {
    recorder: Recorder,
    /// Returns the number of ended calls.
    ended: watch::Sender<u64>,
    unsent: Mutex<HashSet<u64>>,
    /// True if a handler blocks a worker of the server without a declaration.
    spinning: AtomicBool,
}

impl Load {
    /// Begins to call: `readers` one after the other, and the one behind a relay as much as it can at once.
    pub(super) fn begin(plan: &Plan, readers: Vec<Client>, relayed: Option<Client>) -> Self {
        let shared = Arc::new(Shared {
            recorder: Recorder::new(),
            ended: watch::Sender::default(),
            unsent: Mutex::default(),
            spinning: AtomicBool::new(false),
        });
        let mut random = Rng::with_seed(plan.load_seed);
        let mut users = JoinSet::new();
        for (client, number) in readers.iter().zip(0..) {
            for _ in 0..plan.users {
                let user = User::new(&shared, client, number, plan, random.fork());
                users.spawn(user.call_until_the_end());
            }
        }
        let (mut clients, readers) = (readers, plan.connections);
        if let Some(relayed) = relayed {
            let number = u32::try_from(clients.len()).unwrap_or(u32::MAX);
            users.spawn(User::new(&shared, &relayed, number, plan, random.fork()).shout());
            clients.push(relayed);
        }
        Self {
            shared,
            clients,
            readers,
            users,
        }
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// Waits until `calls` calls have ended.
    pub(super) async fn ended(&self, count: u64) {
        // The sender is ours, so it outlives the wait.
        let _ = self
            .shared
            .ended
            .subscribe()
            .wait_for(|ended| *ended >= count)
            .await;
    }

    /// True if each client that reads is connected.
    pub(super) fn is_connected(&self) -> bool {
        let mut readers = self.clients[..self.readers].iter();
        readers.all(|client| client.state() == ConnectionState::Ready)
    }

    /// Waits until no client that reads is connected any more. Then each has learned of the drain.
    pub(super) fn told(&self) -> impl Future<Output = ()> + Send + use<> {
        disconnected(&self.clients[..self.readers])
    }

    /// Waits until every client has noticed that its server is gone: no call is open on a connection any more.
    pub(super) fn noticed(&self) -> impl Future<Output = ()> + Send + use<> {
        disconnected(&self.clients)
    }

    /// Records the lost one-way calls that clients know and have not reported before.
    pub(super) async fn hear_of_losses(&self) {
        let recorder = self.recorder();
        for (client, number) in self.clients.iter().zip(0..) {
            if let Err(error) = client.flush().await {
                match error.lost_sends() {
                    Some(lost) => recorder.lost(number, lost.no(), lost.maybe()),
                    None => recorder.strange(format!("the last flush of client {number}: {error}")),
                }
            }
        }
    }

    /// Closes the clients, which look for their server still, and waits for all users; the calls of which no server ever
    /// had a byte.
    pub(super) async fn end(mut self) -> HashSet<u64> {
        for client in &self.clients {
            // There is nothing left to be lost.
            let _ = client.close().await;
        }
        while let Some(ended) = self.users.join_next().await {
            if let Err(error) = ended {
                self.recorder().strange(format!("a user of the load: {error}"));
            }
        }
        let unsent = self.shared.unsent.lock();
        unsent.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Waits until none of `clients` is connected.
fn disconnected(clients: &[Client]) -> impl Future<Output = ()> + Send + use<> {
    let watches: Vec<_> = clients.iter().map(Client::watch_state).collect();
    async move {
        for mut watch in watches {
            while watch.state() == ConnectionState::Ready {
                watch.changed().await;
            }
        }
    }
}

/// A task that calls through one client.
struct User {
    shared: Arc<Shared>,
    log: UserLog,
    probe: ProbeClient,
    number: u32,
    slow: Slow,
    drain_timeout: Duration,
    random: Rng,
}

impl User {
    fn new(shared: &Arc<Shared>, client: &Client, number: u32, plan: &Plan, random: Rng) -> Self {
        Self {
            shared: Arc::clone(shared),
            log: shared.recorder.user(),
            probe: ProbeClient::new(client.clone()),
            number,
            slow: plan.slow,
            drain_timeout: plan.drain_timeout,
            random,
        }
    }

    /// Calls, one after the other but for the slow ones, until the server is gone.
    async fn call_until_the_end(mut self) {
        let mut slow = JoinSet::new();
        loop {
            let went_on = match self.random.u32(..100) {
                0..7 if self.slow != Slow::None && slow.len() < MAX_SLOW => {
                    slow.spawn(self.slow_call());
                    true
                }
                7..10 if self.slow != Slow::None && slow.len() < MAX_SLOW => {
                    let talk = self.slow_talk();
                    slow.spawn(self.talk(talk));
                    true
                }
                0..30 => self.send().await,
                30..35 => self.refuse().await,
                35..50 => {
                    let talk = self.quick_talk();
                    self.talk(talk).await
                }
                _ => self.echo().await,
            };
            if !went_on {
                break;
            }
        }
        slow.join_all().await;
    }

    /// Calls for long replies, many at once.
    async fn shout(mut self) {
        let mut calls = JoinSet::new();
        for _ in 0..SHOUTS {
            let payload = Bytes::from(vec![7; SHOUT_LEN]);
            let (probe, ticket) = (self.probe.clone(), self.log.call(self.number, "echo", false));
            let shared = Arc::clone(&self.shared);
            calls.spawn(async move {
                let call = probe.send_recv().echo(ticket.token(), payload);
                shared.note(ticket, call.await);
            });
            self.send().await;
        }
        for _ in 0..LISTS {
            let talk = self.long_talk();
            let talk = self.talk(talk);
            calls.spawn(async move {
                talk.await;
            });
        }
        calls.join_all().await;
    }

    async fn echo(&mut self) -> bool {
        let payload = Bytes::from(vec![self.random.u8(..); self.len()]);
        let ticket = self.log.call(self.number, "echo", false);
        let call = self.probe.send_recv().echo(ticket.token(), payload.clone());
        match call.await {
            Ok(reply) if reply.payload != payload => {
                ticket.end(Outcome::Wrong);
                true
            }
            result => self.shared.note(ticket, result),
        }
    }

    async fn refuse(&self) -> bool {
        let ticket = self.log.call(self.number, "refuse", false);
        let call = self.probe.send_recv().refuse(ticket.token());
        let result = call.await;
        self.shared.note(ticket, result)
    }

    async fn send(&mut self) -> bool {
        let ticket = self.log.send(self.number, "echo", false);
        let payload = vec![0; self.len()];
        let send = self.probe.send().echo(ticket.token(), payload);
        let result = send.await;
        self.shared.note(ticket, result)
    }

    /// A call or a send that takes long, or for ever.
    fn slow_call(&mut self) -> impl Future<Output = bool> + Send + use<> {
        let way = match self.slow {
            Slow::None | Slow::Sleep => Way::Sleep,
            Slow::Hang => Way::Hang,
            Slow::Block => Way::Block,
            Slow::Mixed if !self.shared.spinning.swap(true, Ordering::AcqRel) => Way::Spin,
            Slow::Mixed => [Way::Sleep, Way::Hang, Way::Block][self.random.usize(..3)],
        };
        let drain = u32::try_from(self.drain_timeout.as_micros()).unwrap_or(u32::MAX);
        let micros = match self.random.u32(..3) {
            0 => self.random.u32(..drain / 4),
            1 if way == Way::Sleep => self.random.u32(..drain.saturating_mul(2)),
            // Longer than any drain: those that cannot be dropped end with their process.
            _ => 600_000_000,
        };
        let one_way = self.random.bool();
        let ticket = if one_way {
            self.log.send(self.number, way.name(), false)
        } else {
            self.log.call(self.number, way.name(), false)
        };
        let (probe, shared, token) = (self.probe.clone(), Arc::clone(&self.shared), ticket.token());
        async move {
            let call = async {
                if one_way {
                    let send = probe.send();
                    match way {
                        Way::Sleep => send.sleep(token, micros).await,
                        Way::Hang => send.hang(token).await,
                        Way::Block => send.block(token, micros).await,
                        Way::Spin => send.spin(token, micros).await,
                    }
                } else {
                    let call = probe.send_recv();
                    match way {
                        Way::Sleep => call.sleep(token, micros).await,
                        Way::Hang => call.hang(token).await,
                        Way::Block => call.block(token, micros).await,
                        Way::Spin => call.spin(token, micros).await,
                    }
                }
            };
            let result = call.await;
            shared.note(ticket, result)
        }
    }

    /// The length of a payload: mostly short, now and then several fragments.
    fn len(&mut self) -> usize {
        match self.random.u32(..20) {
            0 => self.random.usize(..300_000),
            1..4 => self.random.usize(..30_000),
            _ => self.random.usize(..300),
        }
    }
}

/// In which way a call is slow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Sleep,
    Hang,
    Block,
    Spin,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Sleep => "sleep",
            Self::Hang => "hang",
            Self::Block => "block",
            Self::Spin => "spin",
        }
    }
}

impl Shared {
    /// Notes how a call ended; whether it makes sense to call on.
    fn note<T>(&self, ticket: Ticket, result: Result<T, Error>) -> bool {
        self.ended.send_modify(|ended| *ended += 1);
        match result {
            Ok(_) => {
                ticket.end(Outcome::Ok);
                true
            }
            Err(error) => {
                let executed = error.executed();
                // A resent call had reached the server before.
                let never_there = executed == Executed::No
                    && error.phase() == Some(Phase::Connect)
                    && !error.to_string().contains("resent");
                if never_there {
                    let unsent = self.unsent.lock();
                    unsent
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(ticket.token());
                }
                ticket.end(Outcome::of(&error));
                executed == Executed::Yes
            }
        }
    }
}

/// The maximum number of slow calls that one user has open.
const MAX_SLOW: usize = 4;
/// The number of calls of a client that reads badly, and the length of their replies: more than sockets and queues
/// hold.
const SHOUTS: usize = 60;
/// The number of its long streams.
const LISTS: usize = 3;
const SHOUT_LEN: usize = 100_000;
