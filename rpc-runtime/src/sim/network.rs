//! Network: what lies between the nodes of a simulation, as a plain state machine.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hasher},
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};

use super::link::{Link, Passage, Way};

/// A node, by its place in the list of all.
pub(super) type NodeId = usize;

/// Where somebody may listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A port, for all nodes or for its own.
    Port { node: NodeId, port: u16 },
    /// A `unix:` path or a `mem:` name, for its own node.
    Name { node: NodeId, name: String },
}

impl Place {
    pub(super) fn node(&self) -> NodeId {
        match self {
            Self::Port { node, .. } | Self::Name { node, .. } => *node,
        }
    }
}

/// The network, shared by the world and all sockets.
pub(super) struct Net(Mutex<Network>);

impl Net {
    pub(super) fn new(random: fastrand::Rng) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Network::new(random))))
    }

    /// Looks at the network, or changes it; who has to know is woken behind it.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Network) -> R) -> R {
        let mut network = self.lock();
        let result = f(&mut network);
        let woken = mem::take(&mut network.woken);
        drop(network);
        woken.into_iter().for_each(Waker::wake);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lies between the nodes.
pub(super) struct Network {
    random: fastrand::Rng,
    now: Duration,
    nodes: Vec<NodeState>,
    /// What every way is that is not said otherwise.
    usual: Link,
    ways: BTreeMap<(NodeId, NodeId), Way>,
    listeners: BTreeMap<Place, Listening>,
    dials: BTreeMap<u64, Dial>,
    connections: BTreeMap<u64, Connection>,
    last_number: u64,
    last_port: u16,
    woken: Vec<Waker>,
    /// Whether anything has moved since the world asked.
    moved: bool,
    /// Of all that was delivered: two runs that agree in it were the same.
    digest: DefaultHasher,
}

#[derive(Debug)]
struct NodeState {
    name: String,
    /// Which life of it this is.
    life: u64,
    power: bool,
}

#[derive(Default)]
struct Listening {
    only_here: bool,
    arrived: VecDeque<(u64, Caller)>,
    acceptor: Option<Waker>,
}

/// Who has connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) node: NodeId,
    pub(super) port: u16,
}

/// An attempt to connect.
struct Dial {
    from: NodeId,
    to: Place,
    /// When it arrives, or the answer does.
    at: Duration,
    answer: Option<io::Result<u64>>,
    caller: Option<Waker>,
}

/// Two ends, and a pipe from each to the other.
struct Connection {
    ends: [End; 2],
    pipes: [Pipe; 2],
}

