//! ConnectionState: where a client stands with its server. StateWatch: how that changes.

use tokio::sync::watch;

/// Where a client stands with its server; [`Client::state`](crate::Client::state) tells.
///
/// ```text
/// Idle ──a call──▶ Connecting ──handshake──▶ Ready
///   │               │    ▲                     │ lost, or the server goes
///   │ a call, but   │    │ pause is over       ▼
///   │ the pause     │    │                    Idle
///   │ is not over   ▼    │
///   └────────────▶ BackingOff                        after a failure that no call waits behind: Idle
///
/// any ──close(), or the last clone is dropped──▶ Closed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// No connection, and no call that waits for one: the next call connects.
    Idle,
    /// An attempt to connect is on its way.
    Connecting,
    /// Connected: calls go out at once.
    Ready,
    /// The last attempt failed, or the connection has ended; the next attempt begins after a pause.
    BackingOff,
    /// The client is closed, and stays so.
    Closed,
}

/// How a client's [`ConnectionState`] changes; [`Client::watch_state`](crate::Client::watch_state) makes one.
///
/// It keeps no connection open: when the last clone of its client is dropped, it tells [`ConnectionState::Closed`].
///
/// ```
/// use rpc_runtime::{Client, ConnectionState, Server};
/// # use rpc_runtime::{Handler, Incoming, Procedure, Service};
/// # const RPC_NOOP: Procedure = Procedure::new("doc.v1.Watched/rpc_noop", 0x5a1c_66d0_17b5_11ef);
/// # struct Watched;
/// # impl Service for Watched {
/// #     fn name(&self) -> &'static str { "doc.v1.Watched" }
/// #     fn procedures(&self) -> &'static [Procedure] { &[RPC_NOOP] }
/// #     fn call(&self, _: usize, call: Incoming) -> Handler { call.handle(|_, (): ()| async { Ok(()) }) }
/// # }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// let server = Server::builder().service(Watched).listen("mem:watched").bind().await?;
/// let serving = tokio::spawn(server.serve());
///
/// let client = Client::connect_lazy("mem:watched");
/// assert_eq!(client.state(), ConnectionState::Idle);
/// let mut watch = client.watch_state();
/// client.ping().await?;
/// assert_eq!(client.state(), ConnectionState::Ready);
/// while watch.changed().await != ConnectionState::Ready {}
///
/// client.terminate().await?;
/// while watch.changed().await == ConnectionState::Ready {}
/// println!("no longer connected: {:?}", client.last_failure());
///
/// drop(client);
/// while watch.changed().await != ConnectionState::Closed {}
/// serving.await.unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StateWatch {
    published: watch::Receiver<PublishedState>,
    seen: u64,
}

/// A state, and how many changes there were up to it: one that came back is not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublishedState {
    pub(super) state: ConnectionState,
    pub(super) changes: u64,
}

impl PublishedState {
    /// The state of a new channel.
    pub(super) const NEW: Self = Self {
        state: ConnectionState::Idle,
        changes: 0,
    };

    /// Counts the change to `state`, if it is one.
    pub(super) fn set(&mut self, state: ConnectionState) {
        if self.state != state {
            self.state = state;
            self.changes += 1;
        }
    }
}

impl StateWatch {
    pub(super) fn new(published: watch::Receiver<PublishedState>) -> Self {
        let seen = published.borrow().changes;
        Self { published, seen }
    }

    /// The state now.
    pub fn state(&self) -> ConnectionState {
        if self.is_orphaned() {
            return ConnectionState::Closed;
        }
        self.published.borrow().state
    }

    /// Waits for a change since the watch was made, or since the last one that this has told, and tells the newest
    /// state.
    ///
    /// Of several changes only the newest is told: it may be the state that was told before, if there was another in
    /// between. After [`ConnectionState::Closed`] nothing changes any more, and it returns that at once: a loop has to
    /// end there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next call tells the change.
    pub async fn changed(&mut self) -> ConnectionState {
        loop {
            if self.is_orphaned() {
                return ConnectionState::Closed;
            }
            let published = *self.published.borrow_and_update();
            if published.changes != self.seen || published.state == ConnectionState::Closed {
                self.seen = published.changes;
                return published.state;
            }
            // An error is looked at above.
            let _ = self.published.changed().await;
        }
    }

    /// Whether the client and all its clones are gone.
    fn is_orphaned(&self) -> bool {
        self.published.has_changed().is_err()
    }
}
