//! Calling a service: the client, its options, and its calls.
//!
//! Generated clients wrap a [`Client`]. Its builder sets addresses, timeouts and limits; a [`Call`] sets options for one call.

pub(crate) mod acceptor;
mod builder;
mod call;
mod channel;
mod connection_failure;
mod deadline;
mod errors;
mod flush;
pub(crate) mod inherited;
#[cfg(test)]
mod tests;
mod timer;

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

pub use crate::api::account::{Account, DropReason};

pub(crate) use self::channel::Channel;
pub use self::{
    builder::ClientBuilder,
    call::{Call, Receipt, Reply, Sender, Streaming, UnaryCall},
    channel::{ConnectionState, StateWatch},
};
use self::{
    channel::{HadConnection, WaitFor, pool::ChannelPool},
    deadline::Deadline,
};
use crate::{DrainReport, Error, Load, api::limits::CALL_TIMEOUT, message::control::PING};

/// A channel to one service: connects, and connects again after a loss, as calls need it.
///
/// It may be used from any runtime; the connection lives in the one whose call has made it, and needs that to run. Each call
/// ends at its deadline in the runtime that polls it, all the same.
///
/// Cheap to clone; all clones share one connection, or those that [`ClientBuilder::connections`] says. When the last one is dropped, the connection closes in the
/// background, and what is queued still goes out; [`Client::close`] waits for that.
#[derive(Clone)]
pub struct Client {
    channels: ChannelPool,
    timeout: Option<Duration>,
    connect_timeout: Duration,
    fails_fast: bool,
}

/// Making one.
impl Client {
    /// Connects to `tcp://host:port`, `unix:/path` or `mem:name`, and waits for the handshake.
    ///
    /// After that, a lost connection is replaced at the next call, which tries until its deadline.
    ///
    /// # Errors
    ///
    /// At once if nobody listens there, if the peer does not speak the protocol, or if the address is bad;
    /// DEADLINE_EXCEEDED if the peer does not answer within 10 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub async fn connect(address: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(address).connect().await
    }

    /// A client that connects at its first call.
    ///
    /// A call that finds nobody there tries again until its deadline. A bad address makes every call fail.
    pub fn connect_lazy(address: impl AsRef<str>) -> Self {
        Self::builder(address).connect_lazy()
    }

    /// A client of `address` to be configured.
    pub fn builder(address: impl AsRef<str>) -> ClientBuilder {
        ClientBuilder::new(address)
    }

    fn new(
        channels: ChannelPool,
        timeout: Option<Duration>,
        connect_timeout: Duration,
        fails_fast: bool,
    ) -> Self {
        Self {
            channels,
            timeout,
            connect_timeout,
            fails_fast,
        }
    }

    /// A client over one connection of a server: see [`Channel::over_connection`].
    pub(crate) fn over(channel: Arc<Channel>) -> Self {
        Self::new(
            ChannelPool::one(channel),
            Some(CALL_TIMEOUT),
            Duration::ZERO,
            false,
        )
    }

    async fn first_attempt(&self) -> Result<(), Error> {
        let addresses = u32::try_from(self.channel().addresses()).unwrap_or(u32::MAX);
        // Each attempt has its own bound, and says more when it ends by that.
        let timeout = self
            .connect_timeout
            .saturating_mul(addresses)
            .saturating_add(SPARE);
        for channel in self.channels.all() {
            let deadline = Deadline::new(Some(timeout), None, Instant::now());
            channel
                .connected(WaitFor::FirstRound, HadConnection::No, deadline)
                .await?;
        }
        Ok(())
    }
}

