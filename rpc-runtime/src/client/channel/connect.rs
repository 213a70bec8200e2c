//! Connect: one attempt to connect. Addresses race, and the first that answers wins.
//!
//! It follows RFC 8305 (Happy Eyeballs): each address begins [`STEP`] after the one before, or at once when that has
//! failed. An attempt goes on while later ones run. So an earlier address that answers promptly wins, and an address
//! that does not answer costs one step.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::addresses::{ConnectTarget, RaceAddress};
use crate::{
    Peer, Transport,
    client::acceptor::{AfterConnection, CallbackServer, StreamAcceptor},
    client::connection_failure::ConnectionFailure,
    conn::{Cause, Connection, Settings, Side},
    driver::{
        Baton, Breaker, Clock, Drive, RUNTIME_GONE, SharedConnection, Wakes,
        runtime::{self, unless_panics},
    },
    metrics::{ConnectionMeters, Protocol},
    net::{self, Address, Spot, Stream},
};

/// How long an address is tried alone before the next one is tried beside it.
pub(super) const STEP: Duration = Duration::from_millis(250);

/// What the attempts of a race have in common.
pub(super) struct ConnectRace {
    pub(super) settings: Arc<Settings>,
    /// How long each address may take in all: look-up, transport and handshake.
    pub(super) connect_timeout: Duration,
    /// What the peer may call.
    pub(super) callbacks: Option<Arc<dyn CallbackServer>>,
    /// Where a name has several endpoints, only the handshake wins.
    pub(super) wins_at: WinsAt,
}

/// What an address needs to win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WinsAt {
    /// A transport: calls go ahead of the handshake.
    Transport,
    /// The peer's HELLO.
    Handshake,
}

/// An address that takes part, and its progress.
struct RunningAddress {
    address: RaceAddress,
    /// Set when it begins.
    deadline: Option<Instant>,
    step: Duration,
    wins_at: WinsAt,
    /// How many of its endpoints have not failed yet.
    open: usize,
    /// How the others failed.
    failures: Vec<(Spot, ConnectionFailure)>,
}

/// What is tried at an address.
#[derive(Clone, Copy)]
enum ConnectStep {
    Resolve,
    Connect(Spot),
}

enum StepOutcome {
    Resolved(Vec<Spot>),
    Connected(NewConnection),
    Failed(ConnectionFailure),
}

type ConnectStepFuture<'a> = Pin<Box<dyn Future<Output = (usize, ConnectStep, StepOutcome)> + Send + 'a>>;

impl ConnectRace {
    /// Runs the race and returns the winner. `failed` is called for each address that fails, with the endpoint that was
    /// tried last.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends all attempts; the winner ends the other ones, too.
    pub(super) async fn run(
        &self,
        addresses: Vec<RaceAddress>,
        mut failed: impl FnMut(usize, Option<Spot>, ConnectionFailure),
    ) -> Option<Winner> {
        let mut running: Vec<_> = addresses
            .into_iter()
            .map(|address| RunningAddress::new(address, self.wins_at))
            .collect();
        let mut waiting: VecDeque<_> = running
            .iter()
            .map(|one| one.address.first_try())
            .enumerate()
            .collect();
        let mut attempts: Vec<ConnectStepFuture<'_>> = Vec::new();
        let mut next_at = Instant::now();
        loop {
            if attempts.is_empty() || next_at <= Instant::now() {
                match waiting.pop_front() {
                    Some((at, what)) => {
                        let one = &mut running[at];
                        next_at = Instant::now() + one.step;
                        let deadline = one.deadline(self.connect_timeout);
                        let attempt = self.attempt(one.address.target.clone(), what, deadline, one.wins_at);
                        attempts.push(Box::pin(async move { (at, what, attempt.await) }));
                    }
                    None if attempts.is_empty() => return None,
                    None => {}
                }
            }
            let until = (!waiting.is_empty()).then_some(next_at);
            let Some((at, what, came)) = first(&mut attempts, until).await else {
                continue;
            };
            let one = &mut running[at];
            match (came, what) {
                (StepOutcome::Resolved(spots), _) => {
                    next_at = Instant::now();
                    let spots = one.address.in_order(spots);
                    one.spread(spots.len(), self.connect_timeout);
                    for spot in spots.into_iter().rev() {
                        waiting.push_front((at, ConnectStep::Connect(spot)));
                    }
                }
                (StepOutcome::Connected(connection), ConnectStep::Connect(spot)) => {
                    let place = one.address.place;
                    return Some(Winner {
                        connection,
                        place,
                        spot,
                    });
                }
                // A look-up connects to nothing.
                (StepOutcome::Connected(_), ConnectStep::Resolve) => {}
                (StepOutcome::Failed(failure), what) => {
                    next_at = Instant::now();
                    if let Some((spot, failure)) = one.fail(what, failure) {
                        failed(one.address.place, spot, failure);
                    }
                }
            }
        }
    }

