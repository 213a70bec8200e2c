//! Counters: what a server has refused, and whom it has cut off.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// One thing that is counted, by all connections of a server together.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Counts one more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a server has refused, and whom it has cut off, since it began: [`ServerHandle::counters`].
        ///
        /// Nothing here counts what is as it should be. `Display` is one line that names what is not zero.
        ///
        /// [`ServerHandle::counters`]: crate::ServerHandle::counters
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters that all connections of a server, or of a client, share.
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $name: Count,)*
        }

        impl Counts {
            /// The counters as they stand.
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.get(),)* }
            }
        }

        impl Counters {
            fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Calls refused because a limit was reached: the peer's own, or one of the whole server. None of them was executed.
    calls_refused,
    /// One-way calls dropped because a limit was reached; their senders find them in their account.
    sends_refused,
    /// Calls and one-way calls of procedures that the server does not have.
    unknown_procedures,
    /// Messages that could not be parsed or unpacked, or had another length than announced.
    malformed_messages,
    /// Frames without anything in them where there has to be something.
    empty_frames,
    /// Frames of kinds that are not known here and may be ignored.
    ignored_frames,
    /// Frames for calls that were over, more than may come by accident.
    late_frames,
    /// Pings below [`Limits::ping_floor`](crate::Limits::ping_floor).
    early_pings,
    /// Other frames that make no sense where they come, and end no connection by themselves.
    other_faults,
    /// Connections ended because the peer broke the protocol.
    ended_by_protocol,
    /// Connections ended because there was too much to refuse: see [`Limits::max_faults`](crate::Limits::max_faults).
    ended_by_excess,
    /// Connections ended because the peer did not go on with what it had begun: see
    /// [`Limits::slow_frame`](crate::Limits::slow_frame).
    ended_by_slow_frame,
    /// Connections ended because the peer took too little of what was written: see
    /// [`Limits::write_stall`](crate::Limits::write_stall).
    ended_by_write_stall,
    /// Connections ended because the peer gave no sign of life: see [`Limits::dead_after`](crate::Limits::dead_after).
    ended_by_silence,
    /// Peers that spoke something else, or another version.
    handshakes_rejected,
    /// Peers that were not through their handshake in time: see
    /// [`Limits::handshake_timeout`](crate::Limits::handshake_timeout).
    handshakes_timed_out,
    /// Mute peers that lost their place to others: see
    /// [`ServerBuilder::max_handshakes`](crate::ServerBuilder::max_handshakes).
    handshakes_evicted,
    /// Peers that waited to be served because of
    /// [`ServerBuilder::max_connections`](crate::ServerBuilder::max_connections).
    connections_delayed,
    /// Times that no connection was accepted for a while because of
    /// [`ServerBuilder::max_buffered_bytes`](crate::ServerBuilder::max_buffered_bytes).
    accepts_paused,
    /// Times that the OS lacked something for the next connection: files, or memory. The listener pauses then.
    accept_errors,
    /// Peers that were lost before they were accepted: they left, or [`ServerBuilder::incoming`](crate::ServerBuilder::incoming)
    /// gave an error, of a failed TLS handshake, say. Nobody waits because of it.
    accepts_failed,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, count) in self.named().filter(|(_, count)| *count > 0) {
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
    }
}
