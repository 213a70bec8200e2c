//! Keeper: the task that makes one connection, watches over it, and ends it.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{timeout, timeout_at},
};

use super::{channel::Channel, failure::Obstacle};
use crate::{
    Error, Peer,
    conn::{Cause, Connection, Settings, Side},
    driver::{Baton, Drive, Link},
    runtime::{self, unless_panics},
    server::{Callable, InProcess},
    transport::{self, Address, Connector, Stream},
};

/// Where a channel connects to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Address(Address),
    /// What the user's function makes of an address.
    Custom(Connector, Arc<str>),
    InProcess(Arc<InProcess>),
    /// Nowhere: the channel was lent its connection.
    Lent,
    /// No address: every call fails with this.
    Bad(Error),
}

/// Held by those who want a connection; it is given up when this is dropped.
pub(super) type Hold = oneshot::Sender<Infallible>;
/// Tells when the last [`Hold`] is gone.
pub(super) type Held = oneshot::Receiver<Infallible>;

/// The task that makes one connection, watches over it, and ends it when nobody wants it any more.
///
/// It is a task of its own, so that a caller who gives up takes nothing from the others.
pub(super) struct Keeper {
    pub(super) watch: Watch,
    pub(super) settings: Arc<Settings>,
    pub(super) connect_timeout: Duration,
    /// What the peer may call.
    pub(super) services: Option<Arc<Callable>>,
    pub(super) held: Held,
}

impl Keeper {
    /// Tries the addresses in turn until one answers or all have failed, and keeps what comes of it.
    pub(super) async fn run(mut self) {
        let attempts = establish(&self.watch.channel, self.connect_timeout);
        let (stream, peer) = match unless_released(&mut self.held, attempts).await {
            Some(Some(established)) => established,
            Some(None) => {
                // The channel knows.
                self.watch.kept = Kept::Nothing;
                return;
            }
            None => return,
        };
        let settings = Settings {
            random: fastrand::u32(..),
            ..Settings::clone(&self.settings)
        };
        stream.give_up_after(settings.unacknowledged());
        let link = Link::new(Connection::new(Side::Connector, settings));
        let baton = Baton::new(stream, Arc::clone(&link), self.settings.max_frame);
        let wanted = self
            .watch
            .channel
            .upgrade()
            .is_some_and(|channel| channel.opened(&link, peer.address_arc(), Arc::clone(&baton)));
        if !wanted {
            return;
        }
        self.watch.kept = Kept::Connection(Arc::clone(&link));
        let services = self.services.as_ref();
        let callee = services.and_then(|services| services.serve(Arc::clone(&link), peer, &baton));
        if callee.is_none() {
            tokio::spawn(Drive::new(Arc::clone(&baton)));
        }
        self.keep(&link, &baton).await;
        // Now the channel knows that the connection is over.
        drop(self);
        if let Some(callee) = callee {
            // One-way calls of the peer may outlive their connection, but not for long.
            callee.outlive().await;
        }
    }

    /// Watches the connection until it is over.
    async fn keep(&mut self, link: &Arc<Link>, baton: &Baton<Stream>) {
        let channel = &self.watch.channel;
        let closed = || poll_fn(|cx| link.with(|conn, _| conn.poll_closed(cx)));
        let end = async {
            let ready = poll_fn(|cx| link.with(|conn, _| conn.poll_ready(cx))).await;
            if let Some(channel) = channel.upgrade() {
                match ready {
                    Ok(()) => channel.ready(link),
                    Err(cause) => channel.rejected(link, &cause),
                }
            }
            closed().await;
        };
        if unless_released(&mut self.held, end).await.is_none() {
            link.with(|conn, now| conn.close(now));
            if timeout(FAREWELL, closed()).await.is_err() {
                baton.cut("the client was dropped, and its peer did not take what was queued");
            }
        }
    }
}

/// Makes attempts, each after its pause, for as long as the channel wants one; none if it wants no more.
async fn establish(channel: &Weak<Channel>, connect_timeout: Duration) -> Option<(Stream, Peer)> {
    loop {
        pause(channel).await?;
        let target = channel.upgrade()?.begin();
        match connect(&target, connect_timeout).await {
            Ok(established) => return Some(established),
            Err(obstacle) => {
                let goes_on = channel.upgrade()?.failed(obstacle);
                if !goes_on {
                    return None;
                }
            }
        }
    }
}

/// Waits until the pause before the next attempt is over, of which a call may have cut something meanwhile.
async fn pause(channel: &Weak<Channel>) -> Option<()> {
    let mut changed = channel.upgrade()?.changes();
    while let Some(end) = channel.upgrade()?.pause_end() {
        if timeout_at(end, changed.changed()).await.is_err() {
            break;
        }
    }
    Some(())
}

/// Brings a transport about, and tells who is at its other end.
async fn connect(target: &Target, connect_timeout: Duration) -> Result<(Stream, Peer), Obstacle> {
    match target {
        Target::Address(address) => reach(transport::connect(address), connect_timeout)
            .await
            .unwrap_or_else(|panic| Err(Obstacle::refused(&runtime::transport_error(&panic)))),
        Target::Custom(connector, address) => reach(connector.connect(address), connect_timeout)
            .await
            .unwrap_or_else(|panic| Err(Obstacle::panicked(&panic))),
        Target::InProcess(server) => {
            let (ours, theirs) = transport::pair();
            server.accept(theirs).map_err(|error| Obstacle::refused(&error))?;
            Ok((ours, Peer::in_process()))
        }
        // No channel of this kind makes attempts.
        Target::Lent => Err(Obstacle::of(&Cause::Closed)),
        // Every call fails before it comes to this.
        Target::Bad(error) => Err(Obstacle::refused(error)),
    }
}

/// Waits for a transport, within its time.
///
/// # Errors
///
/// What the panic says, if `connecting` panics.
async fn reach(
    connecting: impl Future<Output = io::Result<(Stream, Peer)>>,
    connect_timeout: Duration,
) -> Result<Result<(Stream, Peer), Obstacle>, String> {
    match timeout(connect_timeout, unless_panics(connecting)).await {
        Ok(Ok(Ok(connected))) => Ok(Ok(connected)),
        Ok(Ok(Err(error))) => Ok(Err(Obstacle::unreachable(error))),
        Ok(Err(panic)) => Err(panic),
        Err(_) => Ok(Err(Obstacle::slow(connect_timeout))),
    }
}

/// Runs `future` to its end, unless all holds are dropped before: then it is dropped, too.
async fn unless_released<F: Future>(held: &mut Held, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        Pin::new(&mut *held).poll(cx).map(|_| None)
    })
    .await
}

/// Tells the channel at the end, however the keeper ends: a runtime that shuts down just drops it, perhaps before it
/// has begun.
pub(super) struct Watch {
    channel: Weak<Channel>,
    kept: Kept,
}

enum Kept {
    Attempt,
    Connection(Arc<Link>),
    Nothing,
}

impl Watch {
    /// Watches an attempt to connect.
    pub(super) fn new(channel: Weak<Channel>) -> Self {
        Self {
            channel,
            kept: Kept::Attempt,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(channel) = self.channel.upgrade() else {
            return;
        };
        match &self.kept {
            Kept::Attempt => channel.abandoned(),
            Kept::Connection(link) => channel.ended(link),
            Kept::Nothing => {}
        }
    }
}

/// How long the connection of a dropped client may take to write what is queued.
const FAREWELL: Duration = Duration::from_secs(30);
