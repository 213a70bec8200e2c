//! Random schedules: whatever happens in whatever order, every call completes exactly once, what is said about its
//! execution is true, nobody is forgotten, and nothing is left.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::conn::{Barrier, Flush, TakenRequests, Uncovered};
use crate::wire::frame::control::Reason;

/// One step of a schedule; `bool` chooses the side, a `u16` one of those that there are.
#[derive(Clone, Debug)]
enum Step {
    Start {
        client: bool,
        way: Way,
        len: usize,
        timeout_ms: Option<u64>,
    },
    Abandon(u16),
    PollWoken,
    Transmit {
        client: bool,
        window: usize,
    },
    Deliver {
        client: bool,
        len: usize,
    },
    Accept {
        client: bool,
        start: bool,
    },
    Finish {
        handler: u16,
        end: Finish,
    },
    Barrier {
        client: bool,
    },
    Flush {
        client: bool,
    },
    Advance(u64),
    Close {
        client: bool,
    },
    Drain {
        client: bool,
        millis: u64,
    },
    Abort {
        client: bool,
    },
    Lose {
        client: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Call,
    Send,
    Control,
}

#[derive(Clone, Copy, Debug)]
enum Finish {
    Reply(usize),
    Fail,
    Refuse,
    Drop,
}

struct Handler {
    client: bool,
    arrived: Arrived,
    started: bool,
}

/// A future of the test: polled only when it was woken.
enum Task {
    Call(Box<Call>),
    Barrier(Barrier),
    Flush(Flush),
}

struct Running {
    client: bool,
    task: Task,
    flag: Arc<Flag>,
    done: bool,
    abandoned: bool,
}

struct World {
    pair: Pair,
    tasks: Vec<Running>,
    handlers: Vec<Handler>,
    /// How often the handler of a call was polled first, and whether it ended with a reply; by caller and id.
    started: BTreeMap<(bool, u64), (usize, Option<usize>)>,
    /// How many one-way requests of the server and of the client were started.
    ran_sends: [u64; 2],
    disturbed: bool,
}

impl World {
    /// A world whose connections are old after `age`, which disturbs.
    fn new(age: [Option<u64>; 2]) -> Self {
        let small = Settings {
            max_frame: 64 << 10,
            max_message: 400 << 10,
            max_calls: 16,
            call_bytes: 64 << 10,
            send_bytes: 64 << 10,
            inbox_bytes: 600 << 10,
            high_water: 32 << 10,
            max_waiting: 6,
            keep_alive: Some(secs(30)),
            ..settings()
        };
        let old = |age: Option<u64>| Settings {
            max_age: age.map(ms),
            max_age_grace: secs(2),
            ..small.clone()
        };
        Self {
            pair: Pair::fresh(old(age[0]), old(age[1])),
            tasks: Vec::new(),
            handlers: Vec::new(),
            started: BTreeMap::new(),
            ran_sends: [0; 2],
            disturbed: age != [None, None],
        }
    }

    fn node(&mut self, client: bool) -> &mut Node {
        if client {
            &mut self.pair.client
        } else {
            &mut self.pair.server
        }
    }

