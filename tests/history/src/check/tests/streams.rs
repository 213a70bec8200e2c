//! Each fault of a call with streams, in a history made by hand.

use super::*;
use crate::journal::{Moved, Reading};

/// A caller that sent two messages, said so, and read three.
const FLOW: Flow = Flow {
    offered: 2,
    sent: 2,
    finished: true,
    read: 3,
    disordered: false,
    counted: None,
    limit: u32::MAX,
};

/// Its handler.
const MOVED: Moved = Moved {
    got: 2,
    gave: 3,
    reading: Reading::Whole,
};

#[test]
fn streams_that_were_read_by_both_to_their_ends_hold() {
    let counted = Flow {
        counted: Some(2),
        read: 0,
        ..FLOW
    };
    let gathered = Moved { gave: 0, ..MOVED };
    // The handler read one message, as its script said.
    let early = Flow { limit: 1, ..FLOW };
    let quit = Moved {
        got: 1,
        reading: Reading::Open,
        ..MOVED
    };
    let summary = run()
        .stream(1, Outcome::Ok, FLOW, Some((Event::Ended, MOVED)))
        .stream(2, Outcome::Ok, counted, Some((Event::Ended, gathered)))
        .stream(3, Outcome::Ok, early, Some((Event::Ended, quit)))
        .stream(4, failed(NO), Flow::default(), None)
        .holds();
    assert_eq!((summary.calls, summary.streams, summary.ok), (4, 4, 3));
    assert_eq!((summary.messages_read, summary.messages_gathered), (6, 5));
}

#[test]
fn a_short_success_is_found() {
    let ended = |moved| Some((Event::Ended, moved));
    let fewer = Flow { read: 2, ..FLOW };
    run()
        .stream(1, Outcome::Ok, fewer, ended(MOVED))
        .breaks(Fault::ShortSuccess);
    let not_to_the_end = Moved {
        got: 1,
        reading: Reading::Open,
        ..MOVED
    };
    run()
        .stream(1, Outcome::Ok, FLOW, ended(not_to_the_end))
        .breaks(Fault::ShortSuccess);
    let miscounted = Flow {
        counted: Some(1),
        ..FLOW
    };
    run()
        .stream(1, Outcome::Ok, miscounted, ended(MOVED))
        .breaks(Fault::ShortSuccess);
}

#[test]
fn a_false_end_of_a_stream_is_found_after_every_outcome() {
    let handler = || Some((Event::Ended, MOVED));
    for outcome in [Outcome::Ok, Outcome::Cancelled, failed(MAYBE)] {
        let unfinished = Flow {
            finished: false,
            ..FLOW
        };
        run()
            .stream(1, outcome, unfinished, handler())
            .breaks(Fault::EndTooEarly);
        let more = Flow {
            offered: 3,
            sent: 3,
            ..FLOW
        };
        run()
            .stream(1, outcome, more, handler())
            .breaks(Fault::EndTooEarly);
    }
}

#[test]
fn messages_without_a_sender_are_found() {
    let dropped = |moved| Some((Event::Dropped, moved));
    let more_read = Flow { read: 4, ..FLOW };
    run()
        .stream(1, failed(MAYBE), more_read, dropped(MOVED))
        .breaks(Fault::MessagesFromNowhere);
    let more_got = Moved {
        got: 3,
        reading: Reading::Open,
        ..MOVED
    };
    run()
        .stream(1, Outcome::Cancelled, FLOW, dropped(more_got))
        .breaks(Fault::MessagesFromNowhere);
    // No handler ran, but a message was read.
    run()
        .stream(1, failed(MAYBE), FLOW, None)
        .breaks(Fault::MessagesFromNowhere);
}

#[test]
fn messages_out_of_order_are_found_on_either_side() {
    let disordered = Flow {
        disordered: true,
        ..FLOW
    };
    run()
        .stream(1, Outcome::Cancelled, disordered, Some((Event::Ended, MOVED)))
        .breaks(Fault::Disordered);
    let moved = Moved {
        reading: Reading::Disordered,
        ..MOVED
    };
    run()
        .stream(1, Outcome::Cancelled, FLOW, Some((Event::Failed, moved)))
        .breaks(Fault::Disordered);
}

#[test]
fn a_failure_that_overtakes_messages_is_found() {
    let reading = |read| {
        let flow = Flow { read, ..FLOW };
        run().stream(1, failed(YES), flow, Some((Event::Failed, MOVED)))
    };
    reading(3).holds();
    // The loss may have come between two fragments of a message.
    reading(2).holds();
    reading(1).breaks(Fault::MessagesLost);
}

#[test]
fn messages_of_a_killed_handler_are_not_compared() {
    let mut run = run().ran(1, false, &[Event::Started]);
    run.record(1, Kind::Stream, failed(MAYBE));
    run.history.records.last_mut().unwrap().flow = FLOW;
    run.holds();
}
