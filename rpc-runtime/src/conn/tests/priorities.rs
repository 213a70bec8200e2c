//! What goes first, how little of others stands before it, and that others go on.

use super::*;
use crate::{api::priority::Priorities, conn::tuning::FRAGMENT};

/// A procedure whose server says that it must not wait, and one that says that it can.
const BEAT: u64 = 8;
const LOAD: u64 = 9;

const CONTROL_LAST: [Priority; 3] = [Priority::Bulk, Priority::Normal, Priority::Control];

/// The most that may stand before a control frame: a fragment, a piece, and the length before each frame.
const BEFORE: u64 = (FRAGMENT + FRAGMENT / 8 + 64) as u64;

fn serving() -> Settings {
    Settings {
        priorities: Priorities::new([(BEAT, Priority::Control), (LOAD, Priority::Bulk)]),
        ..settings()
    }
}

fn of(priority: Priority, len: usize) -> Call {
    Call::new(vec![7; len]).priority(priority)
}

impl Pair {
    /// Polls those that were woken, until nothing moves any more.
    fn run(&mut self, calls: &mut [Call]) {
        loop {
            self.settle();
            let woken = calls.iter_mut().filter(|call| call.flag.take());
            let mut any = false;
            for call in woken {
                any = true;
                call.poll(&mut self.client.conn, self.now);
                self.client.wake();
            }
            if !any {
                return;
            }
        }
    }

    /// The ids of all calls that the server has read, in their order.
    fn read_ids(&self) -> Vec<u64> {
        let calls = self.server.seen.iter().filter(|frame| frame.kind == Kind::Call);
        calls.map(|frame| frame.id).collect()
    }

    /// The client's calls that were given an id, in the order of `calls`.
    fn has_id(calls: &[Call]) -> Vec<bool> {
        calls.iter().map(|call| call.id.is_some()).collect()
    }
}

#[test]
fn control_calls_pass_calls_that_wait_for_room() {
    let mut pair = Pair::new();
    pair.client.open_window = 0;
    let mut calls = vec![
        pair.start(of(Priority::Normal, FRAGMENT - 100)),
        pair.start(of(Priority::Normal, 60_000)),
        pair.start(of(Priority::Normal, 10)),
        pair.start(of(Priority::Bulk, 10)),
    ];
    assert!(calls[2].is_waiting_in_queue() && calls[3].is_waiting_in_queue());
    calls.push(pair.start(of(Priority::Control, 10)));
    assert!(!calls[4].is_waiting_in_queue());
    pair.client.open_window = usize::MAX;
    pair.run(&mut calls);
    let ids: Vec<_> = [0, 1, 4, 2, 3]
        .map(|index: usize| calls[index].id.unwrap().0)
        .into();
    assert_eq!(pair.read_ids(), ids);
}

#[test]
fn at_most_a_fragment_and_a_piece_precede_a_control_frame() {
    for step in [1000, 20_000, 100_000, 1 << 20] {
        let mut pair = Pair::new();
        pair.client.open_window = 0;
        let mut calls = Vec::new();
        let mut most = 0;
        for round in 0..60 {
            // All lengths: long, just a frame, less than a frame, short; and one-ways between them.
            for len in [1 << 20, FRAGMENT - 40, 100_000, 17_000, 1000, 10] {
                let priority = CONTROL_LAST[(round + len) % 2];
                calls.push(pair.start(of(priority, len)));
                most = most.max(pair.client.conn.outbox.backlog().output);
                pair.start(Call::send(vec![1; len / 2]));
                most = most.max(pair.client.conn.outbox.backlog().output);
            }
            pair.client.open_window = step;
            pair.client.transmit(pair.now);
            most = most.max(pair.client.conn.outbox.backlog().output);
            for call in calls.iter_mut().filter(|call| call.flag.take()) {
                call.poll(&mut pair.client.conn, pair.now);
                most = most.max(pair.client.conn.outbox.backlog().output);
            }
        }
        assert!(most > FRAGMENT as u64 / 2, "{most}: the test fills nothing");
        assert!(most <= BEFORE, "{most} bytes with steps of {step}");
    }
}