    async fn attempt(
        &self,
        target: ConnectTarget,
        what: ConnectStep,
        deadline: Instant,
        wins_at: WinsAt,
    ) -> StepOutcome {
        let spot = match what {
            ConnectStep::Resolve => return self.find(&target, deadline).await,
            ConnectStep::Connect(spot) => spot,
        };
        let connected = self.connect(&target, spot, deadline).await;
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(failure) => return StepOutcome::Failed(failure),
        };
        if wins_at == WinsAt::Handshake {
            if let Err(failure) = connection.shake_hands().await {
                return StepOutcome::Failed(failure);
            }
        }
        StepOutcome::Connected(connection)
    }

    async fn find(&self, target: &ConnectTarget, deadline: Instant) -> StepOutcome {
        let ConnectTarget::Address(address, _) = target.way() else {
            return StepOutcome::Resolved(vec![Spot::Whole]);
        };
        match timeout_at(deadline, net::find(address)).await {
            Ok(Ok(spots)) => StepOutcome::Resolved(spots),
            Ok(Err(error)) => StepOutcome::Failed(ConnectionFailure::unresolved(address, error)),
            Err(_) => StepOutcome::Failed(ConnectionFailure::slow_to_resolve(address, self.connect_timeout)),
        }
    }

    async fn connect(
        &self,
        target: &ConnectTarget,
        spot: Spot,
        deadline: Instant,
    ) -> Result<NewConnection, ConnectionFailure> {
        let reached = reach(target, spot, self.settings.unacknowledged());
        let Ok(reached) = timeout_at(deadline, reached).await else {
            return Err(ConnectionFailure::slow(self.connect_timeout));
        };
        let (far_end, peer) = reached?;
        let protocol = match target {
            ConnectTarget::Bridged(_) => Protocol::Grpc,
            _ => Protocol::Native,
        };
        self.launch(far_end, peer, protocol, deadline)
    }

    /// Begins the handshake, which gets the time that the transport has left.
    fn launch(
        &self,
        far_end: FarEnd,
        peer: Peer,
        protocol: Protocol,
        deadline: Instant,
    ) -> Result<NewConnection, ConnectionFailure> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Milliseconds are precise enough for errors.
        let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1));
        let settings = Settings {
            random: fastrand::u32(..),
            handshake_timeout: left.min(self.settings.handshake_timeout),
            ..Settings::clone(&self.settings)
        };
        let unacknowledged = settings.unacknowledged();
        let is_metered = settings.is_metered;
        let mut connection = Connection::new(Side::Connector, settings);
        if is_metered {
            connection.measure(ConnectionMeters::of_client(protocol));
        }
        let shared = SharedConnection::new(connection);
        let (address, is_loopback, transport) = (peer.address_arc(), peer.is_loopback(), peer.transport());
        let stream = match far_end {
            FarEnd::Stream(mut stream) => {
                stream.give_up_after(unacknowledged);
                Some(stream)
            }
            FarEnd::Server(server) => self.join(&*server, &shared)?,
        };
        let (breaker, after) = match stream {
            Some(stream) => {
                let baton = Baton::new(stream, Arc::clone(&shared), self.settings.max_frame);
                let callbacks = self.callbacks.as_ref();
                let after =
                    callbacks.and_then(|callbacks| callbacks.serve(Arc::clone(&shared), peer, &baton));
                if after.is_none() {
                    tokio::spawn(Drive::new(Arc::clone(&baton)));
                }
                (Breaker::Driven(baton), after)
            }
            None => (Breaker::Joined(Arc::clone(&shared)), None),
        };
        Ok(NewConnection {
            shared,
            breaker,
            peer: address,
            is_loopback,
            transport,
            protocol,
            after,
            hello_by: Instant::now() + left,
            is_on_its_own: false,
        })
    }

    /// Lets a server of this process serve a connection, and drive it together with its own end. Returns a stream if that is not possible:
    /// a connection by which the server may call back has a dispatcher, which drives it.
    fn join(
        &self,
        server: &dyn StreamAcceptor,
        shared: &Arc<SharedConnection>,
    ) -> Result<Option<Stream>, ConnectionFailure> {
        let (ours, theirs) = match &self.callbacks {
            None => (
                None,
                Stream::of_connection(Arc::clone(shared), self.settings.max_frame),
            ),
            Some(_) => {
                let (ours, theirs) = net::pair();
                (Some(ours), theirs)
            }
        };
        let accepted = server.accept(theirs);
        accepted.map_err(|error| ConnectionFailure::refused(&error))?;
        Ok(ours)
    }
}