    fn run(&mut self, step: &Step) {
        let now = self.pair.now;
        match *step {
            Step::Start {
                client,
                way,
                len,
                timeout_ms,
            } => {
                let mut call = match way {
                    Way::Call => Call::new(vec![1; len]),
                    Way::Send => Call::send(vec![2; len]),
                    Way::Control => Call::control(vec![3; len % 5000]),
                };
                call.deadline = timeout_ms.map(|timeout| now + ms(timeout));
                let flag = Arc::clone(&call.flag);
                self.spawn(client, Task::Call(Box::new(call)), flag);
            }
            Step::Barrier { client } => {
                let barrier = self.node(client).conn.start_barrier(now);
                self.spawn(client, Task::Barrier(barrier), Arc::default());
            }
            Step::Flush { client } => {
                let flush = self.node(client).conn.start_flush();
                self.spawn(client, Task::Flush(flush), Arc::default());
            }
            Step::Abandon(index) => self.abandon(index),
            Step::PollWoken => {
                self.poll_woken();
            }
            Step::Transmit { client, window } => {
                let node = self.node(client);
                node.open_window = window;
                node.transmit(now);
            }
            Step::Deliver { client, len } => self.deliver(client, len),
            Step::Accept { client, start } => {
                self.accept(client, start);
            }
            Step::Finish { handler, end } => {
                if !self.handlers.is_empty() {
                    let index = usize::from(handler) % self.handlers.len();
                    self.finish(index, end);
                }
            }
            Step::Advance(millis) => {
                let end = now + ms(millis);
                loop {
                    let pair = &self.pair;
                    let timers = [pair.client.conn.poll_timeout(), pair.server.conn.poll_timeout()];
                    let Some(next) = timers.into_iter().flatten().min().filter(|next| *next <= end) else {
                        break;
                    };
                    self.pair.now = self.pair.now.max(next);
                    // Those of a connection that is closed are nobody's.
                    self.pair.fire();
                    if self.pair.client.conn.is_closed() || self.pair.server.conn.is_closed() {
                        break;
                    }
                }
                self.pair.now = end;
                self.pair.fire();
            }
            Step::Close { client } => {
                self.disturbed = true;
                self.node(client).conn.close(now);
            }
            Step::Drain { client, millis } => {
                self.disturbed = true;
                self.node(client)
                    .conn
                    .begin_drain(Reason::Drain, "bye", ms(millis), now);
            }
            Step::Abort { client } => {
                self.disturbed = true;
                self.node(client).conn.abort_calls(now);
            }
            Step::Lose { client } => {
                self.disturbed = true;
                self.node(client).conn.handle_lost("cut", None, now);
            }
        }
        self.pair.client.wake();
        self.pair.server.wake();
    }

    fn spawn(&mut self, client: bool, task: Task, flag: Arc<Flag>) {
        let mut running = Running {
            client,
            task,
            flag,
            done: false,
            abandoned: false,
        };
        let now = self.pair.now;
        poll_task(&mut running, self.node(client), now);
        self.tasks.push(running);
    }

    fn abandon(&mut self, index: u16) {
        let now = self.pair.now;
        let open: Vec<usize> = (0..self.tasks.len())
            .filter(|&index| !self.tasks[index].done)
            .collect();
        let Some(&index) = open.get(usize::from(index) % open.len().max(1)) else {
            return;
        };
        let client = self.tasks[index].client;
        let running = &mut self.tasks[index];
        running.done = true;
        running.abandoned = true;
        let task = std::mem::replace(&mut running.task, Task::Call(Box::new(Call::new(b""))));
        let conn = &mut self.node(client).conn;
        match task {
            Task::Call(call) => call.abandon(conn, now),
            Task::Barrier(barrier) => conn.drop_barrier(&barrier),
            Task::Flush(_) => {}
        }
    }

