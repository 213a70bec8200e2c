//! What is said of requests of which only a part was written, in every way that they can end (G3).

use super::*;
use crate::{
    conn::Uncovered,
    wire::frame::control::{Goaway, Reason},
};

fn goaway(last_id: u64) -> Vec<u8> {
    let goaway = Goaway {
        reason: Reason::Drain.number(),
        last_id,
        ..Goaway::default()
    };
    goaway.encode_to_vec()
}

/// Three calls in one batch, of whose bytes the OS takes `taken` and then loses the connection by `lose`.
fn batch(taken: usize, lose: impl FnOnce(&mut Connection, Time)) -> [Executed; 3] {
    let mut pair = Pair::new();
    pair.client.open_window = taken;
    let mut calls = [b"a", b"b", b"c"].map(|message| pair.start(Call::new(message)));
    pair.client.transmit(pair.now);
    lose(&mut pair.client.conn, pair.now);
    calls.each_mut().map(|call| {
        assert!(call.poll(&mut pair.client.conn, pair.now));
        call.executed()
    })
}

fn frame_len() -> usize {
    let mut pair = Pair::new();
    let before = pair.client.conn.outbox.end();
    let _call = pair.start(Call::new(b"a"));
    (pair.client.conn.outbox.end() - before) as usize
}

#[test]
fn a_partly_written_batch_is_known_to_the_byte() {
    use Executed::{Maybe, No};
    let len = frame_len();
    let lose = |conn: &mut Connection, now| conn.handle_lost("gone", None, now);
    assert_eq!(batch(len - 1, lose), [No, No, No]);
    assert_eq!(batch(len, lose), [Maybe, No, No]);
    assert_eq!(batch(2 * len - 1, lose), [Maybe, No, No]);
    assert_eq!(batch(2 * len, lose), [Maybe, Maybe, No]);
    assert_eq!(batch(3 * len, lose), [Maybe; 3]);
    // A write that fails has perhaps taken all that it was offered, and nothing else.
    let broken = || std::io::ErrorKind::BrokenPipe.into();
    let fail = |offered| move |conn: &mut Connection, now| conn.handle_write_failed(offered, broken(), now);
    assert_eq!(batch(5, fail(2 * len - 6)), [Maybe, No, No]);
    assert_eq!(batch(5, fail(2 * len - 5)), [Maybe, Maybe, No]);
}

#[test]
fn requests_above_the_last_id_that_are_partly_written_never_ran_and_are_written_no_further() {
    let mut pair = Pair::new();
    pair.client.open_window = 300_000;
    let mut long = pair.start(Call::new(vec![1; 1 << 20]));
    pair.start(Call::send(vec![2; 1 << 20]));
    pair.client.transmit(pair.now);
    let mut short = pair.start(Call::new(b"short"));
    pair.client
        .inject(Header::new(Kind::Goaway, 0), &goaway(0), pair.now);
    for call in [&mut long, &mut short] {
        assert!(call.poll(&mut pair.client.conn, pair.now));
        assert_eq!((call.executed(), call.completions), (Executed::No, 1));
    }
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 1, maybe: 0 });
    assert!(pair.client.conn.outbox.has_room(Priority::Normal, u64::MAX));
    // What of it is on its way is dropped by the peer: none of it counts as a fault there.
    pair.client.conn.handle_lost("gone", None, pair.now);
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 1, maybe: 0 });
    assert_eq!(long.completions, 1);
}

#[test]
fn requests_that_cross_a_last_id_are_counted_after_each_kind_of_loss() {
    // One-way requests: 1 is unfinished below the last id, 3 whole and written above it, 5 whole and not written.
    let mut pair = Pair::new();
    pair.start(Call::send(vec![0; 1 << 20]));
    pair.start(Call::send(b"x"));
    pair.client.open_window = 200_000;
    pair.client.transmit(pair.now);
    pair.start(Call::send(b"y"));
    pair.client
        .inject(Header::new(Kind::Goaway, 0), &goaway(1), pair.now);
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 2, maybe: 1 });
    pair.client.conn.handle_lost("gone", None, pair.now);
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 3, maybe: 0 });
}