/// What an address leads to.
enum FarEnd {
    /// A byte stream to a server.
    Stream(Stream),
    /// A server of this process.
    Server(Arc<dyn StreamAcceptor>),
}

impl RaceAddress {
    /// A host may have several endpoints; other addresses need no look-up.
    fn first_try(&self) -> ConnectStep {
        match self.target.way() {
            ConnectTarget::Address(Address::Tcp(_) | Address::Tls(_), _) => ConnectStep::Resolve,
            _ => ConnectStep::Connect(Spot::Whole),
        }
    }

    /// All of `spots`, beginning behind the one that failed last.
    fn in_order(&self, mut spots: Vec<Spot>) -> Vec<Spot> {
        let behind = self
            .behind
            .and_then(|last| spots.iter().position(|spot| *spot == last));
        if let Some(at) = behind {
            spots.rotate_left(at + 1);
        }
        spots
    }
}

impl RunningAddress {
    fn new(address: RaceAddress, wins_at: WinsAt) -> Self {
        let wins_at = match address.target.way() {
            // A server may refuse our certificate after the end of our part of the TLS handshake. Calls that had gone ahead
            // would be in doubt.
            ConnectTarget::Address(Address::Tls(_), _) => WinsAt::Handshake,
            _ => wins_at,
        };
        Self {
            address,
            deadline: None,
            step: STEP,
            wins_at,
            open: 1,
            failures: Vec::new(),
        }
    }

    /// When all its tries must be over; the first call starts the time.
    fn deadline(&mut self, connect_timeout: Duration) -> Instant {
        *self.deadline.get_or_insert_with(|| {
            let now = Instant::now();
            now.checked_add(connect_timeout).unwrap_or_else(|| now + FAR)
        })
    }

    /// Spreads its time over `spots` endpoints, so that all of them are tried.
    fn spread(&mut self, spots: usize, connect_timeout: Duration) {
        self.open = spots;
        if spots > 1 {
            self.wins_at = WinsAt::Handshake;
        }
        let share = u32::try_from(spots).unwrap_or(u32::MAX).saturating_add(1);
        self.step = STEP.min(connect_timeout / share);
    }

    /// Notes a failed try. After the last one, returns the failure of the address and its last endpoint.
    fn fail(
        &mut self,
        what: ConnectStep,
        failure: ConnectionFailure,
    ) -> Option<(Option<Spot>, ConnectionFailure)> {
        let ConnectStep::Connect(spot) = what else {
            return Some((None, failure));
        };
        self.failures.push((spot, failure));
        self.open -= 1;
        if self.open > 0 {
            return None;
        }
        Some((Some(spot), ConnectionFailure::of_spots(&self.failures)))
    }
}

