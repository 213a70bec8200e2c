//! Calls, replies, refusals and cancels.

use super::*;
use crate::conn::{Unstarted, Unwanted};

#[test]
fn reply_carries_the_message_and_the_receipt() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"dog");
    pair.now += ms(3);
    let arrived = pair.server.accept(pair.now);
    assert_eq!(arrived.procedure, ECHO);
    pair.now += ms(5);
    pair.server.reply(&arrived, b"brown", pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(call.ok(), b"brown");
    let reply = call.reply.as_ref().unwrap();
    assert_eq!((reply.queue_us, reply.run_us), (3000, 5000));
    pair.assert_quiescent();
}

#[test]
fn ids_of_the_connector_are_odd_and_those_of_the_acceptor_even() {
    let mut pair = Pair::new();
    let calls = [pair.call(b""), pair.call(b""), pair.call(b"")];
    assert_eq!(calls.map(|call| call.id.unwrap().0), [1, 3, 5]);
    let mut back = Call::new(b"");
    back.poll(&mut pair.server.conn, pair.now);
    assert_eq!(back.id.unwrap().0, 2);
}

#[test]
fn both_sides_call_each_other() {
    let mut pair = Pair::new();
    let mut there = pair.call(b"there");
    let mut back = Call::new(b"back");
    back.poll(&mut pair.server.conn, pair.now);
    pair.settle();
    pair.echo();
    let arrived = pair.client.accept(pair.now);
    pair.client.reply(&arrived, b"answer", pair.now);
    assert!(pair.poll(&mut there));
    assert!(back.poll(&mut pair.server.conn, pair.now));
    assert_eq!(back.ok(), b"answer");
    pair.assert_quiescent();
}

#[test]
fn replies_may_come_in_any_order() {
    let mut pair = Pair::new();
    let mut calls = [pair.call(b"a"), pair.call(b"b"), pair.call(b"c")];
    let arrived: Vec<_> = (0..3).map(|_| pair.server.accept(pair.now)).collect();
    for index in [2, 0, 1] {
        pair.server.reply(&arrived[index], &[index as u8], pair.now);
        assert!(pair.poll(&mut calls[index]));
        assert_eq!(calls[index].ok(), [index as u8]);
    }
    pair.assert_quiescent();
}

#[test]
fn waiting_caller_is_woken_by_the_reply() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    assert!(!call.flag.take());
    pair.echo();
    assert!(call.flag.take());
}

#[test]
fn requests_arrive_in_the_order_of_submission() {
    let mut pair = Pair::new();
    let _calls: Vec<_> = (0..9u8).map(|index| pair.start(Call::new([index]))).collect();
    pair.settle();
    let order: Vec<_> = (0..9).map(|_| pair.server.take().id.0).collect();
    assert!(order.is_sorted());
}

#[test]
fn metadata_travels_with_the_request() {
    let mut pair = Pair::new();
    let mut call = Call::new(b"x");
    call.metadata.insert("tenant", "seven");
    let _call = pair.start(call);
    pair.settle();
    assert_eq!(pair.server.take().metadata.get_str("tenant"), Some("seven"));
}

#[test]
fn too_much_metadata_fails_locally() {
    let mut pair = Pair::new();
    let mut call = Call::new(b"x");
    call.metadata.insert("k", vec![0; Metadata::MAX_LEN]);
    let call = pair.start(call);
    assert!(matches!(call.failure().cause, Cause::Metadata));
    assert_eq!(call.executed(), Executed::No);
    pair.assert_quiescent();
}

#[test]
fn refused_call_was_not_executed() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let arrived = pair.server.take();
    let status = status(Code::Unimplemented, "no such procedure");
    pair.server.conn.end(arrived.id, refused(&status), pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(call.executed(), Executed::No);
    assert_eq!(call.status(), &status);
    pair.assert_quiescent();
}

#[test]
fn failed_handler_was_executed_and_its_whole_status_travels() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    let metadata: Metadata = [("retry", "never")].into_iter().collect();
    let status = status(Code::NotFound, "no key")
        .with_details_bytes(&b"typed"[..])
        .with_metadata(metadata);
    pair.server.conn.end(arrived.id, End::Failed(&status), pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(call.executed(), Executed::Yes);
    assert_eq!(call.status(), &status);
}

#[test]
fn details_that_no_frame_can_carry_are_left_out() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    let status = status(Code::NotFound, "no key").with_details_bytes(vec![0; 1 << 20]);
    pair.server.conn.end(arrived.id, End::Failed(&status), pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(call.status().code(), Code::NotFound);
    assert!(call.status().details().is_empty());
}

