//! Member: one server of a cluster, and the connections to it.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

use super::{Cluster, now};
use crate::{
    Code, Error,
    balance::{Ended, Measured},
    client::{
        Channel, Client, ConnectionState,
        channel::{HadConnection, WaitFor},
        deadline::Deadline,
        timer,
    },
    discover::Endpoint,
};

/// One server of a cluster.
pub(in crate::client) struct Member {
    endpoint: Arc<Endpoint>,
    /// Makes built-in calls, and calls of `Client::at`.
    client: Client,
    measured: Arc<Measured>,
    /// Why all connections to it failed last.
    failure: Mutex<Option<Error>>,
    /// True once a one-way call went there.
    has_sends: AtomicBool,
    /// How many one-way calls are on their way into the queue of a connection.
    sending: AtomicUsize,
    keepers: Vec<AbortHandle>,
}

impl Member {
    /// A member that connects at once, in `runtime`, and again whenever it loses a connection. It wakes `wake` when its state changes.
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        measured: Arc<Measured>,
        client: Client,
        wake: &Arc<Notify>,
        runtime: &Handle,
    ) -> Arc<Self> {
        Arc::new_cyclic(|member: &Weak<Self>| {
            let keep = |channel: &Arc<Channel>| {
                let (channel, wake, member) = (Arc::downgrade(channel), Arc::clone(wake), member.clone());
                let keep = async move {
                    loop {
                        let Some(channel) = channel.upgrade() else { return };
                        let ended = keep(&channel, &wake).await;
                        let Some(member) = member.upgrade() else { return };
                        *member.failure.lock().unwrap_or_else(PoisonError::into_inner) = ended.err();
                        wake.notify_one();
                        drop((channel, member));
                        timer::sleep(PAUSE.mul_f64(1.0 + fastrand::f64())).await;
                    }
                };
                runtime.spawn(keep).abort_handle()
            };
            let keepers = client.channels.all().map(keep).collect();
            Self {
                endpoint,
                client,
                measured,
                failure: Mutex::default(),
                has_sends: AtomicBool::new(false),
                sending: AtomicUsize::new(0),
                keepers,
            }
        })
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The address with its scheme.
    pub(super) fn address(&self) -> &str {
        self.client.channel().address()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(in crate::client) fn measured(&self) -> &Arc<Measured> {
        &self.measured
    }

    /// The best state of its connections.
    pub(super) fn state(&self) -> ConnectionState {
        let states = self
            .client
            .channels
            .all()
            .map(|channel| channel.connection_state());
        states
            .min_by_key(|state| match state {
                ConnectionState::Ready => 0,
                ConnectionState::Connecting => 1,
                ConnectionState::Idle => 2,
                ConnectionState::BackingOff => 3,
                ConnectionState::Closed => 4,
            })
            .unwrap_or(ConnectionState::Closed)
    }

    /// Why it cannot be reached; none if it can, or if nothing has failed yet.
    pub(super) fn failure(&self) -> Option<(Arc<str>, Error)> {
        if self.state() == ConnectionState::Ready {
            return None;
        }
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let failure = failure.or_else(|| self.client.channel().last_failure())?;
        Some((Arc::clone(self.client.channel().address()), failure))
    }

    /// True if it may have one-way calls of this client.
    pub(super) fn has_sends(&self) -> bool {
        self.has_sends.load(SeqCst)
    }

    /// A channel for a call: one that is connected, if there is one.
    pub(in crate::client) fn channel(&self) -> Arc<Channel> {
        Arc::clone(self.client.channels.next_ready())
    }

    /// The channel of one-way calls.
    pub(in crate::client) fn channel_of_sends(&self) -> Arc<Channel> {
        Arc::clone(self.client.channel())
    }

    /// Counts a one-way call until the queue of a connection has it; its fate is asked for later. True for the first one.
    pub(super) fn begin_send(self: &Arc<Self>) -> (SendOnMember, bool) {
        self.sending.fetch_add(1, SeqCst);
        let is_first = !self.has_sends.swap(true, SeqCst);
        (SendOnMember(Arc::clone(self)), is_first)
    }

    /// True while a one-way call has picked it and is not yet in a queue.
    pub(super) fn is_sending(&self) -> bool {
        self.sending.load(SeqCst) > 0
    }
}

/// Connects, and waits until the connection is lost.
///
/// # Errors
///
/// It cannot connect.
async fn keep(channel: &Arc<Channel>, wake: &Notify) -> Result<(), Error> {
    let mut watch = channel.watch_state();
    loop {
        let deadline = Deadline::new(None, None, now());
        channel
            .connected(WaitFor::FirstRound, HadConnection::No, deadline)
            .await?;
        wake.notify_one();
        while channel.connection_state() == ConnectionState::Ready {
            watch.changed().await;
        }
        wake.notify_one();
        if channel.is_closed() {
            return Err(Error::local(Code::Unavailable, "the client is closed"));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.keepers.iter().for_each(AbortHandle::abort);
    }
}

/// A one-way call to a member, until the queue of a connection has it.
pub(in crate::client) struct SendOnMember(Arc<Member>);

impl Drop for SendOnMember {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, SeqCst);
    }
}

/// A call on a member, until it ends.
pub(in crate::client) struct CallOnMember {
    measured: Arc<Measured>,
    has_reply: bool,
    begun: tokio::time::Instant,
    is_over: bool,
}

impl CallOnMember {
    /// Counts a call that begins; `has_reply` is true if it waits for one reply.
    pub(in crate::client) fn begin(cluster: &Cluster, member: &Member, has_reply: bool) -> Self {
        cluster.note_call();
        let begun = now();
        member.measured.begin(has_reply, begun);
        Self {
            measured: Arc::clone(&member.measured),
            has_reply,
            begun,
            is_over: false,
        }
    }

    /// Counts its end.
    pub(in crate::client) fn end(mut self, cluster: &Cluster, ended: Ended) {
        self.count(ended);
        if ended == Ended::Bad {
            cluster.wake.notify_one();
        }
    }

    fn count(&mut self, ended: Ended) {
        if !std::mem::replace(&mut self.is_over, true) {
            let now = now();
            let took = now.saturating_duration_since(self.begun);
            self.measured.end(self.has_reply, took, ended, now);
        }
    }
}

impl Drop for CallOnMember {
    fn drop(&mut self) {
        self.count(Ended::Unknown);
    }
}

/// The shortest pause between two attempts, beside the pauses of the channel itself, and up to twice as long.
const PAUSE: Duration = Duration::from_millis(100);
