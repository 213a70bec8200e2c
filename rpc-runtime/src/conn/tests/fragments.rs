//! Messages longer than a frame, both ways.

use super::*;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

#[test]
fn long_request_and_long_reply_travel_in_fragments() {
    let mut pair = Pair::new();
    let message = pattern(3 << 20);
    let mut call = pair.start(Call::new(message.clone()));
    pair.settle();
    assert!(pair.server.count(Kind::Data) >= 23);
    pair.echo();
    assert!(pair.poll(&mut call));
    assert_eq!(call.ok(), message);
    assert!(pair.client.count(Kind::Data) >= 23);
    pair.assert_quiescent();
}

#[test]
fn no_frame_is_longer_than_the_peers_limit() {
    let narrow = Settings {
        max_frame: 64 << 10,
        ..settings()
    };
    let mut pair = Pair::with(settings(), narrow);
    // Around one frame, around the fragment, with and without metadata: a frame too long would end the connection.
    for len in [65_480, 65_520, 65_536, 131_060, 131_072, 131_100] {
        let mut call = Call::new(pattern(len));
        call.metadata.insert("k", vec![0; 5000]);
        let mut call = pair.start(call);
        pair.settle();
        pair.echo();
        assert!(pair.poll(&mut call), "{len} bytes");
        assert_eq!(call.ok().len(), len);
    }
    pair.assert_quiescent();
}

#[test]
fn short_call_overtakes_a_long_one() {
    let mut pair = Pair::new();
    pair.client.open_window = 300_000;
    let _long = pair.start(Call::new(pattern(3 << 20)));
    pair.client.transmit(pair.now);
    let mut short = pair.start(Call::new(b"short"));
    pair.client.open_window = 600_000;
    pair.settle();
    pair.echo();
    assert!(pair.poll(&mut short));
    assert_eq!(short.ok(), b"short");
}

#[test]
fn fragments_of_several_messages_take_turns() {
    let mut pair = Pair::new();
    let mut first = pair.start(Call::new(pattern(600_000)));
    let mut second = pair.start(Call::new(pattern(600_000)));
    pair.settle();
    let ids: Vec<_> = pair
        .server
        .seen
        .iter()
        .filter(|f| f.kind == Kind::Data)
        .map(|f| f.id)
        .collect();
    assert_eq!(ids, [1, 3, 1, 3, 1, 3, 1, 3, 1, 3]);
    pair.echo();
    pair.echo();
    assert!(pair.poll(&mut first) && pair.poll(&mut second));
    pair.assert_quiescent();
}

#[test]
fn request_behind_an_unfinished_one_way_waits_for_it() {
    let mut pair = Pair::new();
    pair.client.open_window = 200_000;
    pair.start(Call::send(pattern(1 << 20)));
    pair.client.transmit(pair.now);
    let _call = pair.start(Call::new(b"call"));
    let _control = pair.start(Call::control(b"stop"));
    pair.client.open_window = 300_000;
    pair.settle();
    assert_eq!(pair.server.count(Kind::Call), 2);
    assert_eq!(pair.server.take().procedure, CONTROL);
    assert!(!pair.server.has_request());
    pair.client.open_window = usize::MAX;
    pair.settle();
    assert!(pair.server.take().one_way);
    assert!(!pair.server.take().one_way);
}

#[test]
fn request_behind_a_one_way_that_expires_goes_on() {
    let mut pair = Pair::new();
    pair.client.open_window = 200_000;
    pair.start(Call::send(pattern(1 << 20)).deadline(ms(100)));
    pair.client.transmit(pair.now);
    let _call = pair.start(Call::new(b"call"));
    pair.client.open_window = 300_000;
    pair.settle();
    assert!(!pair.server.has_request());
    pair.advance(ms(100));
    assert!(!pair.server.take().one_way);
    pair.client.open_window = usize::MAX;
    pair.settle();
    let progress = pair.server.conn.theirs.account().progress();
    assert_eq!((progress.received, progress.expired), (1, 1));
}

