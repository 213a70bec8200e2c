//! Checks: what must be true at the end of a schedule.

use super::*;
use crate::conn::Uncovered;

impl World {
    /// Checks that each call has ended, and that its outcome is true.
    pub(in crate::conn::tests::schedules) fn check_all_ended(&self) {
        for caller in &self.callers {
            let done = [&caller.open, &caller.send, &caller.receive].map(|part| part.is_done());
            let id = caller.id;
            assert_eq!(done, [true; 3], "{:?} {id:?} was forgotten", caller.way);
            let log = id.and_then(|id| self.logs.get(&(caller.client, id.0)));
            let starts = log.map_or(0, |log| log.started);
            match &caller.outcome {
                Some(Ok(_)) => assert_eq!(starts, 1),
                Some(Err(failure)) if failure.executed == Executed::No => {
                    assert_eq!(starts, 0, "{failure:?}, but {id:?} ran");
                }
                Some(Err(failure)) if failure.executed == Executed::Yes => {
                    assert_eq!(starts, 1, "{failure:?}, but {id:?} did not run");
                }
                Some(Err(_)) => {}
                None => assert!(caller.dropped || caller.sent.is_some(), "{id:?} has no outcome"),
            }
        }
        for handler in &self.handlers {
            assert!(handler.main.is_done(), "handler {:?} was forgotten", handler.id);
        }
        assert!(
            self.logs.values().all(|log| log.started <= 1),
            "a handler started twice"
        );
        for node in [&self.pair.client, &self.pair.server] {
            assert_eq!(node.conn.held(), InboxUse::default());
            assert_eq!(node.conn.ours.calls().held(), (0, 0));
            assert_eq!(node.conn.open_requests(), 0);
            assert_eq!(node.conn.running_handlers(), 0);
            assert_eq!(
                node.conn.peer.faults.left(),
                abuse_budget(),
                "an honest peer was blamed"
            );
        }
    }

    /// Checks that both connections live on and hold nothing.
    pub(in crate::conn::tests::schedules) fn check_quiet(&self) {
        for node in [&self.pair.client, &self.pair.server] {
            assert!(matches!(node.conn.state(), State::Open));
            assert!(!node.conn.streams.is_owing());
            assert!(!node.conn.wants_write());
        }
        self.pair.assert_quiescent();
    }

    /// Waits for one more account on each side, and checks that it counts all one-way requests.
    pub(in crate::conn::tests::schedules) fn check_accounts(&mut self) {
        self.wait_for_accounts();
        for client in [true, false] {
            self.start_barrier(client);
        }
        self.wait_for_accounts();
        for client in [true, false] {
            let accepted = self.accepted(client);
            let account = self.accounts[usize::from(client)].as_ref();
            let counts = account.map(|account| (account.received, account.pending()));
            assert_eq!(
                counts,
                Some((accepted, 0)),
                "received and pending of {accepted} sends"
            );
        }
        self.check_sends();
    }

    /// Lets all barriers and flushes end. Time passes, because the PING of a barrier may wait for the peer's floor.
    fn wait_for_accounts(&mut self) {
        for _ in 0..400 {
            while self.round() {}
            if self.waiters.iter().all(|waiter| waiter.part.is_done()) {
                break;
            }
            self.advance(200);
        }
        self.check_waiters_ended();
    }

    /// Checks that no barrier and no flush waits any more.
    pub(in crate::conn::tests::schedules) fn check_waiters_ended(&self) {
        for waiter in &self.waiters {
            assert!(waiter.part.is_done(), "a barrier or a flush was forgotten");
        }
    }

    /// Checks that no one-way request ran that is reported as not executed.
    pub(in crate::conn::tests::schedules) fn check_sends(&self) {
        for (client, node) in [(true, &self.pair.client), (false, &self.pair.server)] {
            let accepted = self.accepted(client);
            let (ran, _) = self.ran(client);
            let Uncovered { no, maybe } = node.conn.uncovered();
            assert!(
                ran + no <= accepted,
                "{ran} of {accepted} sends ran, and {no} did not"
            );
            assert!(
                no + maybe <= accepted,
                "{no} + {maybe} of {accepted} sends are in doubt"
            );
        }
    }

    /// Checks that both connections are closed or none is, and that a closed one holds nothing.
    pub(in crate::conn::tests::schedules) fn check_gone(&self) {
        let [client, server] = [&self.pair.client.conn, &self.pair.server.conn];
        assert_eq!(client.is_closed(), server.is_closed());
        for conn in [client, server].into_iter().filter(|conn| conn.is_closed()) {
            assert!(conn.leftovers().is_empty(), "{:?}", conn.leftovers());
        }
    }
}

/// Returns the number of faults that a new connection allows.
fn abuse_budget() -> u32 {
    Connection::new(Side::Connector, settings()).peer.faults.left()
}
