//! Accept loops: from a listener to connections that are served. They end with a drain, and never by an error.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::yield_now,
    time::{sleep, sleep_until},
};

use super::super::{dispatch::dispatcher::Dispatcher, drain::announce, state::Shared, until::until};
use crate::session::Served;
use crate::{
    Peer,
    conn::{Cause, Connection, Cut, Side},
    driver::{Baton, Link},
    net::{Listener, Stream, is_the_peers, lacks_resources},
};

/// How many connections there may be, shared by all listeners of a server.
pub(crate) struct Gates {
    connections: Arc<Semaphore>,
    handshakes: Arc<Handshakes>,
}

impl Gates {
    pub(crate) fn new(max_connections: usize, max_handshakes: usize) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            handshakes: Arc::new(Handshakes {
                slots: Arc::new(Semaphore::new(max_handshakes.clamp(1, Semaphore::MAX_PERMITS))),
                open: Mutex::default(),
            }),
        }
    }
}

/// Accepts streams until the server drains; then tells those who wait to be accepted.
pub(crate) async fn accept(server: Arc<Shared>, listener: Listener, gates: Arc<Gates>) {
    accept_until_drain(&server, &listener, &gates).await;
    // A listener that just closes resets them, and their callers could not know that nothing was executed.
    for (stream, peer) in listener.close().await {
        serve_stream(&server, stream, peer, None, &Handle::current());
    }
}

