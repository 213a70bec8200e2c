//! One-way requests: flush, barrier, account.

use super::*;
use crate::conn::Uncovered;

#[test]
fn barrier_gives_the_account_of_everything_sent_before() {
    let mut pair = Pair::new();
    for _ in 0..6 {
        assert!(pair.start(Call::send(b"x")).outcome.unwrap().is_ok());
    }
    let barrier = pair.client.conn.start_barrier(pair.now);
    pair.client.transmit(pair.now);
    deliver(&mut pair.client, &mut pair.server, pair.now);
    // The PONG waits in the connection until the next write: what happens until then is in it.
    let status = status(Code::Internal, "no");
    let arrived: Vec<_> = (0..5).map(|_| pair.server.accept(pair.now)).collect();
    pair.server.reply(&arrived[0], b"", pair.now);
    pair.server
        .conn
        .end(arrived[1].id, End::Failed(&status), pair.now);
    pair.server.conn.end(arrived[2].id, refused(&status), pair.now);
    pair.server.conn.end(arrived[3].id, End::Dropped, pair.now);
    pair.settle();
    let progress = ready(|cx| pair.client.conn.poll_barrier(&barrier, cx)).unwrap();
    assert_eq!((progress.last_id, progress.received), (11, 6));
    assert_eq!((progress.handled, progress.failed, progress.expired), (1, 1, 0));
    let dropped: Vec<_> = progress
        .dropped
        .iter()
        .map(|dropped| (dropped.reason, dropped.count))
        .collect();
    assert_eq!(
        dropped,
        [
            (DropReason::UnknownProcedure.number(), 1),
            (DropReason::Aborted.number(), 1)
        ]
    );
    assert!(pair.client.conn.ours.has_no_barrier());
}

#[test]
fn barriers_behind_requests_need_no_time() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        pair.start(Call::send(b"x"));
        let barrier = pair.client.conn.start_barrier(pair.now);
        pair.settle();
        assert!(ready(|cx| pair.client.conn.poll_barrier(&barrier, cx)).is_ok());
    }
    assert_eq!(pair.server.count(Kind::Ping), 3);
    assert!(pair.server.conn.end.is_live());
}

#[test]
fn second_barrier_in_a_row_waits_for_the_floor() {
    let mut pair = Pair::new();
    assert!(!pair.client.conn.barrier_needs_call(pair.now));
    let first = pair.client.conn.start_barrier(pair.now);
    pair.settle();
    assert!(ready(|cx| pair.client.conn.poll_barrier(&first, cx)).is_ok());
    assert!(pair.client.conn.barrier_needs_call(pair.now));
    let second = pair.client.conn.start_barrier(pair.now);
    pair.advance(ms(9_999));
    assert!(poll(|cx| pair.client.conn.poll_barrier(&second, cx)).is_pending());
    pair.advance(ms(1));
    assert!(ready(|cx| pair.client.conn.poll_barrier(&second, cx)).is_ok());
}

#[test]
fn call_before_the_second_barrier_resets_the_floor() {
    let mut pair = Pair::new();
    let first = pair.client.conn.start_barrier(pair.now);
    pair.settle();
    assert!(ready(|cx| pair.client.conn.poll_barrier(&first, cx)).is_ok());
    let _call = pair.start(Call::control(b"ping"));
    assert!(!pair.client.conn.barrier_needs_call(pair.now));
    let second = pair.client.conn.start_barrier(pair.now);
    pair.settle();
    assert!(ready(|cx| pair.client.conn.poll_barrier(&second, cx)).is_ok());
}

#[test]
fn call_after_the_second_barrier_lets_it_go() {
    let mut pair = Pair::new();
    for _ in 0..2 {
        pair.client.conn.start_barrier(pair.now);
        pair.settle();
    }
    assert_eq!(pair.server.count(Kind::Ping), 1);
    let _call = pair.call(b"x");
    assert_eq!(pair.server.count(Kind::Ping), 2);
}

#[test]
fn ping_of_a_barrier_follows_the_last_fragment_of_earlier_sends() {
    let mut pair = Pair::new();
    pair.start(Call::send(vec![0; 1 << 20]));
    let barrier = pair.client.conn.start_barrier(pair.now);
    let _later = pair.start(Call::new(vec![0; 1 << 20]));
    pair.settle();
    let kinds = pair.server.kinds();
    let ping = kinds.iter().position(|kind| *kind == Kind::Ping).unwrap();
    let last = pair
        .server
        .seen
        .iter()
        .rposition(|frame| frame.kind == Kind::Data && frame.id == 1)
        .unwrap();
    assert!(ping > last);
    let progress = ready(|cx| pair.client.conn.poll_barrier(&barrier, cx)).unwrap();
    assert_eq!(progress.received, 1);
}

