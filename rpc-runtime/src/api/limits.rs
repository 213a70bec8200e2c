//! Limits and their defaults: all numbers that bound a connection, in one place.

use std::time::Duration;

/// How much one connection may hold, and how long it may take, on this side of it.
///
/// What concerns the peer is announced to it when the connection begins, so that it waits instead of failing.
///
/// ```
/// use rpc_runtime::Limits;
///
/// let limits = Limits::default().max_message(64 * 1024 * 1024).max_calls(100);
/// ```
#[derive(Clone, Debug)]
pub struct Limits {
    pub(crate) max_message: u64,
    pub(crate) max_frame: u32,
    pub(crate) max_calls: u32,
    pub(crate) call_bytes: u64,
    pub(crate) send_bytes: u64,
    pub(crate) inbox_bytes: u64,
    pub(crate) high_water: usize,
    pub(crate) max_waiting: usize,
    pub(crate) one_way_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) dead_after: Duration,
    pub(crate) ping_floor: Duration,
    pub(crate) slow_frame: Duration,
    pub(crate) write_stall: Duration,
    pub(crate) linger: Duration,
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_age_grace: Duration,
    pub(crate) max_idle: Option<Duration>,
    pub(crate) stream_window: u64,
    pub(crate) max_stream_window: u64,
    pub(crate) metadata_bytes: u64,
    pub(crate) max_faults: u32,
    pub(crate) decode_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 4 << 20,
            max_frame: 144 << 10,
            max_calls: 1024,
            call_bytes: 16 << 20,
            send_bytes: 4 << 20,
            inbox_bytes: 64 << 20,
            high_water: 1 << 20,
            max_waiting: 65_536,
            one_way_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            keep_alive: None,
            dead_after: Duration::from_secs(20),
            ping_floor: Duration::from_secs(10),
            slow_frame: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            max_age: None,
            max_age_grace: Duration::from_secs(30),
            max_idle: None,
            stream_window: 64 << 10,
            max_stream_window: 8 << 20,
            metadata_bytes: 4 << 20,
            max_faults: 1024,
            decode_bytes: 32 << 20,
        }
    }
}

impl Limits {
    /// The longest message that this side takes, in bytes. Default 4 MiB.
    ///
    /// Protects memory: a longer one fails on the sender's side, and that call alone.
    #[must_use]
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// The longest frame that this side takes, in bytes, between 64 KiB and 16 MiB - 1. Default 144 KiB.
    ///
    /// Protects latency: longer messages travel in pieces, and urgent frames go between them.
    #[must_use]
    pub fn max_frame(mut self, bytes: u32) -> Self {
        self.max_frame = bytes.clamp(MIN_FRAME, MAX_FRAME);
        self
    }

    /// How many calls of the peer may be open at once, at least 16. Default 1024.
    ///
    /// Protects memory and handlers: further calls wait on the caller's side. One-ways have no such limit, for their credit
    /// bounds them; but when twice as many handlers of the peer are at work, its next requests wait for one of them to end.
    #[must_use]
    pub fn max_calls(mut self, calls: u32) -> Self {
        self.max_calls = calls.max(FLOOR_CALLS);
        self
    }

    /// How many bytes the requests of the peer's open calls may have together, at least 64 KiB. Default 16 MiB.
    #[must_use]
    pub fn call_bytes(mut self, bytes: u64) -> Self {
        self.call_bytes = bytes.max(FLOOR_BYTES);
        self
    }

    /// How many bytes the peer's unfinished one-way requests may have together, at least 64 KiB. Default 4 MiB.
    #[must_use]
    pub fn send_bytes(mut self, bytes: u64) -> Self {
        self.send_bytes = bytes.max(FLOOR_BYTES);
        self
    }

    /// How many bytes of replies and of streams may lie here that nobody has taken yet, with the metadata and the details
    /// of replies. Default 64 MiB.
    ///
    /// A message that would pass it fails its own call. Windows of streams are widened within half of it.
    #[must_use]
    pub fn inbox_bytes(mut self, bytes: u64) -> Self {
        self.inbox_bytes = bytes;
        self
    }

    /// How many bytes may wait to be written before callers and handlers have to wait. Default 1 MiB.
    #[must_use]
    pub fn high_water(mut self, bytes: usize) -> Self {
        self.high_water = bytes;
        self
    }

    /// How many callers may wait for room, credit or a slot before a further one fails. Default 65,536.
    #[must_use]
    pub fn max_waiting(mut self, callers: usize) -> Self {
        self.max_waiting = callers;
        self
    }

    /// The deadline of a one-way handler whose request has none. Default 30 s.
    #[must_use]
    pub fn one_way_timeout(mut self, timeout: Duration) -> Self {
        self.one_way_timeout = timeout;
        self
    }

    /// How long the peer may take for its part of the handshake. Default 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How long nothing may arrive before the peer is asked whether it lives. Default 30 s for a client with
    /// something outstanding, 2 min for a server.
    #[must_use]
    pub fn keep_alive(mut self, silence: Duration) -> Self {
        self.keep_alive = Some(silence);
        self
    }

