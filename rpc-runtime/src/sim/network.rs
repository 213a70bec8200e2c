//! Network: the connections between the nodes of a simulation, as a plain state machine.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hasher},
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};

use super::link::{Link, LinkDirection, SegmentFate};

/// A node, by its index in the list of nodes.
pub(super) type NodeId = usize;

/// An address that a node may listen on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ListenAddress {
    /// A port, for all nodes or only for its own.
    Port { node: NodeId, port: u16 },
    /// A `unix:` path or a `mem:` name, only for its own node.
    Name { node: NodeId, name: String },
}

impl ListenAddress {
    pub(super) fn node(&self) -> NodeId {
        match self {
            Self::Port { node, .. } | Self::Name { node, .. } => *node,
        }
    }
}

/// The network, shared by the world and all sockets.
pub(super) struct Net(Mutex<NetworkState>);

impl Net {
    pub(super) fn new(random: fastrand::Rng) -> Arc<Self> {
        Arc::new(Self(Mutex::new(NetworkState::new(random))))
    }

    /// Reads or changes the network, and then wakes the waiting tasks after unlocking it.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut NetworkState) -> R) -> R {
        let mut network = self.lock();
        let result = f(&mut network);
        let woken = mem::take(&mut network.woken);
        drop(network);
        woken.into_iter().for_each(Waker::wake);
        result
    }

    fn lock(&self) -> MutexGuard<'_, NetworkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of the network between the nodes.
pub(super) struct NetworkState {
    random: fastrand::Rng,
    now: Duration,
    nodes: Vec<NodeState>,
    /// The link of all directions that the scenario did not set.
    default_link: Link,
    directions: BTreeMap<(NodeId, NodeId), LinkDirection>,
    listeners: BTreeMap<ListenAddress, ListenQueue>,
    dials: BTreeMap<u64, Dial>,
    connections: BTreeMap<u64, SimConnection>,
    last_number: u64,
    last_port: u16,
    woken: Vec<Waker>,
    /// True if anything has moved since [`NetworkState::take_moved`].
    moved: bool,
    /// Digest of all deliveries: two runs that agree in it were the same.
    digest: DefaultHasher,
}

#[derive(Debug)]
struct NodeState {
    name: String,
    /// The number of its current start.
    run: u64,
    power: bool,
}

#[derive(Default)]
struct ListenQueue {
    only_here: bool,
    arrived: VecDeque<(u64, Dialer)>,
    acceptor: Option<Waker>,
}

/// The other end of a connection that arrived at a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialer {
    pub(super) node: NodeId,
    pub(super) port: u16,
}

/// An attempt to connect.
struct Dial {
    from: NodeId,
    to: ListenAddress,
    /// When the request to connect, or its answer, arrives.
    at: Duration,
    answer: Option<io::Result<u64>>,
    caller: Option<Waker>,
}

/// A connection: two ends, and a pipe from each to the other.
struct SimConnection {
    ends: [SocketEnd; 2],
    pipes: [Pipe; 2],
}

struct SocketEnd {
    node: NodeId,
    run: u64,
    /// True if its socket is gone.
    closed: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The bytes that one end has sent.
#[derive(Default)]
struct Pipe {
    on_its_way: VecDeque<Segment>,
    on_its_way_len: usize,
    /// When the last segment arrives; no segment overtakes another.
    last_at: Duration,
    /// Bytes that have arrived and are unread.
    arrived: BytesMut,
    /// True if the end of the stream was sent.
    end_sent: bool,
    /// True if the end of the stream has arrived.
    end_arrived: bool,
}

struct Segment {
    at: Duration,
    what: SegmentContent,
}

enum SegmentContent {
    Data(Bytes),
    End,
    Reset,
}

/// Capacity of one direction of a connection, in bytes.
const BUFFER_LEN: usize = 256 * 1024;
/// Maximum number of connections that wait to be accepted.
const BACKLOG: usize = 1024;
/// Maximum length of a segment, in bytes.
const SEGMENT_MAX: usize = 64 * 1024;

/// Nodes and links.
impl NetworkState {
    fn new(random: fastrand::Rng) -> Self {
        Self {
            random,
            now: Duration::ZERO,
            nodes: Vec::new(),
            default_link: Link::default(),
            directions: BTreeMap::new(),
            listeners: BTreeMap::new(),
            dials: BTreeMap::new(),
            connections: BTreeMap::new(),
            last_number: 0,
            last_port: 40_000,
            woken: Vec::new(),
            moved: false,
            digest: DefaultHasher::new(),
        }
    }