/// Calls.
impl Client {
    /// Begins a call with its options; stubs do this.
    pub fn call(&self) -> Call<'_> {
        Call::new(self)
    }

    /// Tells the server to terminate, and waits until it is drained.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED if this client may not, UNIMPLEMENTED if the server does not let itself be terminated. See
    /// [`Call::terminate`] for how long it waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting; a drain that has begun goes on.
    pub async fn terminate(&self) -> Result<DrainReport, Error> {
        self.call().terminate().await
    }

    /// Calls the server's built-in ping, and tells how long it took; connecting, if it has to, is not counted.
    ///
    /// # Errors
    ///
    /// As any call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let deadline = self.call().deadline(self.timeout);
        let connected = self
            .channel()
            .connected(WaitFor::of_calls(self.fails_fast), HadConnection::No, deadline)
            .await;
        connected.map_err(|error| error.with_procedure(PING.path()))?;
        let start = Instant::now();
        self.call().ping(deadline).await?;
        Ok(start.elapsed())
    }

    /// Waits until everything that was sent so far is with the operating system.
    ///
    /// It takes no longer than the client's timeout.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE, once, if a connection ended that carried one-way calls which no [`Client::barrier`] had
    /// covered: [`Error::lost_sends`] counts them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn flush(&self) -> Result<(), Error> {
        let deadline = self.call().deadline(self.timeout);
        let mut result = Ok(());
        for channel in self.channels.all() {
            result = result.and(flush::flush(channel, deadline).await);
        }
        result
    }

    /// Waits until the server has read and admitted every one-way call sent so far, and returns what has become of them
    /// until now: on this connection, since it began. It does not wait for their handlers: those that wait or run are
    /// [`Account::pending`], and [`Client::settled`] waits for their end.
    ///
    /// Without a connection, and if nothing is in doubt, it returns at once what the last connection that carried one-way
    /// calls said at its end. A client that never had a connection makes one.
    ///
    /// It takes no longer than the client's timeout.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE, once, if a connection ended that carried one-way calls which no barrier had covered:
    /// [`Error::lost_sends`] counts them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn barrier(&self) -> Result<Account, Error> {
        flush::barrier(self, self.call().deadline(self.timeout)).await
    }

    /// Waits until every one-way call sent so far has ended on the server: handled, failed, expired or dropped; and returns what
    /// became of all of them, as [`Client::barrier`] does. What is still [`Account::pending`] was sent later.
    ///
    /// It takes no longer than the client's timeout, 30 s if nothing else was said: see [`Client::settled_within`]. One-way
    /// calls end by their own deadlines, too.
    ///
    /// ```no_run
    /// # async fn example(client: rpc_runtime::Client) -> Result<(), rpc_runtime::Error> {
    /// let account = client.settled().await?;
    /// assert_eq!(account.pending(), 0, "nobody else sends by this client");
    /// println!("{} of {} failed", account.failed(), account.received());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// DEADLINE_EXCEEDED if some have not ended in time: ask [`Client::barrier`] how many. UNAVAILABLE, once, if a
    /// connection ended that carried one-way calls which no barrier had covered ([`Error::lost_sends`] counts them), or which
    /// were still running when its server told of them last. UNIMPLEMENTED if the peer is of another make, cannot tell, and
    /// some are pending.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled(&self) -> Result<Account, Error> {
        self.settled_within(self.timeout).await
    }

    /// As [`Client::settled`], bounded by `timeout` instead of the client's own; `None` for no bound.
    ///
    /// # Errors
    ///
    /// As [`Client::settled`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn settled_within(&self, timeout: impl Into<Option<Duration>>) -> Result<Account, Error> {
        flush::settled(self, self.call().deadline(timeout.into())).await
    }

    /// Closes the client and all its clones: takes no more calls, writes what was sent, lets open calls finish.
    ///
    /// It takes no longer than the client's timeout, or 30 s if there is none; calls that are open then fail. After
    /// that every call fails UNAVAILABLE. A client to a handler's caller leaves the connection alone, which is the
    /// caller's, and is closed at once.
    ///
    /// # Errors
    ///
    /// DEADLINE_EXCEEDED if calls had to be cut; UNAVAILABLE if the connection was lost before all was written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting; the client closes all the same.
    pub async fn close(&self) -> Result<(), Error> {
        flush::close(&self.channels, self.timeout).await
    }
}

/// What becomes of the connection.
impl Client {
    /// Where the client stands with its server now; with the first of several connections.
    ///
    /// To be shown, not to be acted upon: a call needs no connection to begin with, and a connection may be lost the
    /// moment after. `Ready` says that the connection was made and has not ended, not that its runtime runs: if that
    /// stands still, calls from other runtimes end at their deadlines.
    pub fn state(&self) -> ConnectionState {
        self.channel().connection_state()
    }

    /// Watches how [`Client::state`] changes.
    pub fn watch_state(&self) -> StateWatch {
        self.channel().watch_state()
    }

    /// What the client has in hand right now, on all of its connections.
    pub fn load(&self) -> Load {
        self.channels
            .all()
            .map(|channel| channel.load())
            .fold(Load::default(), Load::and)
    }

    /// Why there is no connection: what came of the last attempts, or how the last connection ended. None while there
    /// is a connection, or if none was ever tried.
    pub fn last_failure(&self) -> Option<Error> {
        self.channel().last_failure()
    }
}

/// What the options of a call need.
impl Client {
    /// By which one-way calls go, and the built-in ones.
    fn channel(&self) -> &Arc<Channel> {
        self.channels.first()
    }

    /// By which the next call with a reply goes.
    #[inline]
    fn next_channel(&self) -> &Arc<Channel> {
        self.channels.next()
    }

    #[inline]
    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    #[inline]
    fn fails_fast(&self) -> bool {
        self.fails_fast
    }

    /// The peer's address, or where the client connects to while there is no peer.
    fn peer_or_address(&self) -> Arc<str> {
        self.channel().peer_or_address()
    }
}

/// How much longer than all its attempts a [`Client::connect`] waits for their end.
const SPARE: Duration = Duration::from_secs(5);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", self.channel().address())
            .field("state", &self.state())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
