//! ProcedureCounts: the counters of each procedure that this process serves or calls.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    calls::{CallCounts, CallTotals},
    labels::{Protocol, Side},
    shard::{self, Shard},
};

/// The counters of one procedure, or of one of several entries with its path.
pub(crate) struct ProcedureCounts {
    path: &'static str,
    /// By side and protocol: made when the first call is counted.
    parts: [OnceLock<Box<[CallCounts]>>; 4],
}

/// The counters of procedures that the server does not have.
static OTHER: ProcedureCounts = ProcedureCounts::new("_other/_other");

impl ProcedureCounts {
    const fn new(path: &'static str) -> Self {
        Self {
            path,
            parts: [const { OnceLock::new() }; 4],
        }
    }

    /// Returns the counters of the procedure `path`, whose id is `id`.
    pub(crate) fn of(id: u64, path: &'static str) -> &'static Self {
        FIRST.find(id, path)
    }

    /// Returns the counters of procedures that the server does not have.
    pub(crate) fn other() -> &'static Self {
        &OTHER
    }

    /// Returns the part in which `shard` counts.
    #[inline]
    pub(crate) fn counts(&'static self, side: Side, protocol: Protocol, shard: Shard) -> &'static CallCounts {
        let parts = &self.parts[index(side, protocol)];
        shard.of(parts.get_or_init(make_parts))
    }

    /// The path: `package.Service/method`.
    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    /// What was counted on one side, by one protocol; none if nothing was.
    pub(super) fn totals(&self, side: Side, protocol: Protocol) -> Option<CallTotals> {
        let parts = self.parts[index(side, protocol)].get()?;
        let mut totals = CallTotals::new();
        totals.add(parts);
        Some(totals)
    }
}

fn index(side: Side, protocol: Protocol) -> usize {
    2 * side as usize + protocol as usize
}

#[cold]
fn make_parts() -> Box<[CallCounts]> {
    (0..shard::count()).map(|_| CallCounts::new()).collect()
}

/// Returns the counters of all procedures, in no order. Two may have the same path.
pub(super) fn all() -> impl Iterator<Item = &'static ProcedureCounts> {
    let tables = std::iter::successors(Some(&FIRST), |table| table.next.get().map(|next| &**next));
    let known = tables.flat_map(|table| table.slots.iter().filter_map(OnceLock::get));
    known.chain([&OTHER])
}

/// A part of the hash table of all procedures.
///
/// Entries are added, and never removed, so finding one takes no lock. Paths are texts of the program, so they have a bound.
struct Table {
    slots: [OnceLock<ProcedureCounts>; SLOTS],
    /// For what has no slot here.
    next: OnceLock<Box<Self>>,
}

static FIRST: Table = Table::new();

/// The number of slots of a table.
const SLOTS: usize = 256;
/// The number of slots of a table in which an entry may be.
const PROBES: usize = 4;

impl Table {
    const fn new() -> Self {
        Self {
            slots: [const { OnceLock::new() }; SLOTS],
            next: OnceLock::new(),
        }
    }

    /// Finds the entry of `path`, or adds it.
    fn find(&'static self, id: u64, path: &'static str) -> &'static ProcedureCounts {
        let mut table = self;
        loop {
            for probe in 0..PROBES {
                let slot = &table.slots[(id as usize).wrapping_add(probe) % SLOTS];
                // All look at the slots in the same order, so nobody adds a second entry behind the first.
                let found = slot.get_or_init(|| ProcedureCounts::new(path));
                if found.path == path {
                    return found;
                }
            }
            table = table.next.get_or_init(|| Box::new(Self::new()));
        }
    }
}

/// The counters of the procedures that a server has, by their ids.
#[derive(Clone, Default)]
pub(crate) struct ServedProcedures(Arc<[(u64, &'static ProcedureCounts)]>);

impl ServedProcedures {
    /// Those of `procedures`, each an id and a path.
    pub(crate) fn new(procedures: impl IntoIterator<Item = (u64, &'static str)>) -> Self {
        let counts = procedures
            .into_iter()
            .map(|(id, path)| (id, ProcedureCounts::of(id, path)));
        let mut counts: Vec<_> = counts.collect();
        counts.sort_unstable_by_key(|&(id, _)| id);
        Self(counts.into())
    }

    /// The counters of the procedure `id`. Those that the server does not have share theirs.
    pub(super) fn find(&self, id: u64) -> &'static ProcedureCounts {
        let found = self.0.binary_search_by_key(&id, |&(id, _)| id);
        found.map_or(&OTHER, |index| self.0[index].1)
    }
}

impl fmt::Debug for ServedProcedures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(_, counts)| counts.path))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, ptr, thread};

    use super::*;

    /// Texts that live as long as the process.
    fn paths(name: &str, count: usize) -> Vec<&'static str> {
        let made = (0..count).map(|number| format!("test.{name}/rpc_{number}"));
        made.map(|path| &*Box::leak(path.into_boxed_str())).collect()
    }

    #[test]
    fn each_path_has_one_entry_however_many_share_an_id() {
        let paths = paths("Shared", 30);
        let entries: BTreeSet<_> = paths
            .iter()
            .map(|path| ptr::from_ref(ProcedureCounts::of(7, path)))
            .collect();
        assert_eq!(entries.len(), 30);
        for path in &paths {
            let copy = String::from(*path).leak();
            assert!(ptr::eq(
                ProcedureCounts::of(7, path),
                ProcedureCounts::of(7, copy)
            ));
            assert_eq!(all().filter(|one| one.path == *path).count(), 1);
        }
    }

    #[test]
    fn threads_that_add_one_path_at_once_get_one_entry() {
        for path in paths("Raced", 50) {
            let found: Vec<_> = thread::scope(|scope| {
                let add = || scope.spawn(|| ptr::from_ref(ProcedureCounts::of(9, path)).addr());
                let threads = [add(), add(), add()];
                threads.map(|thread| thread.join().unwrap()).to_vec()
            });
            assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn a_server_finds_its_procedures_and_counts_the_others_together() {
        let served = ServedProcedures::new([(30, "test.Served/a"), (10, "test.Served/b")]);
        assert_eq!(served.find(10).path(), "test.Served/b");
        assert_eq!(served.find(30).path(), "test.Served/a");
        assert_eq!(served.find(20).path(), "_other/_other");
    }
}