#[test]
fn a_message_that_does_not_fit_is_cut_and_keeps_its_place() {
    let mut pair = Pair::new();
    pair.client.open_window = 0;
    let mut calls: Vec<_> = [100_000, 100_000, 50, 100_000]
        .map(|len| pair.start(of(Priority::Normal, len)))
        .into();
    assert_eq!(Pair::has_id(&calls), [true, true, false, false]);
    assert!(pair.client.conn.outbox.remainders().cut().is_some());
    pair.client.open_window = usize::MAX;
    pair.run(&mut calls);
    for len in [100_000, 100_000, 50, 100_000] {
        let arrived = pair.server.accept(pair.now);
        let message = Vec::<u8>::decode(arrived.payload.bytes().clone()).unwrap();
        assert_eq!(message, vec![7; len]);
        pair.server.reply(&arrived, b"", pair.now);
    }
    pair.run(&mut calls);
    pair.assert_quiescent();
}

#[test]
fn slots_go_to_the_highest_priority_and_one_in_eight_to_a_lower_one() {
    let one = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), one);
    // All slots are used.
    let mut first: Vec<_> = (0..16).map(|_| pair.start(of(Priority::Normal, 1))).collect();
    pair.run(&mut first);
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(pair.start(of(Priority::Bulk, 1)));
        calls.push(pair.start(of(Priority::Normal, 1)));
    }
    calls.push(pair.start(of(Priority::Control, 1)));
    assert!(calls.iter().all(Call::is_waiting_in_queue));
    let mut order = Vec::new();
    for _ in 0..40 {
        let before = pair.read_ids().len();
        pair.echo();
        for call in &mut first {
            pair.poll(call);
        }
        pair.run(&mut calls);
        let ids = pair.read_ids();
        assert_eq!(ids.len(), before + 1, "one slot, one call");
        let call = calls
            .iter()
            .find(|call| call.id.is_some_and(|id| id.0 == ids[before]));
        order.push(call.unwrap().priority);
    }
    assert_eq!(order[0], Priority::Control);
    let bulk = |order: &[Priority]| order.iter().filter(|&&p| p == Priority::Bulk).count();
    assert_eq!(bulk(&order[..8]), 1, "{order:?}");
    assert_eq!(bulk(&order[8..16]), 1, "{order:?}");
}

#[test]
fn a_caller_dropped_on_its_turn_lets_the_next_priority_pass() {
    let mut pair = Pair::new();
    pair.client.open_window = 0;
    pair.start(of(Priority::Normal, FRAGMENT - 40));
    pair.start(of(Priority::Normal, 60_000));
    let normal = pair.start(of(Priority::Normal, 1));
    let mut bulk = pair.start(of(Priority::Bulk, 1));
    pair.client.open_window = usize::MAX;
    pair.settle();
    assert!(normal.flag.take());
    bulk.flag.take();
    assert!(
        !pair.poll(&mut bulk) && bulk.is_waiting_in_queue(),
        "it is not its turn"
    );
    normal.abandon(&mut pair.client.conn, pair.now);
    pair.client.wake();
    assert!(bulk.flag.take());
    pair.poll(&mut bulk);
    assert!(bulk.id.is_some());
}

#[test]
fn fragments_of_a_higher_priority_go_first_and_others_make_progress() {
    let mut pair = Pair::new();
    let mut calls = vec![
        pair.start(of(Priority::Bulk, 4_000_000)),
        pair.start(of(Priority::Normal, 4_000_000)),
    ];
    pair.run(&mut calls);
    let data = pair.server.seen.iter().filter(|frame| frame.kind == Kind::Data);
    let ids: Vec<_> = data.map(|frame| frame.id).collect();
    let (bulk, normal) = (calls[0].id.unwrap().0, calls[1].id.unwrap().0);
    assert_eq!(ids[..7], [normal; 7]);
    assert_eq!(ids[7], bulk);
    assert_eq!(ids[8..15], [normal; 7]);
    assert_eq!(ids[15], bulk);
    assert_eq!(*ids.last().unwrap(), bulk);
}

#[test]
fn short_and_long_messages_of_one_priority_share_the_output() {
    let mut pair = Pair::new();
    let mut calls = vec![pair.start(of(Priority::Normal, 4_000_000))];
    pair.client.open_window = 0;
    calls.extend((0..100).map(|_| pair.start(of(Priority::Normal, 15_000))));
    let (mut short, mut long) = (0, 0);
    for _ in 0..20 {
        pair.client.open_window = FRAGMENT;
        pair.run(&mut calls);
        let frames = pair.server.seen.drain(..);
        for frame in frames {
            match frame.kind {
                Kind::Call => short += frame.payload.len(),
                _ => long += frame.payload.len(),
            }
        }
    }
    let total = short + long;
    assert!(total > 18 * FRAGMENT, "{total}");
    assert!(
        (total / 3..2 * total / 3).contains(&short),
        "{short} of {total} are short"
    );
}

