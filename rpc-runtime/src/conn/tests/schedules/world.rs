//! World: two connections, and the tasks that use them.

mod checks;

use std::collections::{BTreeMap, VecDeque};

use super::{caller::Caller, handler::Handler, log::Log, part::Polled, taken::Taken, waiter::Waiter, *};
use crate::wire::frame::{Encoded, control::Progress};

/// A part to poll, by its task's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Open(usize),
    Send(usize),
    Receive(usize),
    Main(usize),
    Read(usize),
    Write(usize),
    Waiter(usize),
}

/// Two connections, and the tasks that use them.
pub(super) struct World {
    pub(super) pair: Pair,
    pub(super) callers: Vec<Caller>,
    handlers: Vec<Handler>,
    /// The requests that each side has taken together: the server and the client.
    taken: [Taken; 2],
    waiters: Vec<Waiter>,
    /// The last account that each side got: the server and the client.
    accounts: [Option<Progress>; 2],
    /// The record of each request, by its caller's side and its id.
    logs: BTreeMap<(bool, u64), Log>,
    /// True once the schedule is over, so that all streams finish.
    late: bool,
}

impl World {
    pub(super) fn new([client, server]: [Settings; 2]) -> Self {
        Self {
            pair: Pair::fresh(client, server),
            callers: Vec::new(),
            handlers: Vec::new(),
            taken: Default::default(),
            waiters: Vec::new(),
            accounts: [None, None],
            logs: BTreeMap::new(),
            late: false,
        }
    }

    pub(super) fn run_all(&mut self, steps: &[Step]) {
        for step in steps {
            self.run(step);
            self.pair.client.wake();
            self.pair.server.wake();
        }
    }

    /// True for each side, the client and the server, that has leased a frame.
    pub(super) fn leases(&self) -> [bool; 2] {
        [&self.pair.client, &self.pair.server].map(|node| node.conn.outbox.is_leased())
    }

    pub(super) fn run(&mut self, step: &Step) {
        let now = self.pair.now;
        match *step {
            Step::Start(ref start) => self.start(start),
            Step::Burst { client, ref lens } => self.burst(client, lens),
            Step::Stream { client, index } => self.stream(client, index),
            Step::Drop(index) => {
                if let Some(index) = choose(index, self.callers.len()) {
                    let caller = &mut self.callers[index];
                    let conn = conn(&mut self.pair, caller.client);
                    caller.drop_all(conn, now);
                }
            }
            Step::Run(index) => {
                let ready = self.ready();
                if let Some(index) = choose(index, ready.len()) {
                    self.poll(ready[index]);
                }
            }
            Step::RunAll => {
                self.run_ready();
            }
            Step::Transmit { client, window } => {
                let node = node(&mut self.pair, client);
                node.open_window = window;
                node.transmit(now);
            }
            Step::Deliver { client, len } => self.deliver(client, len),
            Step::Accept {
                client,
                start,
                ref plan,
            } => {
                self.accept(client, start, plan);
            }
            Step::Take { client, most } => {
                self.take(client, most);
            }
            Step::TakeRow {
                client,
                ended,
                ref pending,
            } => self.take_row(client, ended, pending.as_ref()),
            Step::StartTaken {
                client,
                start,
                ref plan,
            } => {
                self.start_taken(client, start, plan);
            }
            Step::GiveBack { client } => {
                let taken = &mut self.taken[usize::from(client)];
                taken.give_back(conn(&mut self.pair, client), now);
            }
            Step::Barrier { client } => self.start_barrier(client),
            Step::Flush { client } => {
                let before = self.accepted(client);
                let flush = Waiter::flush(client, conn(&mut self.pair, client), before);
                self.waiters.push(flush);
            }
            Step::DropWaiter(index) => {
                if let Some(index) = choose(index, self.waiters.len()) {
                    let waiter = &mut self.waiters[index];
                    waiter.abandon(conn(&mut self.pair, waiter.client));
                }
            }
            Step::Kill(index) => {
                let running: Vec<usize> = (0..self.handlers.len())
                    .filter(|&index| !self.handlers[index].main.is_done())
                    .collect();
                if let Some(index) = choose(index, running.len()) {
                    let handler = &mut self.handlers[running[index]];
                    handler.kill(conn(&mut self.pair, handler.client), now);
                }
            }
            Step::Advance(millis) => self.advance(millis),
            Step::Disturb { client, how } => {
                let conn = conn(&mut self.pair, client);
                match how {
                    Disturbance::Close => conn.close(now),
                    Disturbance::Drain(millis) => conn.begin_drain(Reason::Drain, "bye", ms(millis), now),
                    Disturbance::Abort => conn.abort_calls(now),
                    Disturbance::Lose => conn.handle_lost("cut", None, now),
                }
            }
        }
    }