    pub(super) fn add_node(&mut self, name: &str) -> NodeId {
        self.nodes.push(NodeState {
            name: name.to_owned(),
            run: 0,
            power: true,
        });
        self.nodes.len() - 1
    }

    pub(super) fn find_node(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name)
    }

    pub(super) fn name(&self, node: NodeId) -> &str {
        &self.nodes[node].name
    }

    /// Starts a node anew; it does not know the connections of its earlier runs.
    pub(super) fn start(&mut self, node: NodeId) {
        self.nodes[node].run += 1;
        self.nodes[node].power = true;
    }

    /// Cuts the power of a node, without telling any peer.
    pub(super) fn cut_power(&mut self, node: NodeId) {
        self.nodes[node].power = false;
        self.listeners.retain(|place, _| place.node() != node);
        self.dials.retain(|_, dial| dial.from != node);
        for connection in self.connections.values_mut() {
            for end in connection.ends.iter_mut().filter(|end| end.node == node) {
                end.closed = true;
            }
        }
    }

    /// Ends the process of a node: the OS closes its sockets, in an order that does not depend on that of its tasks.
    pub(super) fn kill(&mut self, node: NodeId) {
        let places: Vec<ListenAddress> = self
            .listeners
            .keys()
            .filter(|place| place.node() == node)
            .cloned()
            .collect();
        for place in places {
            self.stop_listening(&place);
        }
        let dials: Vec<u64> = self
            .dials
            .iter()
            .filter(|(_, dial)| dial.from == node)
            .map(|(number, _)| *number)
            .collect();
        for number in dials {
            self.drop_dial(number);
        }
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            for side in 0..2 {
                if self.connections[&number].ends[side].node == node {
                    self.close(number, side, false);
                }
            }
        }
    }

    pub(super) fn set_default_link(&mut self, link: Link) {
        self.default_link = link;
    }

    /// The direction from one node to another.
    pub(super) fn direction(&mut self, from: NodeId, to: NodeId) -> &mut LinkDirection {
        self.directions.entry((from, to)).or_default()
    }

    /// Unblocks all directions and removes their faults.
    pub(super) fn heal(&mut self) {
        for direction in self.directions.values_mut() {
            direction.is_blocked = false;
            direction.faulty = None;
        }
    }

    fn is_blocked(&self, from: NodeId, to: NodeId) -> bool {
        from != to
            && self
                .directions
                .get(&(from, to))
                .is_some_and(|direction| direction.is_blocked)
    }

    /// Resets all connections between two nodes, like a firewall that forgets them.
    pub(super) fn reset_between(&mut self, one: NodeId, other: NodeId) {
        let now = self.now;
        for connection in self.connections.values_mut() {
            let nodes = connection.ends.each_ref().map(|end| end.node);
            if nodes == [one, other] || nodes == [other, one] {
                for pipe in &mut connection.pipes {
                    pipe.clear();
                    pipe.push(now, Duration::ZERO, SegmentContent::Reset);
                }
            }
        }
    }

    /// Returns true if anything has moved since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        mem::take(&mut self.moved)
    }

    /// Returns a digest that two runs share if the same bytes were delivered at the same times.
    pub(super) fn digest(&self) -> u64 {
        self.digest.clone().finish()
    }

    /// When the next segment arrives that is not blocked, or the next dial is due.
    pub(super) fn next_arrival(&self) -> Option<Duration> {
        let segments = self.connections.values().flat_map(|connection| {
            let pipes = connection.pipes.iter().enumerate();
            pipes.filter_map(|(side, pipe)| {
                let (from, to) = (connection.ends[side].node, connection.ends[1 - side].node);
                let first = pipe.on_its_way.front()?;
                (!self.is_blocked(from, to)).then_some(first.at)
            })
        });
        let dials = self.dials.values().map(|dial| dial.at);
        segments.chain(dials).filter(|at| *at > self.now).min()
    }

    /// Delivers everything that arrives until `now`.
    pub(super) fn deliver(&mut self, now: Duration) {
        self.now = now;
        self.answer_dials();
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            // Outside of the table meanwhile, so that both it and the rest can be changed.
            let Some(mut connection) = self.connections.remove(&number) else {
                continue;
            };
            for side in 0..2 {
                self.deliver_from(number, &mut connection, side);
            }
            let is_over = connection.ends.iter().all(|end| end.closed)
                && connection.pipes.iter().all(|pipe| pipe.on_its_way.is_empty());
            if !is_over {
                self.connections.insert(number, connection);
            }
        }
    }

    fn deliver_from(&mut self, number: u64, connection: &mut SimConnection, side: usize) {
        let (from, to) = (connection.ends[side].node, connection.ends[1 - side].node);
        if self.is_blocked(from, to) {
            return;
        }
        while let Some(segment) = connection.pipes[side].take_arrived(self.now) {
            self.moved = true;
            let receiver = &mut connection.ends[1 - side];
            let node = &self.nodes[to];
            if !node.power {
                continue;
            }
            let is_unknown = receiver.run != node.run;
            if is_unknown || receiver.closed {
                let is_answered = match segment.what {
                    SegmentContent::Data(_) => true,
                    SegmentContent::End => is_unknown,
                    SegmentContent::Reset => false,
                };
                if is_answered {
                    connection.pipes[1 - side].clear();
                    connection.pipes[1 - side].push(self.now, Duration::ZERO, SegmentContent::Reset);
                }
                continue;
            }
            self.digest.write_u64(number * 2 + side as u64);
            self.digest.write_u128(self.now.as_nanos());
            match segment.what {
                SegmentContent::Data(bytes) => {
                    self.digest.write(&bytes);
                    connection.pipes[side].arrived.extend_from_slice(&bytes);
                }
                SegmentContent::End => connection.pipes[side].end_arrived = true,
                SegmentContent::Reset => {
                    receiver.reset = true;
                    connection.pipes[side].arrived.clear();
                    self.woken.extend(receiver.writer.take());
                }
            }
            self.woken.extend(connection.ends[1 - side].reader.take());
        }
    }

    /// Draws the fate of a segment of `len` bytes.
    fn send(&mut self, from: NodeId, to: NodeId, len: usize) -> SegmentFate {
        if from == to {
            return SegmentFate::default();
        }
        let direction = self.directions.get(&(from, to));
        let link = direction
            .and_then(|direction| direction.faulty.as_ref().or(direction.link.as_ref()))
            .unwrap_or(&self.default_link);
        link.draw(len, &mut self.random)
    }
}