#[test]
fn a_control_request_is_started_and_answered_although_the_output_is_full() {
    let mut pair = Pair::with(settings(), serving());
    let mut calls: Vec<_> = (0..5).map(|_| pair.call(b"x")).collect();
    pair.server.open_window = 0;
    for _ in 0..2 {
        let arrived = pair.server.accept(pair.now);
        pair.server.reply(&arrived, &[1; 100_000], pair.now);
    }
    assert!(!pair.server.has_request(), "there is no room for a reply");
    let mut beat = Call::new(b"beat");
    beat.procedure = BEAT;
    calls.push(pair.start(beat));
    pair.settle();
    let arrived = pair.server.accept(pair.now);
    assert_eq!(arrived.procedure, BEAT);
    assert!(poll(|cx| pair.server.conn.poll_room(arrived.id, 4, cx)).is_ready());
    pair.server.reply(&arrived, b"beat", pair.now);
    assert!(!pair.server.has_request());
    pair.server.open_window = usize::MAX;
    pair.settle();
    for _ in 0..3 {
        pair.echo();
    }
    for call in &mut calls {
        assert!(pair.poll(call));
    }
    pair.assert_quiescent();
}

#[test]
fn requests_are_started_in_the_order_of_arrival_as_long_as_there_is_room() {
    let mut pair = Pair::with(settings(), serving());
    let order = [ECHO, LOAD, BEAT, ECHO, BEAT, LOAD];
    for procedure in order {
        let mut call = Call::new(b"x");
        call.procedure = procedure;
        pair.start(call);
    }
    pair.settle();
    assert_eq!(order.map(|_| pair.server.take().procedure), order);
}

#[test]
fn a_control_request_does_not_wait_for_the_rest_of_a_one_way_before_it() {
    let mut pair = Pair::with(settings(), serving());
    pair.client.open_window = 100_000;
    pair.start(Call::send(vec![7; 1 << 20]));
    let _call = pair.start(Call::new(b"x"));
    let mut beat = Call::new(b"beat");
    beat.procedure = BEAT;
    let _beat = pair.start(beat);
    pair.settle();
    assert_eq!(pair.server.take().procedure, BEAT);
    assert!(!pair.server.has_request());
}

#[test]
fn waiting_replies_are_woken_a_few_at_a_time_and_all_are_written() {
    let mut pair = Pair::new();
    let mut calls: Vec<_> = (0..200).map(|_| pair.call(b"x")).collect();
    let mut handlers: Vec<_> = (0..200)
        .map(|_| (pair.server.accept(pair.now), Arc::new(Flag::default())))
        .collect();
    let poll_room = |pair: &mut Pair, handler: &(Arrived, Arc<Flag>)| {
        let waker = Waker::from(Arc::clone(&handler.1));
        let room = pair
            .server
            .conn
            .poll_room(handler.0.id, 8000, &mut Context::from_waker(&waker));
        if room.is_ready() {
            pair.server.reply(&handler.0, &[1; 8000], pair.now);
        }
        pair.server.wake();
        room.is_ready()
    };
    pair.server.open_window = 0;
    handlers.retain(|handler| !poll_room(&mut pair, handler));
    assert!(handlers.len() > 180);
    pair.server.open_window = usize::MAX;
    let mut polls = 0;
    let mut unwoken = 0;
    while !handlers.is_empty() {
        pair.settle();
        let (woken, mut rest): (Vec<_>, Vec<_>) = handlers.into_iter().partition(|handler| handler.1.take());
        assert!(woken.len() <= 32, "{} are woken", woken.len());
        unwoken += usize::from(woken.is_empty());
        assert!(unwoken < 3, "nobody is called any more");
        polls += woken.len();
        rest.extend(woken.into_iter().filter(|handler| !poll_room(&mut pair, handler)));
        handlers = rest;
    }
    assert!(polls < 400, "{polls} polls");
    pair.settle();
    for call in &mut calls {
        assert!(pair.poll(call));
    }
    pair.assert_quiescent();
}

