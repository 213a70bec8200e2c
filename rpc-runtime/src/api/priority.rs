//! Priority: the order in which a connection sends when it has more than it can send at once.

use std::sync::Arc;

/// The order in which a connection sends messages when it has more than it can send at once.
///
/// A .proto declares it for a procedure, by `option (rpc.procedure) = { priority: BULK };`, and a caller may set it for one
/// call. The sender decides: requests follow the caller's priority, replies the server's declaration. Lower priorities are
/// not starved: they get one turn in eight.
///
/// ```
/// use rpc_runtime::{Client, Priority};
///
/// # fn bulk(client: &Client) {
/// let call = client.call().priority(Priority::Bulk); // a generated client: `kv.send_recv().priority(..).fetch("dog")`
/// # drop(call);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Priority {
    /// Before everything else, for heartbeats and the like: waits for at most one fragment, 128 KiB, of other messages.
    Control,
    /// The default.
    #[default]
    Normal,
    /// After everything else, for large transfers that have time.
    Bulk,
}

impl Priority {
    /// All priorities, the highest first.
    pub(crate) const ALL: [Self; 3] = [Self::Control, Self::Normal, Self::Bulk];

    /// The index in [`Priority::ALL`].
    pub(crate) const fn rank(self) -> usize {
        match self {
            Self::Control => 0,
            Self::Normal => 1,
            Self::Bulk => 2,
        }
    }
}

/// The served procedures whose priority is not [`Priority::Normal`], by their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Priorities(Arc<[(u64, Priority)]>);

impl Priorities {
    /// Keeps the procedures whose priority is not [`Priority::Normal`].
    pub(crate) fn new(procedures: impl IntoIterator<Item = (u64, Priority)>) -> Self {
        let others = procedures
            .into_iter()
            .filter(|&(_, priority)| priority != Priority::Normal);
        let mut others: Vec<_> = others.collect();
        others.sort_unstable_by_key(|&(id, _)| id);
        Self(others.into())
    }

    /// The priority of the procedure `id`.
    pub(crate) fn of(&self, id: u64) -> Priority {
        let found = self.0.binary_search_by_key(&id, |&(id, _)| id);
        found.map_or(Priority::Normal, |index| self.0[index].1)
    }
}