/// Connecting and listening.
impl NetworkState {
    /// Listens on `place`; port 0 takes a free port.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another listener has it.
    pub(super) fn listen(&mut self, mut place: ListenAddress, only_here: bool) -> io::Result<ListenAddress> {
        if let ListenAddress::Port { port, .. } = &mut place {
            if *port == 0 {
                *port = self.free_port();
            }
        }
        if self.listeners.contains_key(&place) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listening = ListenQueue {
            only_here,
            ..ListenQueue::default()
        };
        self.listeners.insert(place.clone(), listening);
        Ok(place)
    }

    fn free_port(&mut self) -> u16 {
        self.last_port = self.last_port.checked_add(1).unwrap_or(40_000);
        self.last_port
    }

    /// Takes the next connection that waits to be accepted.
    pub(super) fn accept(&mut self, place: &ListenAddress, waker: &Waker) -> Option<(u64, Dialer)> {
        let listening = self.listeners.get_mut(place)?;
        let arrived = listening.arrived.pop_front();
        if arrived.is_none() {
            listening.acceptor = Some(waker.clone());
        }
        arrived
    }

    /// Stops listening, and resets the connections that still wait to be accepted.
    pub(super) fn stop_listening(&mut self, place: &ListenAddress) {
        let left = self.listeners.remove(place);
        for (number, _) in left.into_iter().flat_map(|listening| listening.arrived) {
            self.close(number, 1, true);
        }
    }

