//! Streams: messages in order, credit, ends.

use super::*;

/// A call with streams, as its two ends use it.
pub(super) struct Stream {
    pub(super) id: CallId,
    pub(super) arrived: Option<Arrived>,
}

pub(super) fn shaped(shape: Shape) -> Request<'static> {
    Request {
        procedure: ECHO,
        shape,
        ..Request::default()
    }
}

impl Pair {
    /// Opens a call with streams, and starts its handler.
    pub(super) fn open(&mut self, shape: Shape) -> Stream {
        self.open_as(&shaped(shape))
    }

    pub(super) fn open_as(&mut self, request: &Request<'_>) -> Stream {
        let mut ticket = Ticket::default();
        let now = self.now;
        let conn = &mut self.client.conn;
        let id = ready(|cx| conn.poll_call(&mut ticket, request, &Vec::<u8>::new(), now, cx))
            .expect("it is taken");
        self.settle();
        let arrived = self.server.accept(self.now);
        assert_eq!(arrived.streams, request.shape.has_request_stream());
        Stream {
            id,
            arrived: Some(arrived),
        }
    }
}

impl Node {
    pub(super) fn put(&mut self, id: CallId, message: &[u8], now: Time) -> Poll<Result<(), Unsent>> {
        let conn = &mut self.conn;
        let sent = poll(|cx| conn.poll_data(id, &message.to_vec(), now, cx));
        self.wake();
        sent
    }

    /// Sends what must go at once.
    pub(super) fn must_put(&mut self, id: CallId, message: &[u8], now: Time) {
        assert!(
            matches!(self.put(id, message, now), Poll::Ready(Ok(()))),
            "not sent"
        );
    }

    pub(super) fn next(&mut self, id: CallId, now: Time) -> Poll<Next> {
        let conn = &mut self.conn;
        let next = poll(|cx| conn.poll_message(id, None, now, cx));
        self.wake();
        next
    }

    /// The next message, which must be there.
    pub(super) fn message(&mut self, id: CallId, now: Time) -> Vec<u8> {
        if !self.has_unread(id) {
            match self.next(id, now) {
                Poll::Ready(Next::Message(item)) => {
                    self.unread
                        .extend(item.messages().into_iter().map(|message| (id, message)));
                }
                other => panic!("no message but {other:?}"),
            }
        }
        let index = self.unread.iter().position(|(of, _)| *of == id).unwrap();
        let (_, message) = self.unread.remove(index).unwrap();
        Vec::<u8>::decode(message).expect("it can be parsed")
    }

    fn has_unread(&self, id: CallId) -> bool {
        self.unread.iter().any(|(of, _)| *of == id)
    }

    pub(super) fn is_at_end(&mut self, id: CallId, now: Time) -> bool {
        !self.has_unread(id) && matches!(self.next(id, now), Poll::Ready(Next::End))
    }

    pub(super) fn outcome(&mut self, id: CallId) -> Result<ReceivedReply, CallFailure> {
        ready(|cx| self.conn.poll_reply(id, cx))
    }
}

#[test]
fn messages_of_both_streams_arrive_in_order_and_neither_waits_for_the_end_of_the_other() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::Both);
    let arrived = arrived.unwrap();
    pair.server.must_put(id, b"first of the server", pair.now);
    pair.settle();
    assert_eq!(pair.client.message(id, pair.now), b"first of the server");
    for message in [&b"1"[..], b"", b"3"] {
        pair.client.must_put(id, message, pair.now);
    }
    pair.settle();
    for message in [&b"1"[..], b"", b"3"] {
        assert_eq!(pair.server.message(id, pair.now), message);
    }
    assert!(pair.server.next(id, pair.now).is_pending());
    pair.client.conn.finish_data(id, pair.now);
    pair.settle();
    assert!(pair.server.is_at_end(id, pair.now));
    pair.server.must_put(id, b"last", pair.now);
    pair.server.conn.reply(arrived.id, &(), pair.now);
    pair.settle();
    assert_eq!(pair.client.message(id, pair.now), b"last");
    assert!(pair.client.is_at_end(id, pair.now));
    assert!(pair.client.outcome(id).unwrap().payload.bytes().is_empty());
    pair.assert_quiescent();
}

