//! Load: the work that a server or a client has in hand at one moment.

use std::fmt;

/// The work that a server or a client has in hand at one moment.
///
/// [`ServerHandle::load`](crate::server::ServerHandle::load) and [`Client::load`](crate::Client::load) return it. All numbers
/// are zero when no peer is connected and all work has ended. A number that stays above zero in a quiet hour is a leak: of
/// this crate, or of a handler that never ends.
///
/// ```
/// # fn watch(server: &rpc_runtime::server::ServerHandle) {
/// let load = server.load();
/// if load.is_idle() {
///     println!("idle, {} connections", load.connections());
/// } else {
///     println!("{load}"); // connections=2 calls=7 buffered_bytes=1200
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Load {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
    pub(crate) calls: usize,
    pub(crate) one_ways: usize,
    pub(crate) handler_tasks: usize,
    pub(crate) waiting: usize,
    pub(crate) buffered_bytes: u64,
}

impl Load {
    /// The number of connections that are not closed.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// The number of these connections whose handshake is not done.
    pub fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// The number of open calls, in both directions.
    ///
    /// A call that its caller gave up stays open until the peer has replied, or until its handler is gone.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// The number of one-way calls.
    ///
    /// A received one counts until its handler is gone, a sent one until the operating system has all of it.
    pub fn one_ways(&self) -> usize {
        self.one_ways
    }

    /// The number of handlers that have a task of their own.
    ///
    /// [`ServerBuilder::max_waiting_handlers`](crate::server::ServerBuilder::max_waiting_handlers) bounds it.
    pub fn handler_tasks(&self) -> usize {
        self.handler_tasks
    }

    /// The number of callers, handlers and streams that wait for a connection, for credit, or for room in the output.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The number of bytes that this process holds for its peers.
    ///
    /// They are encoded and not yet with the operating system, or they were read and no handler or caller has taken them. A
    /// frame that has not arrived whole does not count.
    pub fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes
    }

    /// Returns true if there is nothing in hand but established connections.
    pub fn is_idle(&self) -> bool {
        let connections = self.connections;
        *self
            == Self {
                connections,
                ..Self::default()
            }
    }

    /// Adds the numbers of both.
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

/// One line of the numbers that are not zero: `connections=2 calls=7 buffered_bytes=1200`.
impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, count) in [
            ("connections", self.connections as u64),
            ("handshakes", self.handshakes as u64),
            ("calls", self.calls as u64),
            ("one_ways", self.one_ways as u64),
            ("handler_tasks", self.handler_tasks as u64),
            ("waiting", self.waiting as u64),
            ("buffered_bytes", self.buffered_bytes),
        ] {
            if count > 0 {
                write!(f, "{separator}{name}={count}")?;
                separator = " ";
            }
        }
        if separator.is_empty() {
            f.write_str("nothing in hand")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_connections_are_idle() {
        let connected = Load {
            connections: 2,
            ..Load::default()
        };
        assert!(connected.is_idle() && Load::default().is_idle());
        for busy in [
            Load {
                handshakes: 1,
                ..connected
            },
            Load {
                buffered_bytes: 1,
                ..connected
            },
        ] {
            assert!(!busy.is_idle(), "{busy}");
        }
    }

    #[test]
    fn display_is_one_line_of_the_numbers_that_are_not_zero() {
        assert_eq!(Load::default().to_string(), "nothing in hand");
        let load = Load {
            connections: 2,
            buffered_bytes: 1200,
            ..Load::default()
        };
        assert_eq!(load.to_string(), "connections=2 buffered_bytes=1200");
    }
}