#[test]
fn finished_barrier_wakes_its_waiter() {
    let mut pair = Pair::new();
    let barrier = pair.client.conn.start_barrier(pair.now);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    assert!(
        pair.client
            .conn
            .poll_barrier(&barrier, &mut Context::from_waker(&waker))
            .is_pending()
    );
    pair.settle();
    assert!(flag.take());
}

#[test]
fn dropped_barrier_leaves_nothing() {
    let mut pair = Pair::new();
    let barrier = pair.client.conn.start_barrier(pair.now);
    pair.client.conn.drop_barrier(&barrier);
    pair.settle();
    assert!(pair.client.conn.ours.has_no_barrier());
}

#[test]
fn flush_ends_when_the_os_has_all_bytes() {
    let mut pair = Pair::new();
    pair.client.open_window = 10;
    pair.start(Call::send(b"0123456789"));
    let flush = pair.client.conn.start_flush();
    pair.settle();
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    assert!(
        pair.client
            .conn
            .poll_flush(&flush, &mut Context::from_waker(&waker))
            .is_pending()
    );
    pair.client.open_window = usize::MAX;
    pair.settle();
    assert!(flag.take());
    assert!(ready(|cx| pair.client.conn.poll_flush(&flush, cx)).is_ok());
}

#[test]
fn flush_waits_for_the_fragments_of_earlier_requests_only() {
    let mut pair = Pair::new();
    pair.start(Call::send(vec![0; 1 << 20]));
    let flush = pair.client.conn.start_flush();
    pair.client.open_window = 900_000;
    pair.settle();
    assert!(poll(|cx| pair.client.conn.poll_flush(&flush, cx)).is_pending());
    let _later = pair.start(Call::new(vec![0; 3 << 20]));
    pair.client.open_window = 1 << 20;
    pair.settle();
    assert!(ready(|cx| pair.client.conn.poll_flush(&flush, cx)).is_ok());
}

#[test]
fn flush_without_output_ends_at_once() {
    let mut pair = Pair::new();
    let flush = pair.client.conn.start_flush();
    assert!(ready(|cx| pair.client.conn.poll_flush(&flush, cx)).is_ok());
}

#[test]
fn flush_fails_when_the_connection_is_lost_before() {
    let mut pair = Pair::new();
    pair.client.open_window = 0;
    pair.start(Call::send(b"x"));
    let flush = pair.client.conn.start_flush();
    pair.client.conn.handle_lost("gone", None, pair.now);
    assert!(matches!(
        ready(|cx| pair.client.conn.poll_flush(&flush, cx)),
        Err(Cause::Lost { .. })
    ));
}

#[test]
fn flush_of_lost_fragments_fails_even_if_the_rest_is_written() {
    let mut pair = Pair::new();
    pair.start(Call::send(vec![0; 1 << 20]));
    pair.client.transmit(pair.now);
    let flush = pair.client.conn.start_flush();
    assert_eq!(pair.client.conn.outbox.taken(), flush.offset);
    pair.client.conn.handle_eof(pair.now);
    assert!(ready(|cx| pair.client.conn.poll_flush(&flush, cx)).is_err());
}

#[test]
fn sends_without_a_pong_are_reported_after_a_loss() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        pair.start(Call::send(b"covered"));
    }
    pair.client.conn.start_barrier(pair.now);
    pair.settle();
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 0, maybe: 0 });
    for _ in 0..2 {
        pair.start(Call::send(b"written"));
    }
    pair.settle();
    pair.client.open_window = 5;
    for _ in 0..4 {
        pair.start(Call::send(b"unwritten"));
    }
    pair.client.transmit(pair.now);
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 0, maybe: 6 });
    pair.client.conn.handle_lost("gone", None, pair.now);
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 4, maybe: 2 });
}

#[test]
fn sends_above_the_last_id_are_reported_as_not_executed() {
    let mut pair = Pair::new();
    for _ in 0..4 {
        pair.start(Call::send(b"x"));
    }
    let _call = pair.start(Call::new(b"x"));
    for _ in 0..3 {
        pair.start(Call::send(b"x"));
    }
    pair.client.inject_goaway(5, pair.now);
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 4, maybe: 3 });
}