#[test]
fn cancelled_request_stops_amid_its_fragments() {
    let mut pair = Pair::new();
    pair.client.open_window = 300_000;
    let call = pair.start(Call::new(pattern(3 << 20)));
    pair.settle();
    call.abandon(&mut pair.client.conn, pair.now);
    pair.client.open_window = usize::MAX;
    pair.settle();
    assert!(pair.server.count(Kind::Data) < 5);
    assert!(!pair.server.has_request());
    pair.assert_quiescent();
}

#[test]
fn refused_request_stops_and_late_fragments_are_no_fault() {
    let mut pair = Pair::new();
    let mut calls = Vec::new();
    // Refused at the first frame again and again: 24 late fragments each would exhaust the budget.
    for _ in 0..100 {
        pair.client.conn.ours.credit_mut().grant_sends(0);
        let mut call = header(
            Kind::Call,
            pair.client.conn.ours.next_id(),
            Flags::END | Flags::MORE,
        );
        call.length = 3 << 20;
        call.encoding = 1;
        let id = call.id;
        pair.server.inject(call, &[0; 1000], pair.now);
        for _ in 0..24 {
            pair.server
                .inject(header(Kind::Data, id, Flags::MORE), &[0; 100_000], pair.now);
        }
        calls.push(id);
    }
    assert!(pair.server.conn.end.is_live());
}

#[test]
fn reassembly_grows_with_what_comes_never_with_what_is_announced() {
    let mut pair = Pair::new();
    let mut call = header(Kind::Call, 1, Flags::END | Flags::MORE);
    call.length = 4 << 20;
    pair.server.inject(call, &[0; 10], pair.now);
    assert!(pair.server.conn.theirs.requests().assembled(1) <= 64);
    pair.server
        .inject(header(Kind::Data, 1, Flags::MORE), &[0; 5000], pair.now);
    assert!(pair.server.conn.theirs.requests().assembled(1) <= 2 * 5010);
}

#[test]
fn message_of_another_length_fails_alone() {
    let mut pair = Pair::new();
    for (id, length, fragments) in [(1, 50, [30, 30]), (3, 50, [10, 10]), (5, 0, [1, 0])] {
        let mut call = header(Kind::Call, id, Flags::END | Flags::MORE);
        call.length = length;
        pair.server.inject(call, &vec![0; fragments[0]], pair.now);
        pair.server.inject(
            header(Kind::Data, id, Flags::NONE),
            &vec![0; fragments[1]],
            pair.now,
        );
    }
    assert!(!pair.server.has_request());
    for _ in 0..3 {
        pair.client.conn.ours.next_id();
    }
    pair.settle();
    assert_eq!(pair.client.count(Kind::Reply), 3);
    for reply in pair.client.seen.iter().filter(|frame| frame.kind == Kind::Reply) {
        assert_eq!(
            (reply.code, reply.flags),
            (Code::Internal as u32, Flags::NOT_EXECUTED)
        );
    }
    assert_eq!(pair.server.conn.theirs.requests().held(&settings()), (0, 0, 0));
}

#[test]
fn one_way_of_another_length_is_in_the_account_once_it_has_ended() {
    let mut pair = Pair::new();
    let mut send = header(Kind::Send, 1, Flags::END | Flags::MORE);
    send.length = 5;
    pair.server.inject(send, &[0; 4], pair.now);
    pair.server
        .inject(header(Kind::Data, 1, Flags::MORE), &[0; 4], pair.now);
    assert_eq!(pair.server.conn.theirs.account().progress().received, 0);
    pair.server
        .inject(header(Kind::Data, 1, Flags::NONE), &[0; 4], pair.now);
    let progress = pair.server.conn.theirs.account().progress();
    assert_eq!(progress.received, 1);
    assert_eq!(progress.dropped[0].reason, DropReason::BadPayload.number());
    assert_eq!(pair.server.conn.theirs.requests().held(&settings()), (0, 0, 0));
}