    /// Begins an attempt to connect.
    pub(super) fn dial(&mut self, from: NodeId, to: ListenAddress) -> u64 {
        self.moved = true;
        let fate = self.send(from, to.node(), 0);
        self.last_number += 1;
        let dial = Dial {
            from,
            to,
            at: self.now + fate.latency,
            answer: None,
            caller: None,
        };
        self.dials.insert(self.last_number, dial);
        self.last_number
    }

    /// Takes the result of an attempt: a connection, in which the caller has end 0.
    pub(super) fn poll_dial(&mut self, number: u64, waker: &Waker) -> Option<io::Result<u64>> {
        let dial = self.dials.get_mut(&number)?;
        if dial.at <= self.now {
            if let Some(answer) = dial.answer.take() {
                self.dials.remove(&number);
                return Some(answer);
            }
        }
        dial.caller = Some(waker.clone());
        None
    }

    pub(super) fn drop_dial(&mut self, number: u64) {
        if let Some(Dial {
            answer: Some(Ok(connection)),
            ..
        }) = self.dials.remove(&number)
        {
            self.close(connection, 0, true);
        }
    }

    fn answer_dials(&mut self) {
        let due: Vec<u64> = self
            .dials
            .iter()
            .filter(|(_, dial)| dial.at <= self.now)
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            let dial = &self.dials[&number];
            let (from, to) = (dial.from, dial.to.clone());
            if dial.answer.is_some() {
                self.wake_caller(number);
                continue;
            }
            let target = to.node();
            let lost = !self.nodes[target].power;
            if lost || self.is_blocked(from, target) || self.is_blocked(target, from) {
                continue;
            }
            let Some(answer) = self.connect(from, &to) else {
                continue;
            };
            self.moved = true;
            let at = self.now + self.send(target, from, 0).latency;
            if let Some(dial) = self.dials.get_mut(&number) {
                dial.answer = Some(answer);
                dial.at = at;
            }
            if at <= self.now {
                self.wake_caller(number);
            }
        }
    }

    fn wake_caller(&mut self, number: u64) {
        let caller = self.dials.get_mut(&number).and_then(|dial| dial.caller.take());
        self.woken.extend(caller);
    }

    /// Makes a connection if a listener is there; returns `None` while its queue is full.
    fn connect(&mut self, from: NodeId, to: &ListenAddress) -> Option<io::Result<u64>> {
        let found = self.listeners.get(to);
        let found = found.filter(|listening| !listening.only_here || from == to.node());
        let Some(listening) = found else {
            return Some(Err(io::ErrorKind::ConnectionRefused.into()));
        };
        if listening.arrived.len() >= BACKLOG {
            return None;
        }
        let ends = [from, to.node()].map(|node| SocketEnd {
            node,
            run: self.nodes[node].run,
            closed: false,
            reset: false,
            reader: None,
            writer: None,
        });
        self.last_number += 1;
        let number = self.last_number;
        let connection = SimConnection {
            ends,
            pipes: [Pipe::default(), Pipe::default()],
        };
        self.connections.insert(number, connection);
        let caller = Dialer {
            node: from,
            port: self.free_port(),
        };
        let listening = self.listeners.get_mut(to)?;
        listening.arrived.push_back((number, caller));
        self.woken.extend(listening.acceptor.take());
        Some(Ok(number))
    }
}

