//! What is said of open calls when the connection is lost, and who is told.

use super::*;
use crate::{Phase, conn::Unwanted};

/// What became of a call when everything up to `written` bytes after the handshake was taken, and then the
/// connection was lost by `lose`.
fn lost(written: usize, lose: impl FnOnce(&mut Connection, Time)) -> (Phase, Executed) {
    let mut pair = Pair::new();
    pair.client.open_window = written;
    let mut call = pair.start(Call::new(b"x"));
    pair.client.transmit(pair.now);
    lose(&mut pair.client.conn, pair.now);
    pair.client.wake();
    assert!(call.flag.take());
    assert!(call.poll(&mut pair.client.conn, pair.now));
    assert_eq!(call.completions, 1);
    (call.failure().phase, call.executed())
}

/// How long the frame of that call is.
fn frame_len() -> usize {
    let mut pair = Pair::new();
    let before = pair.client.conn.outbox.end();
    let _call = pair.start(Call::new(b"x"));
    (pair.client.conn.outbox.end() - before) as usize
}

fn reset(conn: &mut Connection, now: Time) {
    conn.handle_lost(
        "read failed",
        Some(std::io::ErrorKind::ConnectionReset.into()),
        now,
    );
}

#[test]
fn call_is_not_executed_as_long_as_a_byte_of_it_was_not_taken() {
    let len = frame_len();
    for written in [0, 1, len - 1] {
        assert_eq!(
            lost(written, reset),
            (Phase::Write, Executed::No),
            "{written} of {len} bytes"
        );
        assert_eq!(
            lost(written, Connection::handle_eof),
            (Phase::Write, Executed::No)
        );
    }
    assert_eq!(lost(len, reset), (Phase::Wait, Executed::Maybe));
    assert_eq!(lost(len, Connection::handle_eof), (Phase::Wait, Executed::Maybe));
}

#[test]
fn failed_write_counts_as_having_taken_all_it_was_offered() {
    let len = frame_len();
    let broken = || std::io::ErrorKind::BrokenPipe.into();
    let fail = |offered| move |conn: &mut Connection, now| conn.handle_write_failed(offered, broken(), now);
    assert_eq!(lost(1, fail(len - 2)), (Phase::Write, Executed::No));
    assert_eq!(lost(1, fail(len - 1)), (Phase::Wait, Executed::Maybe));
}

#[test]
fn call_with_fragments_to_come_is_not_executed() {
    let mut pair = Pair::new();
    let mut call = pair.start(Call::new(vec![0; 1 << 20]));
    pair.client.transmit(pair.now);
    reset(&mut pair.client.conn, pair.now);
    assert!(call.poll(&mut pair.client.conn, pair.now));
    assert_eq!(
        (call.failure().phase, call.executed()),
        (Phase::Write, Executed::No)
    );
}

#[test]
fn waiting_callers_fail_as_not_executed() {
    let few = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    let mut calls: Vec<_> = (0..20).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.settle();
    reset(&mut pair.client.conn, pair.now);
    pair.client.wake();
    for (index, call) in calls.iter_mut().enumerate() {
        assert!(call.flag.take() && call.poll(&mut pair.client.conn, pair.now));
        let executed = if index < 16 { Executed::Maybe } else { Executed::No };
        assert_eq!(call.executed(), executed);
    }
    let late = pair.start(Call::new(b"late"));
    assert!(matches!(late.failure().cause, Cause::Lost { .. }));
    assert_eq!(late.executed(), Executed::No);
    assert!(!pair.client.conn.takes_calls());
}

#[test]
fn reply_that_is_there_survives_the_loss() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    pair.echo();
    reset(&mut pair.client.conn, pair.now);
    assert!(call.poll(&mut pair.client.conn, pair.now));
    assert_eq!(call.ok(), b"x");
}