    /// Polls all that were woken; true if any was.
    fn poll_woken(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.tasks.len() {
            let client = self.tasks[index].client;
            if self.tasks[index].done || !self.tasks[index].flag.take() {
                continue;
            }
            any = true;
            let now = self.pair.now;
            let node = if client {
                &mut self.pair.client
            } else {
                &mut self.pair.server
            };
            poll_task(&mut self.tasks[index], node, now);
        }
        any
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

    fn accept(&mut self, client: bool, start: bool) -> bool {
        if start {
            return self.accept_batch(client);
        }
        let node = self.node(client);
        let Poll::Ready(Some(arrived)) = poll(|cx| node.conn.poll_request(cx)) else {
            return false;
        };
        self.handlers.push(Handler {
            client,
            arrived,
            started: false,
        });
        true
    }

    /// Takes some requests. The handler of the first one starts, that of the second one says that it does not, and asks; the
    /// others go back.
    fn accept_batch(&mut self, client: bool) -> bool {
        let now = self.pair.now;
        let conn = &mut self.node(client).conn;
        let mut rest = VecDeque::new();
        let taken = poll(|cx| conn.take_requests(&mut rest, 4, now, cx));
        let Poll::Ready(Some(TakenRequests { first, asks, .. })) = taken else {
            return false;
        };
        let second = rest.pop_front();
        if let Some(arrived) = &second {
            conn.not_started(arrived.id);
        }
        conn.take_back(&mut rest, now);
        self.start(client, first, asks);
        if let Some(arrived) = second {
            self.start(client, arrived, true);
        }
        true
    }

    fn start(&mut self, client: bool, arrived: Arrived, asks: bool) {
        let now = self.pair.now;
        let conn = &mut self.node(client).conn;
        if asks && conn.started(arrived.id, now).is_err() {
            return conn.end(arrived.id, End::Dropped, now);
        }
        self.started.entry((!client, arrived.id.0)).or_default().0 += 1;
        self.ran_sends[usize::from(!client)] += u64::from(arrived.one_way);
        self.handlers.push(Handler {
            client,
            arrived,
            started: true,
        });
    }

    fn finish(&mut self, index: usize, end: Finish) {
        let now = self.pair.now;
        let Handler {
            client,
            arrived,
            started,
        } = self.handlers.remove(index);
        let status = status(Code::NotFound, "no");
        let conn = &mut self.node(client).conn;
        if !started {
            let end = if matches!(end, Finish::Refuse) {
                refused(&status)
            } else {
                End::Dropped
            };
            return conn.end(arrived.id, end, now);
        }
        match end {
            Finish::Reply(len) => {
                conn.reply(arrived.id, &vec![4; len], now);
                self.started.entry((!client, arrived.id.0)).or_default().1 = Some(len);
            }
            Finish::Fail | Finish::Refuse => conn.end(arrived.id, End::Failed(&status), now),
            Finish::Drop => conn.end(arrived.id, End::Dropped, now),
        }
    }

    /// Lets everything come to its end, as a world does in which nobody disturbs.
    fn settle(&mut self) {
        for _ in 0..400 {
            for client in [true, false] {
                let now = self.pair.now;
                self.node(client).open_window = usize::MAX;
                self.node(client).transmit(now);
                self.deliver(client, usize::MAX);
                while self.accept(client, true) {}
            }
            while !self.handlers.is_empty() {
                self.finish(0, Finish::Reply(5));
            }
            self.pair.client.wake();
            self.pair.server.wake();
            self.poll_woken();
            self.run(&Step::Advance(200));
        }
    }

    fn check(&self) {
        for running in &self.tasks {
            let Task::Call(call) = &running.task else {
                assert!(running.done, "a barrier or flush was forgotten");
                continue;
            };
            assert!(running.done, "call {:?} was forgotten", call.id);
            if running.abandoned {
                continue;
            }
            assert_eq!(call.completions, 1);
            let ran = call.id.and_then(|id| self.started.get(&(running.client, id.0)));
            match call.outcome.as_ref().unwrap() {
                Ok(reply) if !call.one_way => {
                    let Some(&(1, Some(len))) = ran else {
                        panic!("reply without a run: {ran:?}")
                    };
                    assert_eq!(reply.len(), len);
                }
                Ok(_) => {}
                Err(failure) if failure.executed == Executed::No => {
                    assert!(ran.is_none(), "{failure:?}, but {:?} ran", call.id);
                }
                Err(failure) if failure.executed == Executed::Yes => {
                    assert!(ran.is_some(), "{failure:?}, but {:?} did not run", call.id);
                }
                Err(_) => {}
            }
        }
        assert!(
            self.started.values().all(|(starts, _)| *starts == 1),
            "a handler started twice"
        );
        let closed = [
            self.pair.client.conn.is_closed(),
            self.pair.server.conn.is_closed(),
        ];
        if self.disturbed {
            assert_eq!(closed[0], closed[1]);
            for node in [&self.pair.client, &self.pair.server] {
                assert!(
                    !closed[0] || node.conn.leftovers().is_empty(),
                    "{:?}",
                    node.conn.leftovers()
                );
            }
        } else {
            assert_eq!(closed, [false, false]);
            self.pair.assert_quiescent();
        }
        for client in [true, false] {
            self.check_sends(client);
        }
        for conn in [&self.pair.client.conn, &self.pair.server.conn] {
            assert_eq!(conn.open_requests(), 0);
            assert_eq!(conn.ours.calls().held(), (0, 0));
        }
    }
}

impl World {
    /// No one-way request ran that is said to have never run.
    fn check_sends(&self, client: bool) {
        let node = if client {
            &self.pair.client
        } else {
            &self.pair.server
        };
        let sent = self.tasks.iter().filter(|running| running.client == client);
        let accepted = sent.filter(|running| match &running.task {
            Task::Call(call) => call.one_way && matches!(call.outcome, Some(Ok(_))),
            _ => false,
        });
        let accepted = accepted.count() as u64;
        let ran = self.ran_sends[usize::from(client)];
        let Uncovered { no, maybe } = node.conn.uncovered();
        assert!(
            ran + no <= accepted,
            "{ran} of {accepted} sends ran, and {no} never did"
        );
        assert!(no + maybe <= accepted);
    }
}

fn poll_task(running: &mut Running, node: &mut Node, now: Time) {
    let waker = Waker::from(Arc::clone(&running.flag));
    let cx = &mut Context::from_waker(&waker);
    running.done = match &mut running.task {
        Task::Call(call) => call.poll(&mut node.conn, now),
        Task::Barrier(barrier) => node.conn.poll_barrier(barrier, cx).is_ready(),
        Task::Flush(flush) => node.conn.poll_flush(flush, cx).is_ready(),
    };
    node.wake();
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![5 => 0..200usize, 3 => 1000..40_000usize, 1 => 60_000..350_000usize, 1 => 400_000..420_000usize]
}

fn step() -> impl Strategy<Value = Step> {
    let way = prop_oneof![6 => Just(Way::Call), 4 => Just(Way::Send), 1 => Just(Way::Control)];
    let timeout = prop_oneof![2 => Just(None), 1 => (1..3000u64).prop_map(Some), 1 => Just(Some(0))];
    let end = prop_oneof![
        6 => len().prop_map(Finish::Reply),
        1 => Just(Finish::Fail),
        1 => Just(Finish::Refuse),
        1 => Just(Finish::Drop),
    ];
    let window = prop_oneof![3 => Just(usize::MAX), 1 => 0..5000usize, 1 => 0..200_000usize];
    let side = any::<bool>;
    prop_oneof![
        30 => (side(), way, len(), timeout)
            .prop_map(|(client, way, len, timeout_ms)| Step::Start { client, way, len, timeout_ms }),
        6 => any::<u16>().prop_map(Step::Abandon),
        15 => Just(Step::PollWoken),
        25 => (side(), window.clone()).prop_map(|(client, window)| Step::Transmit { client, window }),
        25 => (side(), window).prop_map(|(client, len)| Step::Deliver { client, len }),
        20 => (side(), prop::bool::weighted(0.9)).prop_map(|(client, start)| Step::Accept { client, start }),
        20 => (any::<u16>(), end).prop_map(|(handler, end)| Step::Finish { handler, end }),
        3 => side().prop_map(|client| Step::Barrier { client }),
        3 => side().prop_map(|client| Step::Flush { client }),
        6 => (1..1500u64).prop_map(Step::Advance),
    ]
}

fn disturbance() -> impl Strategy<Value = Step> {
    let side = any::<bool>;
    prop_oneof![
        2 => side().prop_map(|client| Step::Close { client }),
        3 => (side(), 0..3000u64).prop_map(|(client, millis)| Step::Drain { client, millis }),
        1 => side().prop_map(|client| Step::Abort { client }),
        2 => side().prop_map(|client| Step::Lose { client }),
    ]
}

fn play(steps: &[Step], age: [Option<u64>; 2]) {
    let mut world = World::new(age);
    for step in steps {
        world.run(step);
    }
    world.settle();
    world.check();
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: std::env::var("CHAOS_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(cases),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn undisturbed_pair_completes_everything_and_keeps_nothing(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        play(&steps, [None, None]);
    }

    #[test]
    fn disturbed_pair_completes_everything_and_lies_about_nothing(
        before in prop::collection::vec(step(), 1..80),
        disturbances in prop::collection::vec(disturbance(), 1..4),
        after in prop::collection::vec(step(), 1..60),
        ages in prop::array::uniform2(prop::option::weighted(0.2, 1..20_000u64)),
    ) {
        let mut steps = before;
        steps.extend(disturbances);
        steps.extend(after);
        play(&steps, ages);
    }
}