/// Waits for the first of `attempts` to end, the earlier one of two; none at the time `until`.
async fn first(
    attempts: &mut Vec<ConnectStepFuture<'_>>,
    until: Option<Instant>,
) -> Option<(usize, ConnectStep, StepOutcome)> {
    let mut timer = pin!(until.map(sleep_until));
    poll_fn(|cx| {
        for at in 0..attempts.len() {
            if let Poll::Ready(ended) = attempts[at].as_mut().poll(cx) {
                drop(attempts.remove(at));
                return Poll::Ready(Some(ended));
            }
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

/// Reaches a server, and tells who the peer is. The OS gives up a stream behind a bridge when `unacknowledged` has passed.
async fn reach(
    target: &ConnectTarget,
    spot: Spot,
    unacknowledged: Duration,
) -> Result<(FarEnd, Peer), ConnectionFailure> {
    match target {
        ConnectTarget::InProcess(server) => Ok((FarEnd::Server(Arc::clone(server)), Peer::in_process())),
        ConnectTarget::Bridged(bridged) => {
            let (mut stream, peer) = transport(&bridged.way, spot).await?;
            stream.give_up_after(unacknowledged);
            let (address, settings) = (Arc::clone(&bridged.address), bridged.settings.clone());
            let joining = bridged.bridge.join(stream, peer.clone(), address, settings);
            let server = joining.await.map_err(ConnectionFailure::of_bridge)?;
            Ok((FarEnd::Server(server), peer.at(&bridged.address)))
        }
        // A channel of this kind makes no attempts.
        ConnectTarget::Lent => Err(ConnectionFailure::of(&Cause::Closed)),
        // Every call fails before an attempt.
        ConnectTarget::Bad(error) => Err(ConnectionFailure::refused(error)),
        ConnectTarget::Address(..) | ConnectTarget::Custom(..) => {
            let (stream, peer) = transport(target, spot).await?;
            Ok((FarEnd::Stream(stream), peer))
        }
    }
}

/// Makes a byte stream to the server of `target`, and tells who the peer is.
async fn transport(target: &ConnectTarget, spot: Spot) -> Result<(Stream, Peer), ConnectionFailure> {
    let reached = match target {
        ConnectTarget::Address(address, security) => unless_panics(net::connect(address, spot, security))
            .await
            .map_err(|panic| ConnectionFailure::refused(&runtime::transport_error(&panic)))?,
        ConnectTarget::Custom(connector, address) => unless_panics(connector.connect(address))
            .await
            .map_err(|panic| ConnectionFailure::panicked(&panic))?,
        // They are no way to a server, but servers themselves, or nothing.
        ConnectTarget::InProcess(_)
        | ConnectTarget::Bridged(_)
        | ConnectTarget::Lent
        | ConnectTarget::Bad(_) => return Err(ConnectionFailure::of(&Cause::Closed)),
    };
    reached.map_err(ConnectionFailure::unreachable)
}

/// The connection that won the race.
pub(super) struct Winner {
    pub(super) connection: NewConnection,
    /// The index of its address.
    pub(super) place: usize,
    pub(super) spot: Spot,
}

/// A connection that may win. If it is dropped before that, it ends: it has sent only a HELLO.
pub(super) struct NewConnection {
    pub(super) shared: Arc<SharedConnection>,
    pub(super) breaker: Breaker<Stream>,
    /// The address of the peer.
    pub(super) peer: Arc<str>,
    /// True if it goes by TCP to this machine.
    pub(super) is_loopback: bool,
    pub(super) transport: Transport,
    pub(super) protocol: Protocol,
    after: Option<AfterConnection>,
    /// When the time for the handshake is over.
    hello_by: Instant,
    /// True if its keeper ends it, or if it ends by itself.
    is_on_its_own: bool,
}

impl NewConnection {
    /// Waits for the peer's HELLO.
    pub(super) async fn shake_hands(&mut self) -> Result<(), ConnectionFailure> {
        let ready = poll_fn(|cx| self.shared.with(|conn, _| conn.poll_ready(cx))).await;
        ready.map_err(|cause| {
            // The connection tells the peer itself.
            self.is_on_its_own = true;
            ConnectionFailure::of_handshake(&cause, self.hello_by <= Instant::now())
        })
    }

    /// Leaves the connection to the caller, which ends it from now on.
    pub(super) fn keep(&mut self) -> Option<AfterConnection> {
        self.is_on_its_own = true;
        self.after.take()
    }
}

impl Drop for NewConnection {
    fn drop(&mut self) {
        if let Breaker::Joined(_) = self.breaker {
            // It has no task in this runtime that would end it.
            return self.breaker.cut(RUNTIME_GONE);
        }
        if self.is_on_its_own {
            return;
        }
        // A peer that has said HELLO is told. Another one may never answer, so its connection is cut.
        let is_ready = self
            .shared
            .lock(Clock::Recent, Wakes::Waiters)
            .peer_hello()
            .is_some();
        if is_ready {
            self.shared.with(|conn, now| conn.close(now));
        } else {
            self.breaker.cut("another address answered first");
        }
    }
}

/// Longer than any attempt.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn spots(ports: &[u16]) -> Vec<Spot> {
        let spot = |port: &u16| Spot::Socket(([127, 0, 0, 1], *port).into());
        ports.iter().map(spot).collect()
    }

    #[test]
    fn the_next_address_of_a_name_is_tried_when_one_fails() {
        let address = |behind: Option<Spot>| RaceAddress {
            place: 0,
            target: ConnectTarget::Lent,
            behind,
        };
        let last = |port| address(Some(spots(&[port])[0]));
        assert_eq!(address(None).in_order(spots(&[1, 2, 3])), spots(&[1, 2, 3]));
        assert_eq!(last(1).in_order(spots(&[1, 2, 3])), spots(&[2, 3, 1]));
        assert_eq!(last(3).in_order(spots(&[1, 2, 3])), spots(&[1, 2, 3]));
        // The name has moved.
        assert_eq!(last(9).in_order(spots(&[1, 2, 3])), spots(&[1, 2, 3]));
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_of_a_name_are_tried_within_one_connect_timeout() {
        let short = Duration::from_millis(100);
        let address = RaceAddress {
            place: 0,
            target: ConnectTarget::Lent,
            behind: None,
        };
        let mut running = RunningAddress::new(address, WinsAt::Transport);
        running.spread(4, short);
        assert!(running.step * 4 < short);
        assert_eq!(running.wins_at, WinsAt::Handshake);
        running.spread(1, Duration::from_secs(10));
        assert_eq!(running.step, STEP);
    }
}
