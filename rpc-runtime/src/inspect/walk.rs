//! Walk: one connection after the other, each under its own lock alone.

use std::{borrow::Cow, cmp::Reverse, mem, sync::Arc};

use super::{
    CallQuery, CallView, ConnectionQuery, ConnectionStage, ConnectionView, LimitView, Listing, Side,
    registry::{BlockedHandler, ConnectionFacts, InspectedConnection, Owner, OwnerLimit, owners},
};
use crate::{
    api::call_state::CallState,
    conn::{CallSnapshot, Called, ConnectionSnapshot, LimitUse, State},
    driver::{Clock, Wakes},
};

/// A connection, and whose it is.
struct OwnedConnection {
    side: Side,
    owner: Arc<str>,
    connection: Box<dyn InspectedConnection>,
}

impl OwnedConnection {
    fn number(&self) -> u64 {
        self.connection.shared().number()
    }

    fn view(&self) -> ConnectionView {
        let shared = self.connection.shared();
        let blocked = self.connection.blocked().len();
        let facts = self.connection.facts();
        let snapshot = snapshot(&*self.connection);
        let ConnectionFacts {
            peer,
            transport,
            protocol,
            caller,
            has_several_callers,
            traffic,
        } = facts;
        let (received, sent) = match &traffic {
            Some(traffic) => traffic.bytes(),
            None => (snapshot.received, snapshot.sent),
        };
        let stalled = match &traffic {
            Some(traffic) => traffic.stalled(),
            None => snapshot.stalled,
        };
        let round_trip = match &traffic {
            Some(traffic) => traffic.round_trip(),
            None => snapshot.round_trip,
        };
        ConnectionView {
            id: shared.number(),
            side: self.side,
            owner: Arc::clone(&self.owner),
            peer,
            caller,
            has_several_callers,
            protocol,
            transport,
            stage: stage(&snapshot.state),
            age: shared.now(),
            served: snapshot.served,
            made: snapshot.made,
            one_ways: snapshot.one_ways,
            waiting: snapshot.waiting,
            missed_deadlines: snapshot.missed_deadlines,
            blocked,
            received,
            sent,
            held: snapshot.held,
            backlog: snapshot.backlog,
            round_trip,
            silence: snapshot.silence,
            stalled,
        }
    }

    /// Adds the calls that `query` selects to `calls`; returns how many of the connection were not looked at.
    fn add_calls(&self, query: &CallQuery, calls: &mut Vec<CallView>) -> usize {
        let shared = self.connection.shared();
        let (listed, left_out) = {
            let conn = shared.lock(Clock::Recent, Wakes::Waiters);
            conn.list_calls(
                query.slower_than,
                MOST_OF_CONNECTION,
                conn.now().max(shared.now()),
            )
        };
        if listed.is_empty() {
            return left_out;
        }
        let blocked = self.connection.blocked();
        let facts = self.connection.facts();
        let caller = facts.caller.filter(|_| !facts.has_several_callers);
        for call in listed {
            let procedure = self.procedure(call.called);
            if !procedure.starts_with(&query.procedure) {
                continue;
            }
            let blocked = blocked.iter().find(|one| !call.is_ours && one.call == call.id);
            calls.push(CallView {
                connection: shared.number(),
                peer: Arc::clone(&facts.peer),
                caller: caller.clone().filter(|_| !call.is_ours),
                protocol: facts.protocol,
                procedure,
                ..call_view(&call, blocked)
            });
        }
        left_out
    }

    fn procedure(&self, called: Called) -> Cow<'static, str> {
        let found = match called {
            Called::Procedure(procedure) => Some(procedure),
            Called::Id(id) => self.connection.procedure(id),
        };
        match (found, called) {
            (Some(procedure), _) => procedure.path().into(),
            (None, Called::Id(id)) => format!("{id:#018x}").into(),
            (None, Called::Procedure(_)) => Cow::default(),
        }
    }
}

/// All connections above the number `after`, in their order.
fn connections(after: u64) -> Vec<OwnedConnection> {
    let mut all = Vec::new();
    for owner in owners() {
        let (side, name) = (owner.side(), owner.name());
        let of_owner = owner.connections().into_iter();
        let above = of_owner.filter(|one| one.shared().number() > after);
        all.extend(above.map(|connection| OwnedConnection {
            side,
            owner: Arc::clone(&name),
            connection,
        }));
    }
    all.sort_by_key(OwnedConnection::number);
    // A connection by which a client serves callbacks is there twice. The services were added later, and know more of it.
    all.dedup_by(|later, kept| {
        let is_same = later.number() == kept.number();
        if is_same {
            mem::swap(&mut later.connection, &mut kept.connection);
        }
        is_same
    });
    all
}

impl ConnectionQuery {
    /// Lists the selected connections, in the order of their numbers.
    pub fn run(&self) -> Listing<ConnectionView> {
        let all = connections(self.after);
        let listed = all.iter().take(self.most).map(|one| one.view());
        Listing::new(listed.collect(), all.len().saturating_sub(self.most))
    }
}