async fn accept_until_drain(server: &Arc<Shared>, listener: &Listener, gates: &Gates) {
    let runtime = Handle::current();
    let mut draining = pin!(server.draining());
    let mut backoff = BACKOFF_MIN;
    // How many peers in a row were lost before they were accepted.
    let mut failed: u32 = 0;
    loop {
        if until(draining.as_mut(), memory(server)).await.is_none() {
            return;
        }
        let Some(accepted) = until(draining.as_mut(), listener.accept()).await else {
            return;
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if !lacks_resources(&error) => {
                server.counts().accepts_failed.add();
                match is_the_peers(&error) {
                    true => {
                        tracing::debug!(address = listener.address(), %error, "a peer left before it was accepted");
                    }
                    false => server.note_failed_accept(listener.address(), &error),
                }
                failed = failed.wrapping_add(1);
                // The next one may be good, and others have their turn: there may be no end of errors.
                let turn = async {
                    match failed % FAILED_IN_A_ROW {
                        0 => sleep(BACKOFF_MIN).await,
                        _ => yield_now().await,
                    }
                };
                if until(draining.as_mut(), turn).await.is_none() {
                    return;
                }
                continue;
            }
            Err(error) => {
                // Out of files, say: trying again at once would spin, and open connections may end meanwhile.
                server.counts().accept_errors.add();
                tracing::warn!(address = listener.address(), %error, again_within = ?backoff, "accept failed");
                // Several listeners, and several servers, are not to try all at the same moment.
                let pause = backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
                if until(draining.as_mut(), sleep(pause)).await.is_none() {
                    return;
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
                continue;
            }
        };
        (backoff, failed) = (BACKOFF_MIN, 0);
        if gates.connections.available_permits() == 0 {
            server.counts().connections_delayed.add();
        }
        let admit = async {
            (
                gates.connections.clone().acquire_owned().await,
                gates.handshakes.begin().await,
            )
        };
        let Some((Ok(permit), Some(handshake))) = until(draining.as_mut(), admit).await else {
            serve_stream(server, stream, peer, None, &runtime);
            return;
        };
        let admission = Admission { permit, handshake };
        serve_stream(server, stream, peer, Some(admission), &runtime);
    }
}

/// Waits until there is memory for one more connection.
async fn memory(server: &Shared) {
    if server.memory().is_scarce() {
        server.counts().accepts_paused.add();
        tracing::warn!(
            held = server.memory().held(),
            "no connections are accepted: too much is held"
        );
    }
    while server.memory().is_scarce() {
        sleep(MEMORY_PAUSE).await;
    }
}

/// Serves a stream in `runtime`. When the drain has begun, its peer only learns that: it is told to start nothing, and none of its
/// calls are executed. When the drain has told all peers, the stream is closed, and false.
pub(crate) fn serve_stream(
    server: &Arc<Shared>,
    stream: Stream,
    peer: Peer,
    admission: Option<Admission>,
    runtime: &Handle,
) -> bool {
    let settings = server.settings();
    let max_frame = settings.max_frame;
    stream.give_up_after(settings.unacknowledged());
    let link = Link::new(Connection::new(Side::Acceptor, settings));
    let Some(served) = server.register(Arc::clone(&link), peer, runtime.clone()) else {
        return false;
    };
    if server.is_draining() {
        // Before the first byte is read, so that nothing of it is taken.
        announce(served.link(), server.drain_timeout());
    }
    // Its timer belongs to that runtime, too.
    let _entered = runtime.enter();
    Dispatcher::spawn(&served, Baton::new(stream, link, max_frame));
    runtime.spawn(watch_over(served, admission));
    true
}

/// Watches over a connection's handshake; what is to be done at the end is left to an [`Ending`].
async fn watch_over(served: Arc<Served>, admission: Option<Admission>) {
    // However this task ends, stubs to the caller learn that their connection is gone.
    let told = Told::new(served);
    let (permit, handshake) = admission.map_or((None, None), |one| (Some(one.permit), Some(one.handshake)));
    let Some(is_open) = shake_hands(told.served(), handshake).await else {
        return outlive(&told.tell()).await;
    };
    Ending::wait(told, permit, is_open);
}

/// Waits for the end of the handshake; none if its place was needed for another one.
async fn shake_hands(served: &Served, handshake: Option<Handshake>) -> Option<bool> {
    let peer = served.peer().address();
    let ready = poll_fn(|cx| served.link().with(|conn, _| conn.poll_ready(cx)));
    let is_open = match handshake {
        Some(handshake) => match until(handshake.evicted, ready).await {
            Some(ready) => ready.is_ok(),
            None => {
                const TEXT: &str = "handshake given up: too many peers are at it";
                served.link().look(|conn| conn.note_cut(Cut::HandshakeEvicted));
                served.server().note_cut(Cut::HandshakeEvicted, peer, TEXT);
                served.cut(TEXT);
                return None;
            }
        },
        None => ready.await.is_ok(),
    };
    if is_open {
        tracing::debug!(peer, "connection opened");
    }
    Some(is_open)
}

/// What is to be done when a connection has ended. The connection wakes it then: a task that waited for that would be a quarter of
/// the memory that an idle connection takes.
struct Ending {
    served: Arc<Served>,
    left: Mutex<Option<Left>>,
}

/// What a connection gives back at its end.
struct Left {
    told: Told,
    permit: Option<OwnedSemaphorePermit>,
    is_open: bool,
}

impl Ending {
    /// Lets the end of a connection come.
    fn wait(told: Told, permit: Option<OwnedSemaphorePermit>, is_open: bool) {
        let ending = Arc::new(Self {
            served: Arc::clone(told.served()),
            left: Mutex::new(Some(Left {
                told,
                permit,
                is_open,
            })),
        });
        ending.wake();
    }
}

impl Wake for Ending {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let Poll::Ready(cause) = self.served.poll_closed(&mut Context::from_waker(&waker)) else {
            return;
        };
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(left) = left {
            // In a task: whoever ends a connection may hold a lock that is needed here.
            self.served.runtime().spawn(end(left, cause));
        }
    }
}

/// A connection has ended: looks after what it leaves behind.
async fn end(left: Left, cause: Cause) {
    let Left {
        told,
        permit,
        is_open,
    } = left;
    let event = match is_open {
        true => "connection closed",
        false => "handshake failed",
    };
    match told.served().link().look(|conn| conn.cut()) {
        Some(cut) => told
            .served()
            .server()
            .note_cut(cut, told.served().peer().address(), &cause.to_string()),
        None => tracing::debug!(peer = told.served().peer().address(), %cause, "{event}"),
    }
    drop(permit);
    outlive(&told.tell()).await;
}

/// Keeps the deadlines of one-ways that outlive their connection, for its driver is gone.
pub(crate) async fn outlive(served: &Served) {
    let link = served.link();
    while let Some(due) = link.with(|conn, _| conn.poll_timeout()) {
        let none_left = poll_fn(|cx| link.with(|conn, _| conn.poll_no_request(cx)));
        if until(sleep_until(link.instant(due)), none_left).await.is_some() {
            return;
        }
        link.with(|conn, now| conn.handle_timeout(now));
    }
}