    /// How long a peer that was asked may stay silent before the connection counts as lost. Default 20 s.
    #[must_use]
    pub fn dead_after(mut self, silence: Duration) -> Self {
        self.dead_after = silence;
        self
    }

    /// How often the peer may ask at most whether we live. Default 10 s.
    #[must_use]
    pub fn ping_floor(mut self, interval: Duration) -> Self {
        self.ping_floor = interval;
        self
    }

    /// How long 64 KiB of a frame that has begun may take to come, or all of it if it is shorter. Default 30 s.
    ///
    /// Protects memory and places: against peers that begin much and go on with nothing. While messages that travel in
    /// several frames are unfinished, 64 KiB of them have to come in this time, too; which of them goes first is the
    /// sender's business. The connection ends with a GOAWAY that says TIMEOUT.
    #[must_use]
    pub fn slow_frame(mut self, time: Duration) -> Self {
        self.slow_frame = time;
        self
    }

    /// How long a peer may take too little of what is written to it before the connection counts as lost.
    /// Default 30 s.
    #[must_use]
    pub fn write_stall(mut self, timeout: Duration) -> Self {
        self.write_stall = timeout;
        self
    }

    /// How long a connection stays open for reading after its last byte is written. Default 1 s.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// How old a connection may become, ± 10 %. Default: as old as it likes.
    ///
    /// Protects the balance between servers: a client that is sent away from an old connection comes back by a new
    /// one, perhaps elsewhere. The connection is drained: calls that are open may finish, new ones take the next
    /// connection, and none fails.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// How long calls that are open may still take when their connection is too old. Default 30 s.
    #[must_use]
    pub fn max_age_grace(mut self, grace: Duration) -> Self {
        self.max_age_grace = grace;
        self
    }

    /// How long a connection may be idle, ± 10 %: with no open call, and no message on its way, either way. Default:
    /// as long as it likes.
    ///
    /// Protects memory and files. The connection is drained, and the client's next call makes another.
    #[must_use]
    pub fn max_idle(mut self, time: Duration) -> Self {
        self.max_idle = Some(time);
        self
    }

    /// How many bytes of a stream the peer may send ahead of its reader at first. Default 64 KiB.
    ///
    /// Protects memory: a reader that stops costs its window, and a message beyond.
    #[must_use]
    pub fn stream_window(mut self, bytes: u64) -> Self {
        self.stream_window = bytes.max(1);
        self
    }

    /// How far the window of a stream may be widened while its reader keeps up, in bytes. Default 8 MiB.
    ///
    /// What a link carries within its round trip has to fit in, if one stream is to fill the link.
    #[must_use]
    pub fn max_stream_window(mut self, bytes: u64) -> Self {
        self.max_stream_window = bytes;
        self
    }

    /// How many bytes the metadata of the peer's open requests may take together. Default 4 MiB.
    ///
    /// Protects memory: credit counts messages, not what travels beside them. It is not announced, so a request beyond it
    /// is refused with RESOURCE_EXHAUSTED and was not executed; a one-way request is dropped as overload. 96 bytes are
    /// added for each entry.
    #[must_use]
    pub fn metadata_bytes(mut self, bytes: u64) -> Self {
        self.metadata_bytes = bytes;
        self
    }

    /// How many things the peer may get wrong before it is sent away, at least 1. Default 1024.
    ///
    /// Protects the processor and the network: against floods of calls over the limits, of unknown procedures, of messages
    /// that cannot be parsed, of frames that are empty or come too late. Ten requests that are as they should be make up for
    /// one. The connection ends with a GOAWAY that says EXCESS, and the last of the faults.
    #[must_use]
    pub fn max_faults(mut self, faults: u32) -> Self {
        self.max_faults = faults.max(1);
        self
    }

    /// How much memory a message may take once it is decoded, beyond its own length, in bytes. Default 32 MiB.
    ///
    /// Protects memory: two bytes on the wire make a whole element of a repeated field or a map, so that 4 MiB could become
    /// hundreds. What multiplies is counted before a message is decoded: elements at what they take in memory, vectors at twice
    /// that. A request that would take more is refused with RESOURCE_EXHAUSTED, and was not executed; a reply fails its call
    /// with the same code, and it was; a message of a stream ends the stream. Services and stubs that were not generated know
    /// nothing of their messages, and have no such limit.
    #[must_use]
    pub fn decode_bytes(mut self, bytes: u64) -> Self {
        self.decode_bytes = bytes;
        self
    }
}

/// Asked after this much silence: a client's default, while anything is outstanding.
pub(crate) const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Asked after this much silence: a server's default.
pub(crate) const SERVER_KEEP_ALIVE: Duration = Duration::from_secs(2 * 60);
/// How long a call may take that says nothing else.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to come about.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepted calls may take to finish after a terminate.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

const MIN_FRAME: u32 = 64 << 10;
const MAX_FRAME: u32 = (16 << 20) - 1;
const FLOOR_CALLS: u32 = 16;
const FLOOR_BYTES: u64 = 64 << 10;
