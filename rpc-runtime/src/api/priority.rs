//! Priority: what goes first when a connection has more to send than it can.

use std::sync::Arc;

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

impl Priority {
    /// All, the highest first.
    pub(crate) const ALL: [Self; 3] = [Self::Control, Self::Normal, Self::Bulk];

    /// Its place among all.
    pub(crate) const fn rank(self) -> usize {
        match self {
            Self::Control => 0,
            Self::Normal => 1,
            Self::Bulk => 2,
        }
    }
}

/// The procedures that are served with another priority than [`Priority::Normal`], by their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Priorities(Arc<[(u64, Priority)]>);

impl Priorities {
    /// Those of `procedures` that have another one.
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
