//! The life of a connection beside its dispatcher: its handshake, and what follows its end.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use tokio::{sync::OwnedSemaphorePermit, time::sleep_until};

use super::admission::{Admission, EVICTED, Handshake};
use crate::{
    conn::{Cause, Cut},
    driver::{Clock, Wakes},
    metrics::OpenConnection,
    net::TlsFailure,
    server::{dispatch::Dispatched, until::until},
    session::Session,
};

/// Waits for a connection's handshake, and then leaves the connection to a [`ConnectionEnd`].
///
/// `open` counts the connection.
pub(super) async fn watch_over(
    session: Arc<Dispatched>,
    admission: Option<Admission>,
    open: Option<OpenConnection>,
) {
    // However this task ends, stubs that call the peer learn that their connection has ended.
    let notice = EndNotice::new(session);
    let (permit, handshake) =
        admission.map_or((None, None), |one| (Some(one.connection), Some(one.handshake)));
    let Some(is_open) = shake_hands(notice.session(), handshake).await else {
        count_end(open, notice.session());
        return outlive(&notice.give()).await;
    };
    ConnectionEnd::wait(LeftOfConnection {
        notice,
        permit,
        is_open,
        open,
    });
}

/// Counts the end of a connection, and why it has ended.
fn count_end(open: Option<OpenConnection>, session: &Dispatched) {
    if let Some(open) = open {
        open.ended(session.shared().lock(Clock::Recent, Wakes::Waiters).end_label());
    }
}

/// Waits for the end of the handshake. Returns whether the connection is open, or none if its place was needed for another
/// peer.
async fn shake_hands(session: &Dispatched, handshake: Option<Handshake>) -> Option<bool> {
    let peer = session.peer().address();
    let ready = poll_fn(|cx| session.shared().with(|conn, _| conn.poll_ready(cx)));
    let is_open = match handshake {
        Some(handshake) => match until(handshake.evicted, ready).await {
            Some(ready) => ready.is_ok(),
            None => {
                session
                    .shared()
                    .lock(Clock::Recent, Wakes::Waiters)
                    .note_cut(Cut::HandshakeEvicted);
                session.state().note_cut(Cut::HandshakeEvicted, peer, EVICTED);
                session.cut(EVICTED);
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

/// What follows the end of a connection. The connection wakes it then.
///
/// It is a waker and not a task: a task that waited for the end would be a quarter of the memory of an idle connection.
struct ConnectionEnd {
    session: Arc<Dispatched>,
    left: Mutex<Option<LeftOfConnection>>,
}

/// What a connection gives back at its end.
struct LeftOfConnection {
    notice: EndNotice,
    permit: Option<OwnedSemaphorePermit>,
    is_open: bool,
    open: Option<OpenConnection>,
}

impl ConnectionEnd {
    /// Waits for the end of a connection, without a task.
    fn wait(left: LeftOfConnection) {
        let end = Arc::new(Self {
            session: Arc::clone(left.notice.session()),
            left: Mutex::new(Some(left)),
        });
        end.wake();
    }
}

impl Wake for ConnectionEnd {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let Poll::Ready(cause) = self.session.poll_closed(&mut Context::from_waker(&waker)) else {
            return;
        };
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(left) = left {
            // In a task: the code that ends a connection may hold a lock that is needed here.
            self.session.runtime().spawn(end(left, cause));
        }
    }
}

/// Logs the end of a connection, and cares for the one-way calls that it leaves behind.
async fn end(left: LeftOfConnection, cause: Cause) {
    let LeftOfConnection {
        notice,
        permit,
        is_open,
        open,
    } = left;
    let event = match is_open {
        true => "connection closed",
        false => "handshake failed",
    };
    let session = notice.session();
    let peer = session.peer().address();
    let cut = session.shared().lock(Clock::Recent, Wakes::Waiters).cut();
    if let Cause::Lost {
        source: Some(error), ..
    } = &cause
    {
        if let Some(failure) = TlsFailure::find(error) {
            session.state().note_tls_failure(peer, &failure);
        }
    }
    match cut {
        Some(cut) => session.state().note_cut(cut, peer, &cause.to_string()),
        None => tracing::debug!(peer, %cause, "{event}"),
    }
    count_end(open, session);
    drop(permit);
    outlive(&notice.give()).await;
}

/// Keeps the deadlines of one-way calls that outlive their connection, since its driver is gone.
pub(crate) async fn outlive<D: ?Sized>(session: &Session<D>) {
    let shared = session.shared();
    while let Some(due) = shared.with(|conn, _| conn.poll_timeout()) {
        let none_left = poll_fn(|cx| shared.with(|conn, _| conn.poll_no_request(cx)));
        if until(sleep_until(shared.instant(due)), none_left).await.is_some() {
            return;
        }
        shared.with(|conn, now| conn.handle_timeout(now));
    }
}

/// Tells the stubs that call the peer of a connection that it has ended: when it is given or dropped.
pub(crate) struct EndNotice(Arc<Dispatched>);

impl EndNotice {
    pub(crate) fn new(session: Arc<Dispatched>) -> Self {
        Self(session)
    }

    /// Gives the notice now.
    pub(crate) fn give(self) -> Arc<Dispatched> {
        Arc::clone(&self.0)
    }

    fn session(&self) -> &Arc<Dispatched> {
        &self.0
    }
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.caller_gone();
    }
}