#[test]
fn ping_amid_the_fragments_of_a_send_does_not_end_its_barrier() {
    let mut pair = Pair::new();
    pair.client.open_window = 300_000;
    pair.start(Call::send(vec![0; 1 << 20]));
    let barrier = pair.client.conn.start_barrier(pair.now);
    pair.client.transmit(pair.now);
    // A heartbeat's need not follow the fragments.
    pair.client.conn.put_ping(pair.now);
    pair.client.open_window = 400_000;
    pair.settle();
    assert_eq!(pair.client.count(Kind::Pong), 1);
    assert!(poll(|cx| pair.client.conn.poll_barrier(&barrier, cx)).is_pending());
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 0, maybe: 1 });
    pair.client.open_window = usize::MAX;
    pair.settle();
    assert!(ready(|cx| pair.client.conn.poll_barrier(&barrier, cx)).is_ok());
}

#[test]
fn request_before_one_ping_says_nothing_of_the_next() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"x"));
    pair.client.conn.start_barrier(pair.now);
    pair.settle();
    let second = pair.client.conn.start_barrier(pair.now);
    pair.settle();
    assert!(poll(|cx| pair.client.conn.poll_barrier(&second, cx)).is_pending());
}

#[test]
fn barrier_behind_sends_above_the_last_id_fails() {
    let mut pair = Pair::new();
    pair.start(Call::send(b"taken"));
    pair.settle();
    // The server closes; what crosses its GOAWAY is not taken, though the ping behind it is answered.
    let arrived = pair.server.accept(pair.now);
    pair.server.conn.close(pair.now);
    pair.start(Call::send(b"not taken"));
    let barrier = pair.client.conn.start_barrier(pair.now);
    pair.settle();
    let answered = ready(|cx| pair.client.conn.poll_barrier(&barrier, cx));
    assert!(matches!(answered, Err(Cause::GoingAway { .. })), "{answered:?}");
    assert_eq!(pair.client.count(Kind::Pong), 1);
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 1, maybe: 0 });
    pair.server.reply(&arrived, b"", pair.now);
}

#[test]
fn a_settle_waits_only_for_earlier_sends() {
    let mut pair = Pair::new();
    let now = pair.now;
    let mut first = header(Kind::Send, 1, Flags::MORE | Flags::END);
    first.length = 4;
    pair.server.inject(first, b"ab", now);
    pair.server.inject(header(Kind::Send, 3, Flags::END), b"x", now);
    let settle = |id| Header {
        procedure: CONTROL,
        ..header(Kind::Call, id, Flags::END)
    };
    pair.server.inject(settle(5), b"", now);
    pair.server.inject(header(Kind::Send, 7, Flags::END), b"y", now);
    let asked = pair.server.accept(now).id;
    assert_eq!(
        asked,
        CallId(5),
        "it goes ahead of what is behind an unfinished one"
    );
    assert!(poll(|cx| pair.server.conn.poll_settled(asked, cx)).is_pending());

    pair.server.inject(header(Kind::Data, 1, Flags::NONE), b"cd", now);
    let arrived: Vec<_> = (0..3).map(|_| pair.server.accept(now)).collect();
    pair.server.reply(&arrived[0], b"", now);
    assert!(poll(|cx| pair.server.conn.poll_settled(asked, cx)).is_pending());
    let flag = Arc::<Flag>::default();
    let waker = Waker::from(Arc::clone(&flag));
    let cx = &mut Context::from_waker(&waker);
    assert!(pair.server.conn.poll_settled(asked, cx).is_pending());
    pair.server
        .conn
        .end(arrived[1].id, End::Failed(&status(Code::Internal, "no")), now);
    pair.server.wake();
    assert!(flag.take(), "whoever waits is woken");
    let progress = ready(|cx| pair.server.conn.poll_settled(asked, cx));
    assert_eq!((progress.received, progress.handled, progress.failed), (3, 1, 1));
    assert_eq!(progress.pending(), 1, "the one behind it");

    // One that is given up leaves nothing behind.
    pair.server.inject(settle(9), b"", now);
    let given_up = pair.server.accept(now).id;
    let kept = pair.server.conn.theirs.requests().kept();
    assert!(poll(|cx| pair.server.conn.poll_settled(given_up, cx)).is_pending());
    pair.server.conn.end(given_up, End::Dropped, now);
    assert_eq!(pair.server.conn.theirs.requests().kept(), kept);
    assert!(poll(|cx| pair.server.conn.poll_settled(given_up, cx)).is_ready());
    assert_eq!(pair.server.conn.theirs.requests().kept(), kept);
}