#[test]
fn reply_of_another_length_fails_its_call_as_executed() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let mut reply = header(Kind::Reply, 1, Flags::MORE);
    reply.length = 10;
    pair.client.inject(reply, &[0; 9], pair.now);
    pair.client
        .inject(header(Kind::Data, 1, Flags::MORE), &[0; 9], pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(call.executed(), Executed::Yes);
    assert_eq!(
        pair.client.conn.ours.credit().calls().0,
        1,
        "the reply has not ended"
    );
    pair.client
        .inject(header(Kind::Data, 1, Flags::NONE), &[0; 9], pair.now);
    assert_eq!(pair.client.conn.ours.credit().calls().0, 0);
    assert_eq!(pair.client.conn.ours.calls().held(), (0, 0));
}

#[test]
fn reply_longer_than_the_limit_fails_its_call_as_executed() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let mut reply = header(Kind::Reply, 1, Flags::MORE);
    reply.length = 1 << 40;
    pair.client.inject(reply, &[0; 9], pair.now);
    assert!(pair.poll(&mut call));
    assert!(matches!(
        call.failure().cause,
        Cause::TooLong {
            len: 0x100_0000_0000,
            ..
        }
    ));
    assert_eq!(call.executed(), Executed::Yes);
}

#[test]
fn second_reply_discards_an_unfinished_one() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let mut reply = header(Kind::Reply, 1, Flags::MORE);
    reply.length = 100;
    pair.client.inject(reply, &[0; 9], pair.now);
    let mut failed = header(Kind::Reply, 1, Flags::NONE);
    failed.code = Code::Aborted as u32;
    pair.client.inject(failed, b"", pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(call.status().code(), Code::Aborted);
    assert_eq!(pair.client.conn.ours.calls().held(), (0, 0));
    assert_eq!(pair.client.conn.ours.credit().calls(), (0, 0));
}

#[test]
fn long_reply_that_fills_the_inbox_fails_and_keeps_nothing() {
    let small = Settings {
        inbox_bytes: 500_000,
        ..settings()
    };
    let mut pair = Pair::with(small, settings());
    let mut call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, &pattern(1 << 20), pair.now);
    assert!(pair.poll(&mut call));
    assert!(matches!(call.failure().cause, Cause::InboxFull { max: 500_000 }));
    pair.assert_quiescent();
}

#[test]
fn control_frames_go_between_the_fragments() {
    let mut pair = Pair::new();
    pair.client.open_window = 300_000;
    let _long = pair.start(Call::new(pattern(3 << 20)));
    let victim = pair.start(Call::new(b"victim"));
    pair.settle();
    victim.abandon(&mut pair.client.conn, pair.now);
    pair.client.open_window = 400_000;
    pair.settle();
    assert_eq!(pair.server.count(Kind::Cancel), 1);
    let fragments = pair.server.count(Kind::Data);
    assert!(fragments < 60, "{fragments} of some 190 went before it");
}

#[test]
fn long_messages_wait_when_more_than_one_is_unwritten_and_short_ones_with_them() {
    let mut pair = Pair::new();
    pair.client.open_window = 0;
    let _first = pair.start(Call::new(vec![0; 4_000_000]));
    let _second = pair.start(Call::new(vec![0; 4_000_000]));
    let mut third = pair.start(Call::new(vec![0; 4_000_000]));
    assert!(third.is_waiting_in_queue());
    pair.client.open_window = 3_500_000;
    pair.settle();
    assert!(third.flag.take());
    pair.poll(&mut third);
    assert!(third.id.is_some());
}

