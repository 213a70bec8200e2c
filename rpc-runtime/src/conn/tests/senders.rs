//! Who sends a stream: what it waits for, and what ends its waiting.

use super::{
    streams::{Stream, shaped},
    *,
};

impl Pair {
    /// A call whose requests are a stream, with a deadline in `time`.
    fn open_for(&mut self, time: Time) -> Stream {
        self.open_as(&Request {
            deadline: Some(self.now + time),
            ..shaped(Shape::RequestStream)
        })
    }

    /// Whether the client's sender was woken, which has not been asked since.
    fn poll_data(&mut self, id: CallId, message: &[u8], flag: &Arc<Flag>) -> Poll<Result<(), Unsent>> {
        let waker = Waker::from(Arc::clone(flag));
        let conn = &mut self.client.conn;
        let sent = conn.poll_data(id, &message.to_vec(), self.now, &Context::from_waker(&waker));
        self.client.wake();
        sent
    }
}

#[test]
fn a_sender_that_waits_for_room_learns_that_its_call_is_over() {
    let mut pair = Pair::with(
        Settings {
            high_water: 1000,
            ..settings()
        },
        settings(),
    );
    let Stream { id, .. } = pair.open_for(secs(1));
    // The peer takes nothing: what is put stays here.
    pair.client.open_window = 0;
    pair.client.must_put(id, &[7; 2000], pair.now);
    pair.settle();
    let flag = Arc::new(Flag::default());
    assert!(pair.poll_data(id, b"more", &flag).is_pending());
    assert!(!flag.take());
    pair.advance(secs(1));
    assert!(flag.take(), "nobody told the sender");
    let Poll::Ready(Err(Unsent::Over(Some(failure)))) = pair.poll_data(id, b"more", &flag) else {
        panic!("it still waits");
    };
    assert!(matches!(failure.cause, Cause::Deadline));
}

#[test]
fn a_sender_that_waits_for_credit_learns_that_its_call_is_over() {
    let mut pair = Pair::new();
    let Stream { id, .. } = pair.open_for(secs(1));
    let flag = Arc::new(Flag::default());
    while pair.poll_data(id, &[7; 10_000], &flag).is_ready() {
        pair.settle();
    }
    flag.take();
    pair.advance(secs(1));
    assert!(flag.take(), "nobody told the sender");
    assert!(pair.poll_data(id, b"more", &flag).is_ready());
}

#[test]
fn an_idle_sender_learns_of_the_end_only() {
    let mut pair = Pair::new();
    let Stream { id, arrived } = pair.open(Shape::RequestStream);
    let arrived = arrived.unwrap();
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let cx = Context::from_waker(&waker);
    assert!(pair.client.conn.poll_unsendable(id, &cx).is_pending());
    pair.client.must_put(id, b"one", pair.now);
    pair.settle();
    assert!(pair.client.conn.poll_unsendable(id, &cx).is_pending());
    pair.server.reply(&arrived, b"early", pair.now);
    pair.settle();
    assert!(flag.take());
    let over = pair.client.conn.poll_unsendable(id, &cx);
    assert!(matches!(over, Poll::Ready(Unsent::Over(None))), "{over:?}");
    pair.client.outcome(id).unwrap();
    pair.assert_quiescent();
}