    /// Adds a request. A side makes at most four control calls, because its peer takes no more at once.
    fn start(&mut self, start: &Start) {
        let mut caller = Caller::new(self.callers.len(), start, self.pair.now);
        let earlier = |earlier: &&Caller| earlier.client == start.client && earlier.way == Way::Control;
        if caller.way == Way::Control && self.callers.iter().filter(earlier).count() >= 4 {
            caller.way = Way::Call(Shape::Unary);
        }
        self.callers.push(caller);
    }

    /// Starts one-way requests with messages of these lengths, one right behind the other: they share frames.
    fn burst(&mut self, client: bool, lens: &[usize]) {
        for &len in lens {
            self.start(&Start {
                client,
                way: Way::Send,
                lens: vec![len],
                ending: Ending::Finish,
                timeout_ms: None,
                idle_ms: None,
            });
            self.poll(Who::Open(self.callers.len() - 1));
        }
    }

    /// Lets one stream of a side send its messages, one right behind the other.
    fn stream(&mut self, client: bool, index: u16) {
        let mut senders = self.ready();
        senders.retain(|&who| match who {
            Who::Send(index) => self.callers[index].client == client,
            Who::Write(index) => self.handlers[index].client == client,
            _ => false,
        });
        let Some(index) = choose(index, senders.len()) else {
            return;
        };
        while self.ready().contains(&senders[index]) {
            self.poll(senders[index]);
        }
    }

    fn start_barrier(&mut self, client: bool) {
        let before = self.accepted(client);
        let now = self.pair.now;
        let barrier = Waiter::barrier(client, conn(&mut self.pair, client), before, now);
        self.waiters.push(barrier);
    }

    /// Returns the number of one-way requests that the connection of a side has taken.
    fn accepted(&self, client: bool) -> u64 {
        let accepted = |caller: &&Caller| caller.client == client && caller.sent.is_some();
        self.callers.iter().filter(accepted).count() as u64
    }

    /// Returns the numbers of one-way requests of a side whose handlers started, and of those whose handlers succeeded.
    fn ran(&self, client: bool) -> (u64, u64) {
        let logs = self
            .logs
            .iter()
            .filter(|((side, _), log)| *side == client && log.one_way);
        logs.fold((0, 0), |(started, succeeded), (_, log)| {
            (
                started + u64::from(log.started > 0),
                succeeded + u64::from(log.replied.is_some()),
            )
        })
    }

    /// Returns all parts that were woken or have more to do.
    fn ready(&mut self) -> Vec<Who> {
        let mut ready = Vec::new();
        for (index, caller) in self.callers.iter_mut().enumerate() {
            ready.extend(caller.open.wants().then_some(Who::Open(index)));
            ready.extend(caller.send.wants().then_some(Who::Send(index)));
            ready.extend(caller.receive.wants().then_some(Who::Receive(index)));
        }
        for (index, handler) in self.handlers.iter_mut().enumerate() {
            ready.extend(handler.main.wants().then_some(Who::Main(index)));
            ready.extend(handler.read.wants().then_some(Who::Read(index)));
            ready.extend(handler.write.wants().then_some(Who::Write(index)));
        }
        for (index, waiter) in self.waiters.iter_mut().enumerate() {
            ready.extend(waiter.part.wants().then_some(Who::Waiter(index)));
        }
        ready
    }