#[test]
fn reply_to_an_unfinished_request_stops_its_fragments() {
    let mut pair = Pair::new();
    let mut call = pair.start(Call::new(vec![0; 3 << 20]));
    pair.client.transmit(pair.now);
    let mut refusal = header(Kind::Reply, 1, Flags::NOT_EXECUTED);
    refusal.code = Code::ResourceExhausted as u32;
    pair.client.inject(refusal, b"", pair.now);
    assert!(pair.client.conn.outbox.remainders().is_empty());
    assert!(call.poll(&mut pair.client.conn, pair.now));
    assert_eq!(call.executed(), Executed::No);
}

#[test]
fn call_behind_a_send_that_never_ends_is_taken_when_that_expires() {
    for wrong in [false, true] {
        let mut pair = Pair::new();
        let mut begun = header(Kind::Send, 1, Flags::END | Flags::MORE);
        (begun.length, begun.timeout_us) = (10, 50_000);
        pair.server.inject(begun, b"12345", pair.now);
        pair.server
            .inject(header(Kind::Call, 3, Flags::END), b"", pair.now);
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        let taken = pair.server.conn.poll_request(&mut Context::from_waker(&waker));
        assert!(taken.is_pending());
        pair.server.wake();
        flag.take();
        if wrong {
            // More than was announced: it is refused before its end, too.
            pair.server
                .inject(header(Kind::Data, 1, Flags::MORE), b"678901", pair.now);
        } else {
            pair.now = ms(50);
            pair.server.conn.handle_timeout(pair.now);
            pair.server.wake();
        }
        assert!(flag.take(), "whoever takes requests is woken");
        assert_eq!(pair.server.take().id, CallId(3));
    }
}

/// Reads what the server sends in pieces of `step` bytes; the longest buffer that was lent for a message.
fn read_in_steps(pair: &mut Pair, step: usize) -> usize {
    let mut longest = 0;
    pair.server.transmit(pair.now);
    while !pair.server.wire.is_empty() {
        let len = step.min(pair.server.wire.len());
        let bytes = pair.server.wire.split_to(len);
        pair.client.read(&bytes, pair.now);
        longest = longest.max(pair.client.input.capacity());
        pair.server.transmit(pair.now);
    }
    longest
}

#[test]
fn fragments_that_come_in_pieces_are_read_to_where_they_belong() {
    let mut pair = Pair::new();
    for step in [1000, 10_007, 70_001, 150_000] {
        let message = pattern(1 << 20);
        let mut call = pair.start(Call::new(message.clone()));
        pair.settle();
        pair.server.open_window = 0;
        pair.echo();
        pair.server.open_window = usize::MAX;
        let seen = pair.client.seen.len();
        read_in_steps(&mut pair, step);
        pair.settle();
        assert!(pair.poll(&mut call));
        assert_eq!(call.ok(), message, "{step}");
        let placed = pair.client.seen[seen..]
            .iter()
            .filter(|frame| frame.extra.placed.is_some());
        assert!(placed.count() > 4, "{step}");
    }
    pair.assert_quiescent();
}

#[test]
fn a_call_may_be_given_up_while_its_reply_is_read_to_where_it_belongs() {
    let mut pair = Pair::new();
    let call = pair.start(Call::new(pattern(1 << 20)));
    pair.settle();
    pair.server.open_window = 0;
    pair.echo();
    pair.server.open_window = 200_000;
    pair.server.transmit(pair.now);
    let bytes = pair.server.wire.split();
    pair.client.read(&bytes, pair.now);
    assert!(pair.client.conn.held().bytes > 0);
    call.abandon(&mut pair.client.conn, pair.now);
    assert_eq!(pair.client.conn.held().bytes, 0);
    pair.server.open_window = usize::MAX;
    pair.settle();
    let mut next = pair.start(Call::new(pattern(500_000)));
    pair.settle();
    pair.echo();
    pair.settle();
    assert!(pair.poll(&mut next));
    assert_eq!(next.ok(), pattern(500_000));
    pair.assert_quiescent();
}