/// Tells those who call the peer of a connection when that has ended: when it is dropped, at the latest.
pub(crate) struct Told(Arc<Served>);

impl Told {
    pub(crate) fn new(served: Arc<Served>) -> Self {
        Self(served)
    }

    pub(crate) fn tell(self) -> Arc<Served> {
        Arc::clone(&self.0)
    }

    fn served(&self) -> &Arc<Served> {
        &self.0
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.0.caller_gone();
    }
}

/// A place among the connections, and one among the handshakes.
pub(crate) struct Admission {
    permit: OwnedSemaphorePermit,
    handshake: Handshake,
}

/// A handshake in progress.
struct Handshake {
    /// Ready when the place is needed for others.
    evicted: oneshot::Receiver<()>,
    _slot: OwnedSemaphorePermit,
}

/// The handshakes in progress.
struct Handshakes {
    slots: Arc<Semaphore>,
    open: Mutex<VecDeque<oneshot::Sender<()>>>,
}

impl Handshakes {
    /// Waits for a place; when none becomes free for [`PATIENCE`], the peers that had at least as long give theirs up.
    ///
    /// A crowd of honest peers passes in a moment, and mute ones cannot keep others out.
    async fn begin(&self) -> Option<Handshake> {
        let slots = Arc::clone(&self.slots);
        let slot = match until(sleep(PATIENCE), Arc::clone(&slots).acquire_owned()).await {
            Some(slot) => slot,
            None => {
                // Dropping the senders is what tells the peers' tasks.
                self.open().clear();
                slots.acquire_owned().await
            }
        };
        let (sender, evicted) = oneshot::channel();
        let mut open = self.open();
        open.retain(|sender| !sender.is_closed());
        open.push_back(sender);
        // The semaphore is never closed.
        Some(Handshake {
            evicted,
            _slot: slot.ok()?,
        })
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<()>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// After so many errors without a peer between them there is a pause: a listener that is broken gives nothing else.
const FAILED_IN_A_ROW: u32 = 1000;
/// How often it is looked whether there is memory again.
const MEMORY_PAUSE: Duration = Duration::from_millis(50);
/// How long a newcomer waits before mute peers lose their handshakes to it.
const PATIENCE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conn::State,
        net,
        server::{state::Options, terminate::Asker},
    };

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_while_listeners_are_closed_is_told_before_anything_is_read() {
        let server = Shared::of_nothing(Options::default());
        // A loop that is slow to close its listener: until then the drain tells nobody.
        let slow = server.runtime().spawn(std::future::pending());
        server.add_accepting(slow).unwrap();
        let (_before, theirs) = net::pair();
        assert!(serve_stream(
            &server,
            theirs,
            Peer::in_process(),
            None,
            server.runtime()
        ));
        server.begin_drain(&Asker::Handle);
        let (_while, theirs) = net::pair();
        assert!(serve_stream(
            &server,
            theirs,
            Peer::in_process(),
            None,
            server.runtime()
        ));
        let is_told = |one: &&Arc<Served>| matches!(one.link().with(|conn, _| conn.state()), State::Closing);
        let told = server.seal().iter().filter(is_told).count();
        assert_eq!(told, 1, "only the second");
        let (_behind, theirs) = net::pair();
        assert!(!serve_stream(
            &server,
            theirs,
            Peer::in_process(),
            None,
            server.runtime()
        ));
        server.closed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn mute_peers_give_their_handshakes_up_to_a_newcomer() {
        let gates = Gates::new(10, 2);
        let first = gates.handshakes.begin().await.unwrap();
        let second = gates.handshakes.begin().await.unwrap();
        let tasks = [first, second].map(|handshake| {
            tokio::spawn(async move {
                let Handshake { evicted, _slot } = handshake;
                evicted.await.is_err()
            })
        });
        let third = gates.handshakes.begin().await.unwrap();
        for task in tasks {
            assert!(task.await.unwrap());
        }
        drop(third);
    }
}