    /// Polls each part that can go on; true if there is one.
    fn run_ready(&mut self) -> bool {
        let ready = self.ready();
        for &who in &ready {
            self.poll(who);
        }
        !ready.is_empty()
    }

    fn poll(&mut self, who: Who) {
        let now = self.pair.now;
        match who {
            Who::Open(index) | Who::Send(index) | Who::Receive(index) => {
                let caller = &mut self.callers[index];
                let client = caller.client;
                let node = node(&mut self.pair, client);
                let conn = match who {
                    Who::Send(_) => &mut node.conn,
                    _ => node.lock(),
                };
                let mut unknown = Log::default();
                let log = match caller.id {
                    Some(id) => self.logs.entry((client, id.0)).or_default(),
                    None => &mut unknown,
                };
                let (polled, part) = match who {
                    Who::Open(_) => (caller.poll_open(conn, now), &mut caller.open),
                    Who::Send(_) => (caller.poll_send(conn, log, self.late, now), &mut caller.send),
                    _ => (caller.poll_receive(conn, log, now), &mut caller.receive),
                };
                part.note(&polled);
            }
            Who::Waiter(index) => self.poll_waiter(index),
            Who::Main(index) | Who::Read(index) | Who::Write(index) => {
                let handler = &mut self.handlers[index];
                if handler.main.is_done() {
                    return;
                }
                let node = node(&mut self.pair, handler.client);
                let conn = match who {
                    Who::Write(_) => &mut node.conn,
                    _ => node.lock(),
                };
                let log = self.logs.entry((!handler.client, handler.id.0)).or_default();
                let (polled, part) = match who {
                    Who::Main(_) => (handler.poll_main(conn, log, now), &mut handler.main),
                    Who::Read(_) => (handler.poll_read(conn, log, now), &mut handler.read),
                    _ => (handler.poll_write(conn, log, now), &mut handler.write),
                };
                part.note(&polled);
                // The parts of a handler are one task, so they go on together.
                match (who, polled) {
                    (Who::Main(_), _) | (_, Polled::Waits) => {}
                    (_, Polled::Moved) => handler.write.nudge(),
                    (_, Polled::Done) => {
                        handler.main.nudge();
                        handler.write.nudge();
                    }
                }
            }
        }
        self.pair.client.wake();
        self.pair.server.wake();
    }

    /// Polls a barrier or a flush. The account of a barrier counts each one-way request once.
    fn poll_waiter(&mut self, index: usize) {
        let waiter = &mut self.waiters[index];
        let (client, before) = (waiter.client, waiter.sends_before);
        let Some(account) = waiter.poll(conn(&mut self.pair, client)) else {
            return;
        };
        let accepted = self.accepted(client);
        assert!(
            (before..=accepted).contains(&account.received),
            "{account:?} after {before} of {accepted} sends"
        );
        let (started, succeeded) = self.ran(client);
        assert!(
            account.handled <= succeeded,
            "{account:?}, but {succeeded} handlers succeeded"
        );
        assert!(
            account.handled + account.failed <= started,
            "{account:?}, but {started} handlers started"
        );
        let dropped: u64 = account.dropped.iter().map(|dropped| dropped.count).sum();
        let ended = account.handled + account.failed + account.expired + dropped;
        assert!(ended <= account.received, "{account:?}");
        self.accounts[usize::from(client)] = Some(account);
    }

