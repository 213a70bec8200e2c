//! Counters: what a server has refused, and which peers it has cut off.

use std::{
    array, fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::server_limit::ServerLimit;

/// One counter that all connections of a server share.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Counts one more.
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    /// Counts `count` more.
    pub(crate) fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The numbers of what a server has refused, and of the peers that it has cut off, since it began.
        ///
        /// [`ServerHandle::counters`](crate::server::ServerHandle::counters) returns them. Only refusals and failures are
        /// counted. `Display` is one line of the numbers that are not zero.
        ///
        /// ```
        /// # fn export(server: &rpc_runtime::server::ServerHandle) {
        /// let counters = server.counters();
        /// if counters.calls_refused() > 0 {
        ///     println!("{counters}"); // calls_refused=2 early_pings=1
        /// }
        /// for (name, count) in counters.iter() {
        ///     println!("rpc_server_{name} {count}");
        /// }
        /// # }
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[must_use]
        pub struct Counters {
            $(pub(crate) $name: u64,)*
            refused: ByLimit<u64>,
        }

        /// The counters that all connections of a server, or of a client, share.
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $name: Count,)*
            refused: ByLimit<Count>,
        }

        impl Counts {
            /// The numbers of this moment.
            pub(crate) fn read(&self) -> Counters {
                Counters {
                    $($name: self.$name.get(),)*
                    refused: self.refused.map(Count::get),
                }
            }
        }

        impl Counters {
            /// The sum of both.
            pub(crate) fn and(self, other: Self) -> Self {
                Self {
                    $($name: self.$name.saturating_add(other.$name),)*
                    refused: self.refused.and(&other.refused),
                }
            }

            $(
                $(#[$doc])*
                pub fn $name(&self) -> u64 {
                    self.$name
                }
            )*

            /// All counters, each with its name, for a metrics exporter.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

/// Something for each limit: of calls, and of one-way calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ByLimit<T> {
    calls: [T; ServerLimit::COUNT],
    one_ways: [T; ServerLimit::COUNT],
}

impl<T> ByLimit<T> {
    fn of(&self, limit: ServerLimit, one_way: bool) -> &T {
        match one_way {
            true => &self.one_ways[limit as usize],
            false => &self.calls[limit as usize],
        }
    }

    fn map<U>(&self, f: impl Fn(&T) -> U) -> ByLimit<U> {
        ByLimit {
            calls: self.calls.each_ref().map(&f),
            one_ways: self.one_ways.each_ref().map(&f),
        }
    }
}

impl ByLimit<u64> {
    /// The sum of both.
    fn and(&self, other: &Self) -> Self {
        let sum = |these: &[u64; ServerLimit::COUNT], those: &[u64; ServerLimit::COUNT]| {
            array::from_fn(|at| these[at].saturating_add(those[at]))
        };
        Self {
            calls: sum(&self.calls, &other.calls),
            one_ways: sum(&self.one_ways, &other.one_ways),
        }
    }
}

impl Counts {
    /// Counts `count` requests that are refused because of `limit`.
    pub(crate) fn refuse(&self, limit: ServerLimit, one_way: bool, count: u64) {
        self.refused.of(limit, one_way).add_many(count);
        match one_way {
            true => &self.sends_refused,
            false => &self.calls_refused,
        }
        .add_many(count);
    }
}

impl Counters {
    /// How many requests were refused because of `limit`.
    pub(crate) fn refused(&self, limit: ServerLimit, one_way: bool) -> u64 {
        *self.refused.of(limit, one_way)
    }
}

counters! {
    /// Calls refused because of a limit of the peer or of the whole server; none was executed, with one
    /// exception: calls of a [guest](crate::server::Guest) whose reply was too large to hold.
    calls_refused,
    /// One-way calls dropped because of a limit; their senders find them in their account.
    sends_refused,
    /// Calls and one-way calls that a [`Policy`](crate::auth::Policy) denied; none of them was executed.
    calls_denied,
    /// Connections drained because a policy denied too many of their calls: see
    /// [`Limits::max_denials`](crate::Limits::max_denials).
    drained_by_denials,
    /// Calls and one-way calls of procedures that the server does not have.
    unknown_procedures,
    /// Messages that could not be parsed or decompressed, or had another length than announced.
    malformed_messages,
    /// Frames that were empty where a payload is required.
    empty_frames,
    /// Frames of unknown kinds that may be ignored.
    ignored_frames,
    /// Frames for calls that were over, beyond the few that cross on the wire.
    late_frames,
    /// PINGs that came sooner than [`Limits::ping_floor`](crate::Limits::ping_floor) allows.
    early_pings,
    /// Other frames in the wrong place that do not end the connection by themselves. Of a gRPC caller: requests that are refused, messages that
    /// are too long, and calls that end because the caller is too slow.
    other_faults,
    /// Connections ended because the peer broke the protocol.
    ended_by_protocol,
    /// Connections ended because the peer made too many faults: see [`Limits::max_faults`](crate::Limits::max_faults).
    ended_by_excess,
    /// Connections ended because the peer did not continue a frame or a message: see
    /// [`Limits::slow_frame`](crate::Limits::slow_frame).
    ended_by_slow_frame,
    /// Connections ended because the peer took too little of the written bytes: see
    /// [`Limits::write_stall`](crate::Limits::write_stall).
    ended_by_write_stall,
    /// Connections ended because the peer did not answer a PING: see [`Limits::dead_after`](crate::Limits::dead_after).
    ended_by_silence,
    /// Peers that spoke another protocol, or another version.
    handshakes_rejected,
    /// Peers that did not finish their handshake in time: see
    /// [`Limits::handshake_timeout`](crate::Limits::handshake_timeout).
    handshakes_timed_out,
    /// Peers whose TLS handshake failed, with those that left during it.
    tls_handshakes_failed,
    /// Connections to listeners [behind proxies](crate::server::Endpoint::behind_proxies) that were closed: they did not come from a trusted
    /// proxy, or had no valid PROXY header.
    proxy_headers_refused,
    /// Mute peers in their handshake that lost their place to others: see
    /// [`ServerBuilder::max_handshakes`](crate::server::ServerBuilder::max_handshakes).
    handshakes_evicted,
    /// Peers that had to wait to be accepted because of
    /// [`ServerBuilder::max_connections`](crate::server::ServerBuilder::max_connections).
    connections_delayed,
    /// Pauses of accepting because of
    /// [`ServerBuilder::max_buffered_bytes`](crate::server::ServerBuilder::max_buffered_bytes).
    accepts_paused,
    /// Failures to accept because the OS lacked files or memory; the listener pauses after each.
    accept_errors,
    /// Peers that were lost before they were accepted.
    ///
    /// They left, or [`ServerBuilder::incoming`](crate::server::ServerBuilder::incoming) returned an error, such as a failed TLS
    /// handshake. Accepting goes on at once.
    accepts_failed,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, count) in self.iter().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{name}={count}")?;
            separator = " ";
        }
        if separator.is_empty() {
            f.write_str("nothing refused")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_of_what_is_not_zero() {
        let counts = Counts::default();
        assert_eq!(counts.read().to_string(), "nothing refused");
        counts.early_pings.add();
        counts.calls_refused.add();
        counts.calls_refused.add();
        assert_eq!(counts.read().to_string(), "calls_refused=2 early_pings=1");
        assert_eq!(
            (counts.read().calls_refused(), counts.read().late_frames()),
            (2, 0)
        );
        let all: Vec<_> = counts.read().iter().collect();
        assert_eq!((all.len(), all[0]), (25, ("calls_refused", 2)));
    }
}
