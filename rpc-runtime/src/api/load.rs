//! Load: what a server or a client has in hand right now.

/// What a server or a client has in hand right now: a look, true for no longer than that.
///
/// [`ServerHandle::load`](crate::ServerHandle::load) and [`Client::load`](crate::Client::load) tell. All of it is zero when nobody
/// is connected and everything has come to its end; what stays above that in a quiet hour is a leak, of this crate's or of a
/// handler's that never ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// Connections that are not closed.
    pub connections: usize,
    /// Those of them whose handshake is not done.
    pub handshakes: usize,
    /// Calls that are open, made and taken ones: one that was given up is, until its peer has replied or its handler is gone.
    pub calls: usize,
    /// One-way calls: taken ones until their handler is gone, sent ones until all of them is with the operating system.
    pub one_ways: usize,
    /// Handlers that have a task of their own, which is what
    /// [`ServerBuilder::max_calls`](crate::ServerBuilder::max_calls) bounds.
    pub handler_tasks: usize,
    /// Callers, handlers and streams that wait: for a connection, credit, or room in the output.
    pub waiting: usize,
    /// Bytes that are encoded and not with the operating system, or were read and not taken by a handler or a caller. What has
    /// come of a frame that is not whole is left out.
    pub buffered_bytes: u64,
}

impl Load {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            handshakes: self.handshakes + other.handshakes,
            calls: self.calls + other.calls,
            one_ways: self.one_ways + other.one_ways,
            handler_tasks: self.handler_tasks + other.handler_tasks,
            waiting: self.waiting + other.waiting,
            buffered_bytes: self.buffered_bytes.saturating_add(other.buffered_bytes),
        }
    }
}