#[test]
fn a_reader_that_stops_costs_its_window_and_nothing_else() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::ReplyStream);
    let message = vec![7; 10_000];
    let mut sent = 0;
    while pair.server.put(id, &message, pair.now).is_ready() {
        sent += 1;
        pair.settle();
    }
    // The last may begin while there is any credit.
    assert_eq!(sent, (64usize << 10).div_ceil(10_003 + 256));
    let call = &mut pair.call(b"another");
    pair.echo();
    assert!(pair.poll(call));
    for _ in 0..sent {
        assert_eq!(pair.client.message(id, pair.now), message);
    }
    pair.settle();
    pair.server.must_put(id, &message, pair.now);
    pair.server.conn.reply(arrived.unwrap().id, &(), pair.now);
    pair.settle();
    pair.client.message(id, pair.now);
    assert!(pair.client.is_at_end(id, pair.now));
    pair.client.outcome(id).unwrap();
    pair.assert_quiescent();
}

#[test]
fn a_long_message_travels_in_fragments_and_the_reply_and_the_end_stay_behind_it() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::Both);
    let long = vec![9; 1 << 20];
    pair.client.must_put(id, &long, pair.now);
    assert!(pair.client.put(id, b"too early", pair.now).is_pending());
    pair.client.conn.finish_data(id, pair.now);
    pair.settle();
    assert_eq!(pair.server.message(id, pair.now), long);
    assert!(pair.server.is_at_end(id, pair.now));
    pair.server.must_put(id, &long, pair.now);
    let arrived = arrived.unwrap();
    let conn = &mut pair.server.conn;
    assert!(
        poll(|cx| conn.poll_room(arrived.id, 0, cx)).is_pending(),
        "a reply would overtake"
    );
    pair.settle();
    pair.server.conn.reply(arrived.id, &(), pair.now);
    pair.settle();
    assert_eq!(pair.client.message(id, pair.now), long);
    assert!(pair.client.is_at_end(id, pair.now));
    pair.client.outcome(id).unwrap();
    pair.assert_quiescent();
}

#[test]
fn a_failure_in_the_middle_comes_behind_the_messages_before_it() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::ReplyStream);
    pair.server.must_put(id, b"one", pair.now);
    let status = Status::new(Code::DataLoss, "no more");
    pair.server
        .conn
        .end(arrived.unwrap().id, End::Failed(&status), pair.now);
    pair.settle();
    assert_eq!(pair.client.message(id, pair.now), b"one");
    assert!(pair.client.is_at_end(id, pair.now));
    let failure = pair.client.outcome(id).unwrap_err();
    assert_eq!(failure.executed, Executed::Yes);
    assert_eq!(failure.phase, crate::Phase::Stream);
    assert!(matches!(failure.cause, Cause::Replied(status) if status.message() == "no more"));
    pair.assert_quiescent();
}

#[test]
fn an_abandoned_stream_of_requests_is_an_error_in_its_handler() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::RequestStream);
    pair.client.must_put(id, b"one", pair.now);
    pair.client.conn.fail_call(id, Cause::Abandoned, pair.now);
    assert!(matches!(
        pair.client.put(id, b"two", pair.now),
        Poll::Ready(Err(Unsent::Over(Some(_))))
    ));
    assert!(matches!(
        pair.client.outcome(id).unwrap_err().cause,
        Cause::Abandoned
    ));
    pair.settle();
    let Poll::Ready(Next::Broken(status)) = pair.server.next(id, pair.now) else {
        panic!("its stream is broken");
    };
    assert!(
        status.message().contains("dropped its Sender without finish()"),
        "{status}"
    );
    pair.server.conn.end(arrived.unwrap().id, End::Dropped, pair.now);
    pair.settle();
    pair.assert_quiescent();
}

