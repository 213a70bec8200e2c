//! Long messages do not fill the way of what must not wait.

use super::*;
use crate::Priority;

const LONG: usize = 3 << 20;

impl Pair {
    /// A call that must not wait, from its beginning to its end.
    fn beat(&mut self) {
        let request = Request {
            procedure: ECHO,
            priority: Priority::Control,
            ..Request::default()
        };
        let now = self.now;
        let conn = &mut self.client.conn;
        let mut ticket = Ticket::default();
        let id = ready(|cx| conn.poll_call(&mut ticket, &request, &vec![1], now, cx)).expect("it is taken");
        self.settle();
        self.echo();
        self.client.outcome(id).expect("it is answered");
    }

    /// How much the client gives the OS before anything comes back.
    fn given_at_once(&mut self) -> usize {
        while self.client.transmit(self.now) {}
        self.client.wire.len()
    }
}

#[test]
fn long_messages_go_at_once_without_urgent_calls() {
    let mut pair = Pair::new();
    let mut call = pair.start(Call::new(vec![7; LONG]));
    assert!(pair.given_at_once() > LONG);
    pair.settle();
    pair.echo();
    assert!(pair.poll(&mut call));
}

#[test]
fn after_an_urgent_call_only_a_window_of_fragments_is_unanswered() {
    let mut pair = Pair::new();
    pair.beat();
    let mut call = pair.start(Call::new(vec![7; LONG]));
    let given = pair.given_at_once();
    assert!((60_000..90_000).contains(&given), "{given} bytes");
    assert!(!pair.client.conn.wants_write(), "it would spin");
    // The answers let the rest go, and both ways: neither side waits for the other's PONG for ever.
    let mut other = pair.start(Call::new(vec![8; LONG]));
    pair.settle();
    for _ in 0..2 {
        pair.echo();
    }
    assert!(pair.poll(&mut call) && pair.poll(&mut other));
    assert_eq!(call.ok().len(), LONG);
    pair.assert_quiescent();
}

#[test]
fn replies_go_out_although_long_messages_wait() {
    let mut pair = Pair::new();
    pair.beat();
    pair.server.conn.urgent(pair.now);
    // More than fits into what may wait, on both sides, each held back until the other answers.
    let mut calls: Vec<_> = (0..3).map(|_| pair.start(Call::new(vec![7; LONG]))).collect();
    pair.settle();
    while calls.iter_mut().any(|call| !pair.poll(call)) {
        pair.settle();
        if let Poll::Ready(Some(arrived)) = poll(|cx| pair.server.conn.poll_request(cx)) {
            pair.server.conn.started(arrived.id, pair.now).expect("wanted");
            pair.server.reply(&arrived, &vec![9; LONG], pair.now);
        }
    }
    pair.assert_quiescent();
}

#[test]
fn urgency_is_forgotten_after_a_while() {
    let mut pair = Pair::new();
    pair.beat();
    pair.now += secs(31);
    let mut call = pair.start(Call::new(vec![7; LONG]));
    // The first fragment finds it out.
    assert!(pair.given_at_once() > LONG);
    pair.settle();
    pair.echo();
    assert!(pair.poll(&mut call));
}

#[test]
fn the_window_grows_on_a_long_way_and_shrinks_when_its_end_is_slow() {
    let mut pace = Pacing::new();
    pace.urgent(Time::ZERO);
    let mut ping = 0;
    let mut round = |pace: &mut Pacing, now: Time, trip: Time| {
        let mut sent = 0;
        while pace.admits() {
            sent += 16 << 10;
            if pace.sent(16 << 10, now) {
                ping += 1;
                pace.mark(ping, now);
            }
        }
        pace.answered(ping, now + trip);
        sent
    };
    // 100 ms there and back, whatever is sent: the link is long and not full.
    let sent: Vec<u64> = (0..200)
        .map(|step| round(&mut pace, ms(100 * step), ms(100)))
        .collect();
    assert!(sent[199] > 20 * sent[0], "{} after {}", sent[199], sent[0]);
    // Now each round trip is three times as long: what is sent waits somewhere.
    let sent: Vec<u64> = (0..400)
        .map(|step| round(&mut pace, secs(25) + ms(10 * step), ms(300)))
        .collect();
    assert!(sent[399] <= 128 << 10, "{} bytes", sent[399]);
}
