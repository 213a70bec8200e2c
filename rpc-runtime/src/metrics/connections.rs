//! OpenConnection: a connection that is counted as open until this is dropped.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::labels::{ENDS, EndLabel, Protocol, Side};

/// What connections are told apart by: side, protocol, and the name of the transport.
pub(super) type ConnectionKind = (Side, Protocol, &'static str);

/// How many connections of one kind were opened, and how many have ended for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionTotals {
    pub(super) opened: u64,
    pub(super) ended: [u64; ENDS.len()],
}

impl ConnectionTotals {
    /// How many are open.
    pub(super) fn open(&self) -> u64 {
        self.opened.saturating_sub(self.ended.iter().sum())
    }
}

/// Few entries, since all parts of their keys are words of the program. It is locked twice for each connection.
static CONNECTIONS: Mutex<BTreeMap<ConnectionKind, ConnectionTotals>> = Mutex::new(BTreeMap::new());

/// The numbers of this moment.
pub(super) fn connections() -> BTreeMap<ConnectionKind, ConnectionTotals> {
    lock().clone()
}

fn lock() -> MutexGuard<'static, BTreeMap<ConnectionKind, ConnectionTotals>> {
    CONNECTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is counted as open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    kind: ConnectionKind,
    end: EndLabel,
}

impl OpenConnection {
    /// Counts a connection. If nothing says why it ends, it was lost: with its runtime, perhaps.
    pub(crate) fn new(side: Side, protocol: Protocol, transport: &'static str) -> Self {
        let kind = (side, protocol, transport);
        lock().entry(kind).or_default().opened += 1;
        Self {
            kind,
            end: EndLabel::Lost,
        }
    }

    /// Ends it, and says why.
    pub(crate) fn ended(mut self, end: EndLabel) {
        self.end = end;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        lock().entry(self.kind).or_default().ended[self.end as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_open_until_it_ends_and_says_why() {
        let open = |transport| OpenConnection::new(Side::Client, Protocol::Grpc, transport);
        let of = |transport| connections()[&(Side::Client, Protocol::Grpc, transport)];
        let (first, second) = (open("of a test"), open("of a test"));
        assert_eq!((of("of a test").opened, of("of a test").open()), (2, 2));
        first.ended(EndLabel::Silence);
        drop(second);
        let totals = of("of a test");
        assert_eq!((totals.opened, totals.open()), (2, 0));
        assert_eq!(totals.ended[EndLabel::Silence as usize], 1);
        assert_eq!(totals.ended[EndLabel::Lost as usize], 1);
    }
}