#[test]
fn requests_that_cross_an_early_reply_are_no_fault() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::RequestStream);
    for _ in 0..5 {
        pair.client.must_put(id, &[0; 5000], pair.now);
    }
    pair.server
        .conn
        .reply(arrived.unwrap().id, &b"enough".to_vec(), pair.now);
    let left = pair.server.conn.peer.faults.left();
    pair.settle();
    assert_eq!(pair.server.conn.peer.faults.left(), left);
    assert!(matches!(
        pair.client.put(id, b"more", pair.now),
        Poll::Ready(Err(Unsent::Over(None)))
    ));
    pair.client.outcome(id).unwrap();
    pair.assert_quiescent();
}

#[test]
fn a_fast_reader_gets_a_wider_window_and_all_widenings_stay_in_their_budget() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::ReplyStream);
    let message = vec![7; 16_000];
    for _ in 0..1000 {
        pair.server.must_put(id, &message, pair.now);
        pair.settle();
        pair.client.message(id, pair.now);
        pair.settle();
    }
    assert_eq!(pair.client.conn.held().widened, (8 << 20) - (64 << 10));
    pair.server.conn.reply(arrived.unwrap().id, &(), pair.now);
    pair.settle();
    assert!(pair.client.is_at_end(id, pair.now));
    pair.client.outcome(id).unwrap();
    pair.assert_quiescent();
}

#[test]
fn a_still_stream_fails_at_its_idle_timeout() {
    let mut pair = Pair::new();
    let request = Request {
        idle: Some(secs(5)),
        ..shaped(Shape::ReplyStream)
    };
    let Stream { id, arrived } = pair.open_as(&request);
    pair.advance(secs(4));
    pair.server.must_put(id, b"still here", pair.now);
    pair.settle();
    // Nobody reads for long, which is not the stream's fault.
    pair.advance(secs(20));
    pair.client.message(id, pair.now);
    pair.advance(secs(4));
    assert!(pair.client.next(id, pair.now).is_pending());
    pair.advance(secs(1));
    assert!(pair.client.is_at_end(id, pair.now));
    let failure = pair.client.outcome(id).unwrap_err();
    assert!(matches!(failure.cause, Cause::Idle { after } if after == secs(5)));
    pair.server.conn.end(arrived.unwrap().id, End::Dropped, pair.now);
    pair.settle();
    pair.assert_quiescent();
}

#[test]
fn a_handler_that_fails_because_its_streams_were_cut_off_was_dropped() {
    for shape in [Shape::ReplyStream, Shape::RequestStream] {
        let mut pair = Pair::new();
        let Stream { id, arrived } = pair.open(shape);
        let arrived = arrived.unwrap();
        pair.server.conn.abort_calls(pair.now);
        let told = if shape.has_reply_stream() {
            match pair.server.put(id, b"late", pair.now) {
                Poll::Ready(Err(Unsent::Over(None))) => Status::new(Code::Cancelled, "the call is over"),
                other => panic!("{other:?}"),
            }
        } else {
            match pair.server.next(id, pair.now) {
                Poll::Ready(Next::Broken(status)) => status,
                other => panic!("{other:?}"),
            }
        };
        pair.server.conn.end(arrived.id, End::Failed(&told), pair.now);
        assert_eq!(pair.server.conn.tally().aborted, 1, "{shape:?}");
        pair.settle();
        assert!(pair.client.is_at_end(id, pair.now));
        let failure = pair.client.outcome(id).unwrap_err();
        assert_eq!(failure.executed, Executed::Maybe, "{shape:?}: {failure:?}");
        assert!(
            matches!(&failure.cause, Cause::Replied(status) if status.code() == Code::Unavailable),
            "{failure:?}"
        );
    }
}