    fn deliver(&mut self, from_client: bool, len: usize) {
        let now = self.pair.now;
        let (from, to) = if from_client {
            (&mut self.pair.client, &mut self.pair.server)
        } else {
            (&mut self.pair.server, &mut self.pair.client)
        };
        if len >= from.wire.len() {
            return deliver(from, to, now);
        }
        let bytes = from.wire.split_to(len);
        if !to.conn.is_closed() {
            to.read(&bytes, now);
        }
    }

    fn accept(&mut self, client: bool, start: bool, plan: &Plan) -> bool {
        let now = self.pair.now;
        let conn = conn(&mut self.pair, client);
        let Poll::Ready(Some(arrived)) = poll(|cx| conn.poll_request(cx)) else {
            return false;
        };
        self.taken[usize::from(client)].check_order(&arrived);
        self.check_one_way(client, &arrived);
        let conn = node(&mut self.pair, client).lock();
        if start && conn.started(arrived.id, now).is_err() {
            conn.end(arrived.id, End::Dropped, now);
            return true;
        }
        self.handle(client, &arrived, start, plan);
        true
    }

    /// Takes up to `most` requests that start without asking.
    fn take(&mut self, client: bool, most: usize) -> bool {
        let now = self.pair.now;
        let conn = conn(&mut self.pair, client);
        let taken = &mut self.taken[usize::from(client)];
        taken.give_back(conn, now);
        let mut batch = VecDeque::new();
        let Poll::Ready(Some(requests)) = poll(|cx| conn.take_requests(&mut batch, most, now, cx)) else {
            return false;
        };
        assert!(!requests.asks, "memory is not short");
        batch.push_front(requests.first);
        assert!(batch.len() <= most);
        for arrived in &batch {
            taken.check_order(arrived);
        }
        taken.batch = batch;
        for arrived in &self.taken[usize::from(client)].batch {
            self.check_one_way(client, arrived);
        }
        true
    }

    /// Takes the row that is next, and handles some of its requests.
    fn take_row(&mut self, client: bool, ended: u16, pending: Option<&Plan>) {
        let now = self.pair.now;
        let conn = conn(&mut self.pair, client);
        let taken = &mut self.taken[usize::from(client)];
        taken.give_back(conn, now);
        let Some((procedure, _)) = conn.next_row() else {
            return;
        };
        let mut row = conn.take_row(now).expect("a row");
        let first = row.first.0;
        let count = row.row.count().expect("messages");
        let ended = usize::from(ended) % (count + 1);
        let pending = pending.filter(|_| ended < count);
        let started = ended + usize::from(pending.is_some());
        let ids: Vec<_> = (0..started).map(|n| CallId(first + 2 * n as u64)).collect();
        ids.iter().for_each(|&id| taken.check_id(id, true));
        if pending.is_some() {
            conn.part_from_row(ids[ended]);
        }
        conn.put_row_back(CallId(first + 2 * started as u64), now);
        for &id in &ids {
            let message = row.row.take().expect("whole").expect("counted");
            assert!(
                self.check_sent(client, id, message),
                "a one-way request that nobody sent"
            );
        }
        for id in &ids[..ended] {
            let log = self.logs.entry((!client, id.0)).or_default();
            log.started += 1;
            log.one_way = true;
            log.replied = Some(0);
        }
        if let Some(plan) = pending {
            let arrived = Arrived {
                id: ids[ended],
                one_way: true,
                procedure,
                deadline: row.deadline,
                metadata: Metadata::new(),
                trace: None,
                payload: Encoded::default(),
                streams: false,
                depth: row.depth,
            };
            self.handle(client, &arrived, true, plan);
        }
    }

    /// Checks that a one-way request has the message that the other side sent with its id.
    fn check_one_way(&self, client: bool, arrived: &Arrived) {
        let is_known = self.check_sent(client, arrived.id, arrived.payload.bytes().clone());
        assert!(is_known || !arrived.one_way, "a one-way request that nobody sent");
    }

