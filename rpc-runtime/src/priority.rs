//! Priority: what goes first when a connection has more to send than it can.

/// What goes first when a connection has more to send than it can.
///
/// Declared for a procedure in the .proto, by `option (rpc.procedure) = { priority: BULK };`, or for one call. It is the
/// sender's own business: requests go by the caller's, replies by the server's declaration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Priority {
    /// Before everything else: heartbeats and the like. It never waits for more than one fragment, 128 KiB, of others.
    Control,
    /// What calls have that say nothing.
    #[default]
    Normal,
    /// After everything else: large transfers that have time.
    Bulk,
}