/// Reading and writing.
impl NetworkState {
    /// Takes at most `max` bytes that have arrived.
    ///
    /// Returns `None` while there are none, and no bytes at the end of the stream.
    pub(super) fn read(
        &mut self,
        number: u64,
        side: usize,
        max: usize,
        waker: &Waker,
    ) -> Option<io::Result<Bytes>> {
        let Some(connection) = self.connections.get_mut(&number) else {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let end = &mut connection.ends[side];
        if end.reset {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let pipe = &mut connection.pipes[1 - side];
        if pipe.arrived.is_empty() && !pipe.end_arrived {
            end.reader = Some(waker.clone());
            return None;
        }
        let len = random_prefix(pipe.arrived.len().min(max), &mut self.random);
        let bytes = pipe.arrived.split_to(len).freeze();
        self.moved = true;
        self.woken.extend(connection.ends[1 - side].writer.take());
        Some(Ok(bytes))
    }

    /// Sends some or all of `bytes` and returns how many; `None` while the buffer is full.
    pub(super) fn write(
        &mut self,
        number: u64,
        side: usize,
        bytes: &[u8],
        waker: &Waker,
    ) -> Option<io::Result<usize>> {
        let Some(connection) = self.connections.get(&number) else {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let (end, other, pipe) = (
            &connection.ends[side],
            &connection.ends[1 - side],
            &connection.pipes[side],
        );
        if end.reset || pipe.end_sent {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = BUFFER_LEN.saturating_sub(pipe.on_its_way_len + pipe.arrived.len());
        let (from, to) = (end.node, other.node);
        let len = random_prefix(bytes.len().min(room).min(SEGMENT_MAX), &mut self.random);
        if len == 0 && !bytes.is_empty() {
            self.connections.get_mut(&number)?.ends[side].writer = Some(waker.clone());
            return None;
        }
        let fate = self.send(from, to, len);
        let mut data = bytes[..len].to_vec();
        if fate.is_corrupt && len > 0 {
            let at = self.random.usize(..len);
            data[at] ^= 1 << self.random.u8(..8);
        }
        let at = self.now + fate.latency;
        let pipe = &mut self.connections.get_mut(&number)?.pipes[side];
        pipe.push(at, fate.sending, SegmentContent::Data(data.into()));
        self.moved = true;
        Some(Ok(len))
    }

    /// Sends the end of the stream.
    pub(super) fn shut_down(&mut self, number: u64, side: usize) {
        self.end(number, side, SegmentContent::End);
    }

    /// Closes the socket of one end. Like an OS, it resets a connection that has unread bytes.
    pub(super) fn close(&mut self, number: u64, side: usize, reset: bool) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if connection.ends[side].closed {
            return;
        }
        connection.ends[side].closed = true;
        let unread = !connection.pipes[1 - side].arrived.is_empty();
        let what = if reset || unread {
            SegmentContent::Reset
        } else {
            SegmentContent::End
        };
        self.end(number, side, what);
    }

    fn end(&mut self, number: u64, side: usize, what: SegmentContent) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        if connection.pipes[side].end_sent && matches!(what, SegmentContent::End) {
            return;
        }
        let (from, to) = (connection.ends[side].node, connection.ends[1 - side].node);
        let at = self.now + self.send(from, to, 0).latency;
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.pipes[side].end_sent = true;
            connection.pipes[side].push(at, Duration::ZERO, what);
        }
        self.moved = true;
    }
}

impl Pipe {
    /// Adds a segment that occupies the link for `sending`, and arrives at `at` if nothing delays it.
    fn push(&mut self, at: Duration, sending: Duration, what: SegmentContent) {
        let at = at.max(self.last_at) + sending;
        self.last_at = at;
        if let SegmentContent::Data(bytes) = &what {
            self.on_its_way_len += bytes.len();
        }
        self.on_its_way.push_back(Segment { at, what });
    }

    fn take_arrived(&mut self, now: Duration) -> Option<Segment> {
        if self.on_its_way.front()?.at > now {
            return None;
        }
        let segment = self.on_its_way.pop_front()?;
        if let SegmentContent::Data(bytes) = &segment.what {
            self.on_its_way_len -= bytes.remaining();
        }
        Some(segment)
    }

    fn clear(&mut self) {
        self.on_its_way.clear();
        self.on_its_way_len = 0;
    }
}

/// How many of `len` bytes one call moves: mostly all, sometimes fewer, as with a real OS.
fn random_prefix(len: usize, random: &mut fastrand::Rng) -> usize {
    if len > 1 && random.u8(..8) == 0 {
        random.usize(1..=len)
    } else {
        len
    }
}