#[test]
fn a_faulty_peer_gets_the_encoded_output_and_no_more() {
    let few = Settings {
        max_calls: 16,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    pair.client.open_window = 0;
    let mut long = pair.start(Call::new(vec![0; 1 << 20]));
    let mut short: Vec<_> = (0..15).map(|_| pair.start(Call::new(b"x"))).collect();
    pair.start(Call::send(b"x"));
    pair.start(Call::send(vec![0; 1 << 20]));
    let mut waiting = pair.start(Call::new(b"x"));
    pair.client
        .inject(header(Kind::Other(9), 0, Flags::NONE), b"", pair.now);
    assert!(matches!(pair.client.conn.state(), State::Closing));
    for call in short.iter_mut() {
        assert!(call.poll(&mut pair.client.conn, pair.now));
        // It is in the output, which is still written.
        assert_eq!(call.executed(), Executed::Maybe);
    }
    for call in [&mut long, &mut waiting] {
        assert!(call.poll(&mut pair.client.conn, pair.now));
        assert_eq!(call.executed(), Executed::No);
    }
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 1, maybe: 1 });
    // If it never is, that is known of the one-way requests, which nobody was told of yet.
    pair.client.conn.handle_timeout(secs(1));
    assert!(pair.client.conn.is_closed());
    assert_eq!(pair.client.conn.uncovered(), Uncovered { no: 2, maybe: 0 });
}

#[test]
fn expired_call_may_have_run_only_if_it_was_encoded_whole() {
    let mut pair = Pair::new();
    pair.client.open_window = 0;
    let mut long = pair.start(Call::new(vec![0; 1 << 20]).deadline(secs(1)));
    let mut short = pair.start(Call::new(b"x").deadline(secs(1)));
    pair.client.transmit(pair.now);
    pair.advance(secs(1));
    assert!(pair.poll(&mut long) && pair.poll(&mut short));
    assert_eq!(
        (long.executed(), short.executed()),
        (Executed::No, Executed::Maybe)
    );
    pair.client.open_window = usize::MAX;
    pair.settle();
    // The first fragments of the long one arrive, and a CANCEL behind them, but never all of it.
    let data = pair.server.seen.iter().filter(|frame| frame.kind == Kind::Data);
    assert!(data.count() < 7 && pair.server.count(Kind::Cancel) == 2);
    assert!(!pair.server.has_request());
    pair.assert_quiescent();
}

#[test]
fn refusal_by_a_started_handler_admits_the_start() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    let status = status(Code::ResourceExhausted, "too late");
    pair.server.conn.end(arrived.id, refused(&status), pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(call.executed(), Executed::Yes);
}

#[test]
fn data_behind_a_whole_request_is_a_fault_and_changes_nothing() {
    let mut pair = Pair::new();
    let mut calls = [pair.call(b"queued"), pair.call(b"running"), pair.call(b"over")];
    pair.start(Call::send(b"sent"));
    pair.settle();
    let [queued, running, over, sent] = [(); 4].map(|()| pair.server.take());
    pair.server.conn.started(running.id, pair.now).unwrap();
    pair.server.conn.started(over.id, pair.now).unwrap();
    pair.server.reply(&over, b"over", pair.now);
    for (index, arrived) in [&queued, &running, &over, &sent].into_iter().enumerate() {
        for flags in [Flags::NONE, Flags::MORE, Flags::END] {
            let before = pair.server.conn.peer.faults.left();
            let data = header(Kind::Data, arrived.id.number(), flags);
            pair.server.inject(data, b"more", pair.now);
            assert_eq!(
                pair.server.conn.peer.faults.left(),
                before - 1,
                "{index} {flags:?}"
            );
        }
    }
    for arrived in [&queued, &sent] {
        pair.server.conn.started(arrived.id, pair.now).unwrap();
    }
    for (arrived, reply) in [(&queued, &b"queued"[..]), (&running, b"running"), (&sent, b"")] {
        pair.server.reply(arrived, reply, pair.now);
    }
    assert!(calls.iter_mut().all(|call| pair.poll(call)));
    let replies = calls.each_ref().map(|call| call.ok());
    assert_eq!(replies, [&b"queued"[..], b"running", b"over"]);
}