#[test]
fn a_woken_waiter_that_never_polls_blocks_no_other() {
    let mut pair = Pair::new();
    let _calls: Vec<_> = (0..60).map(|_| pair.call(b"x")).collect();
    pair.server.open_window = 0;
    for _ in 0..2 {
        let arrived = pair.server.accept(pair.now);
        pair.server.reply(&arrived, &[1; 100_000], pair.now);
    }
    pair.server.open_window = 100_000;
    pair.settle();
    pair.server.open_window = 0;
    let handlers: Vec<_> = (0..40)
        .map(|_| (pair.server.accept(pair.now), Arc::new(Flag::default())))
        .collect();
    let fill = pair.server.accept(pair.now);
    pair.server.reply(&fill, &[1; 100_000], pair.now);
    for (arrived, flag) in &handlers {
        let waker = Waker::from(Arc::clone(flag));
        let room = pair
            .server
            .conn
            .poll_room(arrived.id, 8000, &mut Context::from_waker(&waker));
        assert!(room.is_pending());
    }
    pair.server.open_window = usize::MAX;
    pair.settle();
    let woken = |handlers: &[(Arrived, Arc<Flag>)]| handlers.iter().filter(|(_, flag)| flag.take()).count();
    assert_eq!(woken(&handlers), 16);
    // Other things go out meanwhile.
    for _ in 0..5 {
        pair.advance(ms(1));
        let _busy = pair.call(b"other");
    }
    assert_eq!(woken(&handlers), 16);
    pair.advance(ms(5));
    assert_eq!(woken(&handlers), 8);
    pair.advance(ms(50));
    assert_eq!(woken(&handlers), 0);
}

#[test]
fn a_nested_call_that_waits_for_room_fails_at_its_deadline() {
    let mut pair = Pair::new();
    // The client's handler is at work.
    let now = pair.now;
    let conn = &mut pair.server.conn;
    let request = Request {
        procedure: ECHO,
        ..Request::default()
    };
    let mut ticket = Ticket::default();
    ready(|cx| conn.poll_call(&mut ticket, &request, &vec![1], now, cx)).expect("it is taken");
    pair.settle();
    pair.client.accept(pair.now);
    pair.client.open_window = 0;
    pair.start(of(Priority::Normal, FRAGMENT - 40));
    pair.start(of(Priority::Normal, 60_000));
    let mut nested = Call::new(b"x").deadline(pair.now + secs(1));
    nested.nested = true;
    let mut nested = pair.start(nested);
    assert!(nested.id.is_none() && nested.outcome.is_none());
    pair.advance(ms(999));
    assert!(!nested.flag.take());
    pair.advance(ms(1));
    assert!(nested.flag.take());
    assert!(pair.poll(&mut nested));
    assert!(matches!(nested.failure().cause, Cause::Deadline));
}

#[test]
fn messages_of_a_control_stream_pass_those_of_others() {
    let mut pair = Pair::new();
    let shape = Shape::RequestStream;
    let load = pair.open_as(&Request {
        priority: Priority::Bulk,
        ..streams::shaped(shape)
    });
    let beat = pair.open_as(&Request {
        priority: Priority::Control,
        ..streams::shaped(shape)
    });
    pair.client.open_window = 0;
    pair.client.must_put(load.id, &[7; 60_000], pair.now);
    pair.start(of(Priority::Normal, 100_000));
    assert!(pair.client.put(load.id, b"more", pair.now).is_pending());
    pair.client.must_put(beat.id, b"beat", pair.now);
    assert!(pair.client.conn.outbox.backlog().output <= BEFORE + 100);
}

#[test]
fn a_long_reply_of_the_lowest_priority_arrives_beside_endless_others() {
    let mut pair = Pair::with(settings(), serving());
    let ask = |pair: &mut Pair, procedure| {
        let mut call = Call::new(b"x");
        call.procedure = procedure;
        pair.start(call);
        pair.settle();
        pair.server.accept(pair.now)
    };
    let reply = |pair: &mut Pair, arrived: &Arrived, len: usize| {
        let room = poll(|cx| pair.server.conn.poll_room(arrived.id, len, cx));
        if room.is_ready() {
            pair.server.reply(arrived, &vec![7; len], pair.now);
        }
        room.is_ready()
    };
    let load = ask(&mut pair, LOAD);
    let mut others: Vec<_> = (0..30).map(|_| ask(&mut pair, ECHO)).collect();
    let mut passed = 0;
    loop {
        // There are always others who come first.
        while reply(&mut pair, others.last().expect("enough"), 3_000_000) {
            others.pop();
            passed += 1;
        }
        if reply(&mut pair, &load, 2_000_000) {
            break;
        }
        assert!(passed < 20, "{passed} have passed it");
        pair.server.transmit(pair.now);
    }
    assert!((8..12).contains(&passed), "{passed} have passed it");
}