#[test]
fn loss_keeps_its_source() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    reset(&mut pair.client.conn, pair.now);
    call.poll(&mut pair.client.conn, pair.now);
    let Cause::Lost {
        text,
        source: Some(source),
    } = &call.failure().cause
    else {
        panic!()
    };
    assert_eq!(text, "read failed");
    assert_eq!(source.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn handlers_of_calls_become_unwanted_and_one_ways_that_were_read_still_run() {
    let mut pair = Pair::new();
    let _call = pair.call(b"running");
    let running = pair.server.accept(pair.now);
    pair.start(Call::send(b"running"));
    pair.settle();
    let one_way = pair.server.accept(pair.now);
    pair.start(Call::send(b"queued"));
    let _queued = pair.start(Call::new(b"queued"));
    pair.settle();
    pair.server.conn.handle_eof(pair.now);

    assert_eq!(
        ready(|cx| pair.server.conn.poll_unwanted(running.id, cx)),
        Unwanted::Disconnected
    );
    assert!(poll(|cx| pair.server.conn.poll_unwanted(one_way.id, cx)).is_pending());
    let queued = pair.server.accept(pair.now);
    assert!(queued.one_way);
    assert!(ready(|cx| pair.server.conn.poll_request(cx)).is_none());
    assert_eq!(pair.server.conn.open_requests(), 3);
    pair.server.conn.end(running.id, End::Dropped, pair.now);
    pair.server.reply(&one_way, b"", pair.now);
    pair.server.reply(&queued, b"", pair.now);
    assert_eq!(pair.server.conn.open_requests(), 0);
    assert_eq!(pair.server.conn.theirs.account().progress().handled, 2);
    assert!(!pair.server.conn.wants_write());
}

#[test]
fn unfinished_messages_are_never_dispatched_after_a_loss() {
    let mut pair = Pair::new();
    pair.client.open_window = 200_000;
    pair.start(Call::send(vec![0; 1 << 20]));
    pair.client.transmit(pair.now);
    pair.start(Call::send(b"behind"));
    pair.client.open_window = 300_000;
    pair.settle();
    pair.server.conn.handle_eof(pair.now);
    // What stood behind the unfinished one was read whole, and runs.
    assert_eq!(pair.server.accept(pair.now).payload.len(), 8);
    assert!(ready(|cx| pair.server.conn.poll_request(cx)).is_none());
}

#[test]
fn loss_wakes_all_waiters() {
    let mut pair = Pair::fresh(settings(), settings());
    let flags: Vec<_> = (0..7).map(|_| Arc::new(Flag::default())).collect();
    let wakers: Vec<_> = flags.iter().map(|flag| Waker::from(Arc::clone(flag))).collect();
    let mut cx: Vec<_> = wakers.iter().map(Context::from_waker).collect();
    let conn = &mut pair.client.conn;
    let barrier = conn.start_barrier(pair.now);
    let flush = conn.start_flush();
    assert!(conn.poll_ready(&mut cx[0]).is_pending());
    assert!(conn.poll_closed(&mut cx[1]).is_pending());
    assert!(conn.poll_request(&mut cx[2]).is_pending());
    assert!(conn.poll_drained(&mut cx[3]).is_pending());
    assert!(conn.poll_barrier(&barrier, &mut cx[4]).is_pending());
    assert!(conn.poll_flush(&flush, &mut cx[5]).is_pending());
    conn.handle_lost("gone", None, pair.now);
    pair.client.wake();
    for index in [0, 1, 2, 3, 4, 5] {
        assert!(flags[index].take(), "waiter {index} was forgotten");
    }
    let conn = &mut pair.client.conn;
    assert!(ready(|cx| conn.poll_ready(cx)).is_err());
    assert!(matches!(ready(|cx| conn.poll_closed(cx)), Cause::Lost { .. }));
    assert!(ready(|cx| conn.poll_request(cx)).is_none());
    ready(|cx| conn.poll_drained(cx));
    assert!(ready(|cx| conn.poll_barrier(&barrier, cx)).is_err());
    assert!(ready(|cx| conn.poll_flush(&flush, cx)).is_err());
    assert!(conn.is_closed() && conn.poll_timeout().is_none());
}

#[test]
fn nothing_is_written_after_the_end() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    pair.server.conn.handle_eof(pair.now);
    pair.client.conn.handle_eof(pair.now);
    pair.server.reply(&arrived, b"y", pair.now);
    call.abandon(&mut pair.client.conn, pair.now);
    assert!(!pair.server.transmit(pair.now) && !pair.client.transmit(pair.now));
    pair.server.conn.handle_frame(&mut Frame::default(), pair.now);
    assert_eq!(pair.server.conn.open_requests(), 0);
}

#[test]
fn requests_left_at_the_loss_free_their_places() {
    let mut pair = Pair::new();
    let _one_way = pair.start(Call::send(b"waits for its handler"));
    let call = pair.call(b"is cancelled before its handler starts");
    call.abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    pair.server.conn.handle_lost("gone", None, pair.now);
    // Nobody takes requests any more, and the one-way expires.
    pair.advance(secs(31));
    assert_eq!(pair.server.conn.leftovers(), [""; 0]);
}