#[test]
fn dropped_handler_may_have_executed() {
    let mut pair = Pair::new();
    let mut call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    pair.server.conn.end(arrived.id, End::Dropped, pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(call.executed(), Executed::Maybe);
    assert_eq!(call.status().code(), Code::Unavailable);
}

#[test]
fn cancel_of_a_queued_call_is_replied_at_once() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    call.abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    assert!(!pair.server.has_request());
    let reply = pair.client.last(Kind::Reply);
    assert_eq!(reply.code, Code::Cancelled as u32);
    assert!(reply.flags.contains(Flags::NOT_EXECUTED));
    pair.assert_quiescent();
}

#[test]
fn cancel_makes_a_running_handler_unwanted_and_its_slot_stays_taken() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let id = arrived.id;
    assert!(
        pair.server
            .conn
            .poll_unwanted(id, &mut Context::from_waker(&waker))
            .is_pending()
    );

    call.abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    assert!(flag.take());
    assert_eq!(
        ready(|cx| pair.server.conn.poll_unwanted(id, cx)),
        Unwanted::Cancelled
    );
    assert_eq!(pair.client.conn.ours.credit().calls().0, 1);
    assert_eq!(pair.server.conn.open_requests(), 1);

    pair.server.conn.end(id, End::Dropped, pair.now);
    pair.settle();
    assert!(pair.client.last(Kind::Reply).flags.contains(Flags::ABORTED));
    pair.assert_quiescent();
}

#[test]
fn cancelled_handler_may_still_reply_and_the_tombstone_swallows_it() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    call.abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    pair.server.reply(&arrived, b"late", pair.now);
    pair.settle();
    assert_eq!(pair.client.last(Kind::Reply).code, 0);
    pair.assert_quiescent();
}

#[test]
fn handler_that_is_cancelled_before_its_first_poll_is_not_started() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    let arrived = pair.server.take();
    call.abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    assert_eq!(
        pair.server.conn.started(arrived.id, pair.now),
        Err(Unstarted::Unwanted)
    );
    pair.server.conn.end(arrived.id, End::Dropped, pair.now);
    pair.settle();
    assert!(pair.client.last(Kind::Reply).flags.contains(Flags::NOT_EXECUTED));
    pair.assert_quiescent();
}

#[test]
fn dropping_a_call_whose_reply_is_there_sends_no_cancel() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    pair.echo();
    call.abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    assert_eq!(pair.server.count(Kind::Cancel), 0);
    assert_eq!(pair.client.conn.ours.calls().held(), (0, 0));
}

#[test]
fn cancel_that_crosses_the_reply_is_ignored() {
    let mut pair = Pair::new();
    let call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, b"y", pair.now);
    call.abandon(&mut pair.client.conn, pair.now);
    pair.settle();
    assert_eq!(pair.server.count(Kind::Cancel), 1);
    pair.assert_quiescent();
    let mut next = pair.call(b"x");
    pair.echo();
    assert!(pair.poll(&mut next));
}

#[test]
fn flood_of_cancelled_calls_keeps_nothing() {
    let mut pair = Pair::new();
    let _first = pair.call(b"first");
    for _ in 0..5000 {
        let call = pair.start(Call::new(b"x"));
        call.abandon(&mut pair.client.conn, pair.now);
        pair.settle();
    }
    assert_eq!(pair.server.conn.theirs.requests().held(&settings()).0, 1);
    assert!(pair.server.conn.theirs.requests().queued() < 100);
    pair.echo();
}

#[test]
fn request_over_the_peers_limit_fails_locally_with_both_sizes() {
    let mut pair = Pair::new();
    let call = pair.start(Call::new(vec![0; 5 << 20]));
    let Cause::TooLong { len, max } = call.failure().cause else {
        panic!("{:?}", call.outcome)
    };
    assert_eq!((len, max), ((5 << 20) + 5, 4 << 20));
    assert_eq!(call.executed(), Executed::No);
    let mut next = pair.call(b"fine");
    pair.echo();
    assert!(pair.poll(&mut next));
}

#[test]
fn reply_over_the_callers_limit_fails_that_call_as_executed_with_both_sizes() {
    let small = Settings {
        max_message: 1000,
        ..settings()
    };
    let mut pair = Pair::with(small, settings());
    let mut call = pair.call(b"x");
    let arrived = pair.server.accept(pair.now);
    pair.server.reply(&arrived, &[0; 2000], pair.now);
    assert!(pair.poll(&mut call));
    assert_eq!(call.executed(), Executed::Yes);
    assert_eq!(call.status().code(), Code::ResourceExhausted);
    let text = call.status().message();
    assert!(text.contains("2003") && text.contains("1000"), "{text}");
    pair.assert_quiescent();
}