    /// Checks that `payload` is what the other side sent as a one-way request with this id. False if it sent none.
    fn check_sent(&self, client: bool, id: CallId, payload: Bytes) -> bool {
        let is_sender = |caller: &&Caller| caller.client != client && caller.sent == Some(id);
        let sender = self.callers.iter().find(is_sender);
        sender.map(|sender| sender.check_sent(payload)).is_some()
    }

    /// Starts the handler of the next request that was taken, or notes that it does not start.
    fn start_taken(&mut self, client: bool, start: bool, plan: &Plan) -> bool {
        let now = self.pair.now;
        let Some(arrived) = self.taken[usize::from(client)].batch.pop_front() else {
            return false;
        };
        let conn = conn(&mut self.pair, client);
        if start {
            conn.began(arrived.id, now);
        } else {
            conn.not_started(arrived.id);
        }
        self.handle(client, &arrived, start, plan);
        true
    }

    /// Adds the handler of a request.
    fn handle(&mut self, client: bool, arrived: &Arrived, start: bool, plan: &Plan) {
        if start {
            let log = self.logs.entry((!client, arrived.id.0)).or_default();
            log.started += 1;
            log.one_way = arrived.one_way;
        }
        let caller = self
            .callers
            .iter()
            .find(|caller| caller.client != client && caller.id == Some(arrived.id));
        // Of a one-way request there is no call.
        let shape = caller.map_or(Shape::Unary, Caller::shape);
        self.handlers
            .push(Handler::new(client, arrived, shape, start, plan.clone()));
    }

    fn advance(&mut self, millis: u64) {
        let end = self.pair.now + ms(millis);
        loop {
            let pair = &self.pair;
            let timers = [pair.client.conn.poll_timeout(), pair.server.conn.poll_timeout()];
            let Some(next) = timers.into_iter().flatten().min().filter(|next| *next <= end) else {
                break;
            };
            self.pair.now = self.pair.now.max(next);
            self.pair.fire();
            if self.pair.client.conn.is_closed() || self.pair.server.conn.is_closed() {
                // A closed connection has no driver that would fire its timers.
                break;
            }
        }
        self.pair.now = end;
        self.pair.fire();
    }

    /// Moves all bytes and polls all parts once; false if nothing moved.
    fn round(&mut self) -> bool {
        let plan = Plan {
            reads: usize::MAX,
            lens: vec![100, 3000, 100_000, 1],
            echo: true,
            end: Finish::Reply(5),
        };
        let mut moved = false;
        for client in [true, false] {
            let now = self.pair.now;
            let node = node(&mut self.pair, client);
            node.open_window = usize::MAX;
            moved |= node.transmit(now);
            moved |= !node.wire.is_empty();
            self.deliver(client, usize::MAX);
            while self.take(client, 3) {
                // One is started, and the rest goes back.
                moved |= self.start_taken(client, true, &plan);
            }
        }
        self.pair.client.wake();
        self.pair.server.wake();
        moved | self.run_ready()
    }

    fn finish_streams(&mut self) {
        self.late = true;
        for caller in &mut self.callers {
            caller.send.nudge();
        }
    }

    /// Lets all calls end, while no time passes.
    pub(super) fn settle(&mut self) {
        self.finish_streams();
        for _ in 0..100_000 {
            if !self.round() {
                return;
            }
        }
        panic!("the calls do not end");
    }

    /// Lets all calls and both connections end, while time passes.
    pub(super) fn settle_with_time(&mut self) {
        self.finish_streams();
        for _ in 0..400 {
            while self.round() {}
            self.advance(200);
        }
    }
}

/// Chooses an index below `len`; `None` if `len` is 0.
fn choose(index: u16, len: usize) -> Option<usize> {
    usize::from(index).checked_rem(len)
}

fn node(pair: &mut Pair, client: bool) -> &mut Node {
    if client {
        &mut pair.client
    } else {
        &mut pair.server
    }
}

fn conn(pair: &mut Pair, client: bool) -> &mut Connection {
    node(pair, client).lock()
}
