//! ConnectionState: the state of a client's connection. StateWatch: its changes.

use tokio::sync::watch;

/// The state of a client's connection; [`Client::state`](crate::Client::state) returns it.
///
/// ```text
/// Idle ──a call──▶ Connecting ──handshake──▶ Ready
///   │               │    ▲                     │ lost, or the server goes
///   │ a call, but   │    │ pause is over       ▼
///   │ the pause     │    │                    Idle
///   │ is not over   ▼    │
///   └────────────▶ BackingOff                        after a failure while no call waits: Idle
///
/// any ──close(), or the last clone is dropped──▶ Closed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// No connection, and no call waits for one: the next call connects.
    Idle,
    /// An attempt to connect runs.
    Connecting,
    /// Connected: calls go out at once.
    Ready,
    /// The last attempt failed, or the connection has ended; the next attempt begins after a pause.
    BackingOff,
    /// The client is closed for ever.
    Closed,
}

/// Tells the changes of a client's [`ConnectionState`]; [`Client::watch_state`](crate::Client::watch_state) returns
/// one.
///
/// It does not keep the connection open. When the last clone of its client is dropped, it tells
/// [`ConnectionState::Closed`].
///
/// ```
/// use rpc_runtime::{Client, Server, client::ConnectionState};
/// # use rpc_runtime::server::{Handler, Incoming, Procedure, Service};
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
/// let server = Server::builder().service(Watched).listener("mem:watched").bind().await?;
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

/// A state, and the number of changes up to it: a state that comes back is another change.
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

    /// Sets the state, and counts that if it changes.
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

    /// Returns the current state.
    pub fn state(&self) -> ConnectionState {
        if self.is_orphaned() {
            return ConnectionState::Closed;
        }
        self.published.borrow().state
    }

    /// Waits for the next change, and returns the newest state.
    ///
    /// It returns at once if the state has changed since the last call, or since the watch was made. Of several changes
    /// it returns only the newest, which may equal the state that it returned last. After [`ConnectionState::Closed`]
    /// nothing changes, and it returns at once: end the loop there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no change: the next call returns it.
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
            // The loop checks an error above.
            let _ = self.published.changed().await;
        }
    }

    /// True if the client and all its clones are gone.
    fn is_orphaned(&self) -> bool {
        self.published.has_changed().is_err()
    }
}