#[test]
fn reply_that_does_not_fit_into_the_inbox_fails_its_own_call_only() {
    let small = Settings {
        inbox_bytes: 5000,
        ..settings()
    };
    let mut pair = Pair::with(small, settings());
    let mut calls = [pair.call(b"a"), pair.call(b"b"), pair.call(b"c")];
    for len in [4000, 3000, 10] {
        let arrived = pair.server.accept(pair.now);
        pair.server.reply(&arrived, &vec![7; len], pair.now);
    }
    pair.settle();
    for call in &mut calls {
        assert!(pair.poll(call));
    }
    assert_eq!(calls[0].ok().len(), 4000);
    assert!(matches!(calls[1].failure().cause, Cause::InboxFull { max: 5000 }));
    assert_eq!(calls[1].executed(), Executed::Yes);
    assert_eq!(calls[2].ok().len(), 10);
    pair.assert_quiescent();
}

#[test]
fn no_handler_starts_and_no_request_is_encoded_above_high_water() {
    let small = Settings {
        high_water: 1000,
        ..settings()
    };
    let mut pair = Pair::with(small.clone(), small);
    pair.client.open_window = 0;
    let first = pair.start(Call::new(vec![0; 2000]));
    let mut second = pair.start(Call::new(b"x"));
    assert!(!first.is_waiting_in_queue() && second.is_waiting_in_queue());
    pair.client.open_window = usize::MAX;
    pair.settle();
    assert!(second.flag.take());
    pair.poll(&mut second);
    pair.settle();

    pair.server.open_window = 0;
    let arrived = pair.server.accept(pair.now);
    assert!(poll(|cx| pair.server.conn.poll_room(arrived.id, 2000, cx)).is_ready());
    pair.server.reply(&arrived, &[0; 2000], pair.now);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    assert!(pair.server.conn.poll_request(&mut cx).is_pending());
    assert!(pair.server.conn.poll_room(arrived.id, 2000, &mut cx).is_pending());
    pair.server.open_window = usize::MAX;
    pair.settle();
    assert!(flag.take());
    pair.echo();
}

#[test]
fn debug_shows_no_payload_and_no_metadata() {
    let mut pair = Pair::new();
    let mut call = Call::new(b"payload-secret");
    call.metadata.insert("token", "metadata-secret");
    let mut call = pair.start(call);
    pair.settle();
    let before = format!("{:?} {:?}", pair.client.conn, pair.server.conn);
    let arrived = pair.server.accept(pair.now);
    let taken = format!("{arrived:?}");
    pair.server.reply(&arrived, b"reply-secret", pair.now);
    pair.settle();
    let after = format!("{:?} {:?}", pair.client.conn, pair.server.conn);
    assert!(pair.poll(&mut call));
    let all = format!("{before}{taken}{after}{:?}", call.reply);
    assert!(!all.contains("secret"), "{all}");
    // As lists of numbers, too.
    assert!(!all.contains("115, 101, 99, 114, 101, 116"), "{all}");
}

/// A message whose code is wrong: it panics, or its length is not what it says.
#[derive(Clone, Copy, Debug, Default)]
struct Wrong {
    panics: bool,
    says: usize,
}

impl Message for Wrong {
    fn encode_raw(&self, buf: &mut impl bytes::BufMut) {
        buf.put_slice(&[7; 20]);
        assert!(!self.panics, "on purpose");
    }
    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl Buf,
        _: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        Ok(())
    }
    fn encoded_len(&self) -> usize {
        self.says
    }
    fn clear(&mut self) {}
}

#[test]
fn a_message_that_panics_costs_nothing_but_its_own_call() {
    let panics = |f: &mut dyn FnMut()| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).expect_err("it does not panic");
    };
    for (panicking, says) in [(true, 20), (true, 300_000), (false, 19), (false, 21)] {
        let wrong = Wrong {
            panics: panicking,
            says,
        };
        let mut pair = Pair::new();
        let request = Request {
            procedure: ECHO,
            ..Request::default()
        };
        let cx = &mut Context::from_waker(Waker::noop());
        let conn = &mut pair.client.conn;
        panics(&mut || drop(conn.poll_call(&mut Ticket::default(), &request, &wrong, pair.now, cx)));
        panics(&mut || drop(conn.poll_send(&mut Ticket::default(), &request, &wrong, pair.now, cx)));
        let mut call = pair.call(b"x");
        let arrived = pair.server.accept(pair.now);
        panics(&mut || pair.server.conn.reply(arrived.id, &wrong, pair.now));
        let panicked = status(Code::Unknown, "handler panicked");
        pair.server.conn.end(arrived.id, End::Failed(&panicked), pair.now);
        assert!(pair.poll(&mut call));
        assert_eq!(
            (call.status().code(), call.executed()),
            (Code::Unknown, Executed::Yes)
        );
        let mut next = pair.call(b"next");
        pair.echo();
        assert!(pair.poll(&mut next));
        assert_eq!(next.ok(), b"next");
        assert_eq!(pair.client.conn.uncovered(), crate::conn::Uncovered::default());
        pair.assert_quiescent();
    }
}