impl CallQuery {
    /// Lists the selected calls, the oldest first.
    pub fn run(&self) -> Listing<CallView> {
        let (mut calls, mut left_out) = (Vec::new(), 0);
        for one in connections(0) {
            if self.connection.is_some_and(|id| id != one.number()) {
                continue;
            }
            left_out += one.add_calls(self, &mut calls);
            if calls.len() > 2 * self.most {
                left_out += keep_oldest(&mut calls, self.most);
            }
        }
        left_out += keep_oldest(&mut calls, self.most);
        Listing::new(calls, left_out)
    }
}

/// Sorts `calls` by age, and drops all but the `most` oldest; returns how many those were.
fn keep_oldest(calls: &mut Vec<CallView>, most: usize) -> usize {
    calls.sort_by_key(|call| (Reverse(call.age), call.connection, call.id));
    let left_out = calls.len().saturating_sub(most);
    calls.truncate(most);
    left_out
}

/// Lists the limits of all servers and clients.
pub(super) fn limits() -> Listing<LimitView> {
    let (mut views, mut left_out) = (Vec::new(), 0);
    for owner in owners() {
        let limits = owner.limits();
        if limits.is_empty() {
            continue;
        }
        let used = UsedMost::of(&*owner);
        let (side, name) = (owner.side(), owner.name());
        for limit in limits {
            if views.len() == MOST_LIMITS {
                left_out += 1;
                continue;
            }
            let OwnerLimit {
                name: limit_name,
                value,
                source,
                used: of_all,
            } = limit;
            let (used, used_by) = match of_all {
                Some(all) => (Some(all), used.find(limit_name).1),
                None => used.find(limit_name),
            };
            views.push(LimitView {
                side,
                owner: Arc::clone(&name),
                name: limit_name,
                value,
                source,
                used,
                used_by,
            });
        }
    }
    Listing::new(views, left_out)
}

/// For each limit the connection that uses most of it.
struct UsedMost(Vec<(&'static str, u64, Option<u64>)>);

impl UsedMost {
    fn of(owner: &dyn Owner) -> Self {
        let mut most = uses(&LimitUse::default(), 0).map(|(name, used)| (name, used, None));
        for connection in owner.connections() {
            let ConnectionSnapshot { limits, held, .. } = snapshot(&*connection);
            let of_one = uses(&limits, held);
            for (most, (_, used)) in most.iter_mut().zip(of_one) {
                if used > most.1 {
                    (most.1, most.2) = (used, Some(connection.shared().number()));
                }
            }
        }
        Self(most.into())
    }

    fn find(&self, name: &str) -> (Option<u64>, Option<u64>) {
        let found = self.0.iter().find(|(of, ..)| *of == name);
        found.map_or((None, None), |(_, used, by)| (Some(*used), *by))
    }
}

/// What a connection uses of its own limits and of those of its server, by their names. It holds `held` bytes.
fn uses(used: &LimitUse, held: u64) -> [(&'static str, u64); 9] {
    let LimitUse {
        max_calls,
        call_bytes,
        send_bytes,
        inbox_bytes,
        high_water,
        max_waiting,
        metadata_bytes,
        running,
    } = *used;
    [
        ("max_calls", max_calls),
        ("call_bytes", call_bytes),
        ("send_bytes", send_bytes),
        ("inbox_bytes", inbox_bytes),
        ("high_water", high_water),
        ("max_waiting", max_waiting),
        ("metadata_bytes", metadata_bytes),
        ("max_buffered_bytes", held),
        ("max_waiting_handlers", running),
    ]
}

fn snapshot(connection: &dyn InspectedConnection) -> ConnectionSnapshot {
    let shared = connection.shared();
    // A look does not move the connection's time: it may come from a thread with another clock.
    let conn = shared.lock(Clock::Recent, Wakes::Waiters);
    conn.snapshot(conn.now().max(shared.now()))
}

fn stage(state: &State) -> ConnectionStage {
    match state {
        State::Handshaking => ConnectionStage::Handshake,
        State::Open => ConnectionStage::Open,
        State::Draining => ConnectionStage::Draining,
        State::Closing => ConnectionStage::Closing,
        State::Closed(_) => ConnectionStage::Closed,
    }
}

/// A view that lacks what the connection knows.
fn call_view(call: &CallSnapshot, blocked: Option<&BlockedHandler>) -> CallView {
    CallView {
        connection: 0,
        id: call.id.0,
        procedure: Cow::default(),
        side: match call.is_ours {
            true => Side::Client,
            false => Side::Server,
        },
        peer: "".into(),
        caller: None,
        protocol: "",
        is_one_way: call.one_way,
        count: call.count,
        age: call.age,
        remaining: call.remaining,
        running: call.running,
        state: match blocked {
            Some(_) => CallState::Blocking,
            None => call.state,
        },
        blocked: blocked.map(|blocked| blocked.time),
        cancelled_by: call.cancelled_by,
    }
}

/// How many calls of one connection are looked at.
const MOST_OF_CONNECTION: usize = 16_384;
/// How many limits are listed.
const MOST_LIMITS: usize = 10_000;
