//! World: two connections, and all who use them.

use std::collections::BTreeMap;

use super::{
    actors::{Caller, Handler, Log, Polled},
    *,
};

/// Whom to poll.
#[derive(Clone, Copy, Debug)]
enum Who {
    Open(usize),
    Send(usize),
    Receive(usize),
    Main(usize),
    Read(usize),
    Write(usize),
}

/// Two connections, and all who use them.
pub(super) struct World {
    pair: Pair,
    callers: Vec<Caller>,
    handlers: Vec<Handler>,
    /// What went over each call, by its caller's side and its id.
    logs: BTreeMap<(bool, u64), Log>,
    /// Whether everybody is to come to an end.
    late: bool,
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            pair: Pair::fresh(settings.clone(), settings),
            callers: Vec::new(),
            handlers: Vec::new(),
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

    fn run(&mut self, step: &Step) {
        let now = self.pair.now;
        match *step {
            Step::Start(ref start) => self.callers.push(Caller::new(start, now)),
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
            Step::Accept { client, ref plan } => {
                self.accept(client, plan);
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

    /// All who were woken or have more to do.
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
        ready
    }

    /// Lets all do one thing who can; true if there were any.
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
                let conn = conn(&mut self.pair, client);
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
            Who::Main(index) | Who::Read(index) | Who::Write(index) => {
                let handler = &mut self.handlers[index];
                if handler.main.is_done() {
                    return;
                }
                let conn = conn(&mut self.pair, handler.client);
                let log = self.logs.entry((!handler.client, handler.id.0)).or_default();
                let (polled, part) = match who {
                    Who::Main(_) => (handler.poll_main(conn, log, now), &mut handler.main),
                    Who::Read(_) => (handler.poll_read(conn, log, now), &mut handler.read),
                    _ => (handler.poll_write(conn, log, now), &mut handler.write),
                };
                part.note(&polled);
                // Its parts learn of each other as those of one task.
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

    fn accept(&mut self, client: bool, plan: &Plan) -> bool {
        let now = self.pair.now;
        let conn = conn(&mut self.pair, client);
        let Poll::Ready(Some(arrived)) = poll(|cx| conn.poll_request(cx)) else {
            return false;
        };
        if conn.started(arrived.id, now).is_err() {
            conn.end(arrived.id, End::Dropped, now);
            return true;
        }
        self.logs.entry((!client, arrived.id.0)).or_default().started += 1;
        let caller = self
            .callers
            .iter()
            .find(|caller| caller.client != client && caller.id == Some(arrived.id));
        // A one-way has no id here.
        let shape = caller.map_or(Shape::Unary, |caller| match caller.way {
            Way::Call(shape) => shape,
            Way::Send => Shape::Unary,
        });
        self.handlers
            .push(Handler::new(client, &arrived, shape, plan.clone()));
        true
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
                // Its timers are nobody's.
                break;
            }
        }
        self.pair.now = end;
        self.pair.fire();
    }

    /// One round in which everybody does what they can; false if there was nothing to do.
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
            while self.accept(client, &plan) {
                moved = true;
            }
        }
        self.pair.client.wake();
        self.pair.server.wake();
        moved | self.run_ready()
    }

    fn be_late(&mut self) {
        self.late = true;
        for caller in &mut self.callers {
            caller.send.nudge();
        }
    }

    /// Lets everybody come to an end, in no time.
    pub(super) fn settle(&mut self) {
        self.be_late();
        for _ in 0..100_000 {
            if !self.round() {
                return;
            }
        }
        panic!("it goes on for ever");
    }

    /// Lets everybody come to an end, with as much time as a connection needs for its own.
    pub(super) fn settle_with_time(&mut self) {
        self.be_late();
        for _ in 0..400 {
            while self.round() {}
            self.advance(200);
        }
    }

    /// Nobody waits for anything, and each call ended as it should.
    pub(super) fn check_all_ended(&self) {
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
                None => assert!(caller.dropped || caller.way == Way::Send, "{id:?} has no outcome"),
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
            assert_eq!(
                node.conn.peer.faults.left(),
                abuse_budget(),
                "an honest peer was blamed"
            );
        }
    }

    /// The connections live on, with nothing open.
    pub(super) fn check_quiet(&self) {
        for node in [&self.pair.client, &self.pair.server] {
            assert!(matches!(node.conn.state(), State::Open));
            assert!(!node.conn.streams.is_owing());
            assert!(!node.conn.wants_write());
        }
        self.pair.assert_quiescent();
    }

    /// If they are gone, nothing is left.
    pub(super) fn check_gone(&self) {
        let [client, server] = [&self.pair.client.conn, &self.pair.server.conn];
        assert_eq!(client.is_closed(), server.is_closed());
        for conn in [client, server].into_iter().filter(|conn| conn.is_closed()) {
            assert!(conn.leftovers().is_empty(), "{:?}", conn.leftovers());
        }
    }
}

/// One of `len`, if there are any.
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
    &mut node(pair, client).conn
}

/// How many faults a connection begins with.
fn abuse_budget() -> u32 {
    Connection::new(Side::Connector, settings()).peer.faults.left()
}