struct End {
    node: NodeId,
    life: u64,
    /// Whether its socket is gone.
    closed: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What one end has sent.
#[derive(Default)]
struct Pipe {
    on_its_way: VecDeque<Segment>,
    on_its_way_len: usize,
    /// When the last segment arrives: none overtakes another.
    last_at: Duration,
    /// What has arrived and was not read.
    arrived: BytesMut,
    /// Whether the end of the stream was sent.
    ended: bool,
    /// Whether the end of the stream has arrived.
    over: bool,
}

struct Segment {
    at: Duration,
    what: What,
}

enum What {
    Data(Bytes),
    End,
    Reset,
}

/// How much one direction of a connection holds.
const BUFFER: usize = 256 * 1024;
/// How many may wait to be accepted.
const BACKLOG: usize = 1024;
/// The most that travels in one piece.
const SEGMENT: usize = 64 * 1024;

/// Nodes and links.
impl Network {
    fn new(random: fastrand::Rng) -> Self {
        Self {
            random,
            now: Duration::ZERO,
            nodes: Vec::new(),
            usual: Link::default(),
            ways: BTreeMap::new(),
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
            life: 0,
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

    /// Another life of a node begins: what it had before is unknown to it.
    pub(super) fn start(&mut self, node: NodeId) {
        self.nodes[node].life += 1;
        self.nodes[node].power = true;
    }

    /// The power of a node goes: nobody is told.
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

    /// The process of a node ends: the OS closes what it has, in an order that does not depend on that of its tasks.
    pub(super) fn kill(&mut self, node: NodeId) {
        let places: Vec<Place> = self
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
            self.give_dial_up(number);
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

    pub(super) fn set_usual(&mut self, link: Link) {
        self.usual = link;
    }

    /// The way from one node to another.
    pub(super) fn way(&mut self, from: NodeId, to: NodeId) -> &mut Way {
        self.ways.entry((from, to)).or_default()
    }

    /// All ways are as usual again.
    pub(super) fn heal(&mut self) {
        for way in self.ways.values_mut() {
            way.is_blocked = false;
            way.faulty = None;
        }
    }

    fn is_blocked(&self, from: NodeId, to: NodeId) -> bool {
        from != to && self.ways.get(&(from, to)).is_some_and(|way| way.is_blocked)
    }

    /// Resets all connections between two nodes, as a firewall does that forgets them.
    pub(super) fn reset_between(&mut self, one: NodeId, other: NodeId) {
        let now = self.now;
        for connection in self.connections.values_mut() {
            let nodes = connection.ends.each_ref().map(|end| end.node);
            if nodes == [one, other] || nodes == [other, one] {
                for pipe in &mut connection.pipes {
                    pipe.clear();
                    pipe.push(now, Duration::ZERO, What::Reset);
                }
            }
        }
    }

    /// Whether anything has moved since this was asked last.
    pub(super) fn take_moved(&mut self) -> bool {
        mem::take(&mut self.moved)
    }

    /// A number that is the same for two runs in which the same was delivered at the same times.
    pub(super) fn digest(&self) -> u64 {
        self.digest.clone().finish()
    }

    /// When the next segment arrives, if its way is free.
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

    /// Delivers what arrives until `now`.
    pub(super) fn deliver(&mut self, now: Duration) {
        self.now = now;
        self.answer_dials();
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            // Out of the table meanwhile, so that both it and the rest can be changed.
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

    fn deliver_from(&mut self, number: u64, connection: &mut Connection, side: usize) {
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
            let is_unknown = receiver.life != node.life;
            if is_unknown || receiver.closed {
                let is_answered = match segment.what {
                    What::Data(_) => true,
                    What::End => is_unknown,
                    What::Reset => false,
                };
                if is_answered {
                    connection.pipes[1 - side].clear();
                    connection.pipes[1 - side].push(self.now, Duration::ZERO, What::Reset);
                }
                continue;
            }
            self.digest.write_u64(number * 2 + side as u64);
            self.digest.write_u128(self.now.as_nanos());
            match segment.what {
                What::Data(bytes) => {
                    self.digest.write(&bytes);
                    connection.pipes[side].arrived.extend_from_slice(&bytes);
                }
                What::End => connection.pipes[side].over = true,
                What::Reset => {
                    receiver.reset = true;
                    connection.pipes[side].arrived.clear();
                    self.woken.extend(receiver.writer.take());
                }
            }
            self.woken.extend(connection.ends[1 - side].reader.take());
        }
    }

    /// How long a segment of `len` bytes takes, and what becomes of it.
    fn send(&mut self, from: NodeId, to: NodeId, len: usize) -> Passage {
        if from == to {
            return Passage::default();
        }
        let way = self.ways.get(&(from, to));
        let link = way
            .and_then(|way| way.faulty.as_ref().or(way.link.as_ref()))
            .unwrap_or(&self.usual);
        link.draw(len, &mut self.random)
    }
}

/// Connecting and listening.
impl Network {
    /// Listens; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// `AddrInUse`.
    pub(super) fn listen(&mut self, mut place: Place, only_here: bool) -> io::Result<Place> {
        if let Place::Port { port, .. } = &mut place {
            if *port == 0 {
                *port = self.free_port();
            }
        }
        if self.listeners.contains_key(&place) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listening = Listening {
            only_here,
            ..Listening::default()
        };
        self.listeners.insert(place.clone(), listening);
        Ok(place)
    }

    fn free_port(&mut self) -> u16 {
        self.last_port = self.last_port.checked_add(1).unwrap_or(40_000);
        self.last_port
    }

    /// The next who has connected.
    pub(super) fn accept(&mut self, place: &Place, waker: &Waker) -> Option<(u64, Caller)> {
        let listening = self.listeners.get_mut(place)?;
        let arrived = listening.arrived.pop_front();
        if arrived.is_none() {
            listening.acceptor = Some(waker.clone());
        }
        arrived
    }

    /// Nobody listens there any more; who waits to be accepted is reset.
    pub(super) fn stop_listening(&mut self, place: &Place) {
        let left = self.listeners.remove(place);
        for (number, _) in left.into_iter().flat_map(|listening| listening.arrived) {
            self.close(number, 1, true);
        }
    }

    /// An attempt to connect begins.
    pub(super) fn dial(&mut self, from: NodeId, to: Place) -> u64 {
        self.moved = true;
        let passage = self.send(from, to.node(), 0);
        self.last_number += 1;
        let dial = Dial {
            from,
            to,
            at: self.now + passage.latency,
            answer: None,
            caller: None,
        };
        self.dials.insert(self.last_number, dial);
        self.last_number
    }

    /// What came of it: a connection whose end 0 is the caller's.
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

    pub(super) fn give_dial_up(&mut self, number: u64) {
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

    /// A connection, if somebody listens; none while too many wait to be accepted.
    fn connect(&mut self, from: NodeId, to: &Place) -> Option<io::Result<u64>> {
        let found = self.listeners.get(to);
        let found = found.filter(|listening| !listening.only_here || from == to.node());
        let Some(listening) = found else {
            return Some(Err(io::ErrorKind::ConnectionRefused.into()));
        };
        if listening.arrived.len() >= BACKLOG {
            return None;
        }
        let ends = [from, to.node()].map(|node| End {
            node,
            life: self.nodes[node].life,
            closed: false,
            reset: false,
            reader: None,
            writer: None,
        });
        self.last_number += 1;
        let number = self.last_number;
        let connection = Connection {
            ends,
            pipes: [Pipe::default(), Pipe::default()],
        };
        self.connections.insert(number, connection);
        let caller = Caller {
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
impl Network {
    /// Takes at most `max` bytes that have arrived; none yet, or no bytes at the end of the stream.
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
        if pipe.arrived.is_empty() && !pipe.over {
            end.reader = Some(waker.clone());
            return None;
        }
        let len = tear(pipe.arrived.len().min(max), &mut self.random);
        let bytes = pipe.arrived.split_to(len).freeze();
        self.moved = true;
        self.woken.extend(connection.ends[1 - side].writer.take());
        Some(Ok(bytes))
    }

    /// Sends at most all of `bytes`: how many; none while the buffer is full.
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
        if end.reset || pipe.ended {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = BUFFER.saturating_sub(pipe.on_its_way_len + pipe.arrived.len());
        let (from, to) = (end.node, other.node);
        let len = tear(bytes.len().min(room).min(SEGMENT), &mut self.random);
        if len == 0 && !bytes.is_empty() {
            self.connections.get_mut(&number)?.ends[side].writer = Some(waker.clone());
            return None;
        }
        let passage = self.send(from, to, len);
        let mut data = bytes[..len].to_vec();
        if passage.is_corrupt && len > 0 {
            let at = self.random.usize(..len);
            data[at] ^= 1 << self.random.u8(..8);
        }
        let at = self.now + passage.latency;
        let pipe = &mut self.connections.get_mut(&number)?.pipes[side];
        pipe.push(at, passage.sending, What::Data(data.into()));
        self.moved = true;
        Some(Ok(len))
    }

    /// Sends the end of the stream.
    pub(super) fn shut_down(&mut self, number: u64, side: usize) {
        self.end(number, side, What::End);
    }

    /// The socket of an end goes: as an OS does, it resets a connection of which something was not read.
    pub(super) fn close(&mut self, number: u64, side: usize, reset: bool) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if connection.ends[side].closed {
            return;
        }
        connection.ends[side].closed = true;
        let unread = !connection.pipes[1 - side].arrived.is_empty();
        let what = if reset || unread { What::Reset } else { What::End };
        self.end(number, side, what);
    }

    fn end(&mut self, number: u64, side: usize, what: What) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        if connection.pipes[side].ended && matches!(what, What::End) {
            return;
        }
        let (from, to) = (connection.ends[side].node, connection.ends[1 - side].node);
        let at = self.now + self.send(from, to, 0).latency;
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.pipes[side].ended = true;
            connection.pipes[side].push(at, Duration::ZERO, what);
        }
        self.moved = true;
    }
}

impl Pipe {
    /// Adds a segment that would arrive at `at` if nothing were before it, and takes `sending` itself.
    fn push(&mut self, at: Duration, sending: Duration, what: What) {
        let at = at.max(self.last_at) + sending;
        self.last_at = at;
        if let What::Data(bytes) = &what {
            self.on_its_way_len += bytes.len();
        }
        self.on_its_way.push_back(Segment { at, what });
    }

    fn take_arrived(&mut self, now: Duration) -> Option<Segment> {
        if self.on_its_way.front()?.at > now {
            return None;
        }
        let segment = self.on_its_way.pop_front()?;
        if let What::Data(bytes) = &segment.what {
            self.on_its_way_len -= bytes.remaining();
        }
        Some(segment)
    }

    fn clear(&mut self) {
        self.on_its_way.clear();
        self.on_its_way_len = 0;
    }
}

/// How much of `len` bytes one call moves: mostly all, sometimes less, as it happens to everybody.
fn tear(len: usize, random: &mut fastrand::Rng) -> usize {
    if len > 1 && random.u8(..8) == 0 {
        random.usize(1..=len)
    } else {
        len
    }
}
