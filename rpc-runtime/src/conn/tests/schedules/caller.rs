//! Caller: a request of one side, with the parts that open it, send to it and receive from it.

use std::collections::VecDeque;

use super::{
    log::{Log, check_message, check_next, message},
    part::{Part, Polled, send},
    *,
};
use crate::conn::JoiningSend;

/// A request of one side, and the parts that use it.
pub(super) struct Caller {
    /// The number of its first message: a one-way request is known by it.
    number: usize,
    pub(super) client: bool,
    pub(super) way: Way,
    pub(super) ending: Ending,
    deadline: Option<Time>,
    idle: Option<Duration>,
    ticket: Ticket,
    pub(super) id: Option<CallId>,
    rest: VecDeque<usize>,
    /// The number of messages that it has read.
    read: usize,
    pub(super) outcome: Option<Result<ReceivedReply, CallFailure>>,
    /// The id of a one-way request that the connection took.
    pub(super) sent: Option<CallId>,
    pub(super) dropped: bool,
    pub(super) open: Part,
    pub(super) send: Part,
    pub(super) receive: Part,
}

impl Caller {
    pub(super) fn new(number: usize, start: &Start, now: Time) -> Self {
        Self {
            number,
            client: start.client,
            way: start.way,
            ending: start.ending,
            deadline: start.timeout_ms.map(|timeout| now + ms(timeout)),
            idle: start.idle_ms.map(ms),
            ticket: Ticket::default(),
            id: None,
            rest: start.lens.iter().copied().collect(),
            read: 0,
            outcome: None,
            sent: None,
            dropped: false,
            open: Part::new(),
            send: Part::none(),
            receive: Part::none(),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        match self.way {
            Way::Send | Way::Control => Shape::Unary,
            Way::Call(shape) => shape,
        }
    }

    /// Opens the call.
    pub(super) fn poll_open(&mut self, conn: &mut Connection, now: Time) -> Polled {
        let waker = self.open.waker();
        let cx = &mut Context::from_waker(&waker);
        let request = Request {
            procedure: if self.way == Way::Control { CONTROL } else { ECHO },
            control: self.way == Way::Control,
            deadline: self.deadline,
            shape: self.shape(),
            idle: self.idle,
            ..Request::default()
        };
        let len = self.rest.front().copied().unwrap_or_default();
        let is_new = self.ticket.0.is_none();
        // Every third one goes the long way, which may find the same frame.
        if self.way == Way::Send && is_new && self.deadline.is_none() && len % 3 > 0 {
            let is_joined = conn.join_send(&JOINING, &message(self.number, len));
            if is_joined {
                self.sent = Some(CallId(conn.ours.last_id()));
                return Polled::Done;
            }
        }
        let ticket = &mut self.ticket;
        let opened = match self.way {
            Way::Send => conn
                .poll_send(ticket, &request, &message(self.number, len), now, cx)
                .map(|sent| sent.map(|()| None)),
            Way::Call(shape) if shape.has_request_stream() => {
                conn.poll_call(ticket, &request, &(), now, cx).map_ok(Some)
            }
            Way::Call(_) | Way::Control => conn
                .poll_call(ticket, &request, &message(0, len), now, cx)
                .map_ok(Some),
        };
        match opened {
            Poll::Pending => return Polled::Waits,
            Poll::Ready(Err(failure)) => self.outcome = Some(Err(failure)),
            Poll::Ready(Ok(None)) => self.sent = Some(CallId(conn.ours.last_id())),
            Poll::Ready(Ok(Some(id))) => {
                self.id = Some(id);
                self.receive = Part::new();
                if self.shape().has_request_stream() {
                    self.send = Part::new();
                }
            }
        }
        Polled::Done
    }

    /// Checks that `payload` is the message of this one-way request.
    pub(super) fn check_sent(&self, payload: Bytes) {
        let len = self.rest.front().copied().unwrap_or_default();
        check_message(payload, self.number, len);
    }

    /// Sends a message or ends the stream. It finds the connection as its last visitor left it, perhaps with a lease.
    pub(super) fn poll_send(
        &mut self,
        conn: &mut Connection,
        log: &mut Log,
        late: bool,
        now: Time,
    ) -> Polled {
        let id = self.id.expect("it is open");
        let Some(&len) = self.rest.front() else {
            if self.ending == Ending::FinishLate && !late {
                return Polled::Waits;
            }
            conn.end_lease();
            match self.ending {
                Ending::Finish | Ending::FinishLate => {
                    conn.finish_data(id, now);
                    log.finished = true;
                }
                Ending::Abandon => conn.fail_call(id, Cause::Abandoned, now),
            }
            return Polled::Done;
        };
        let message = message(log.requests.len(), len);
        let waker = self.send.waker();
        match send(conn, id, &message, now, &waker) {
            Poll::Pending => Polled::Waits,
            Poll::Ready(Ok(())) => {
                self.rest.pop_front();
                log.requests.push(len);
                Polled::Moved
            }
            Poll::Ready(Err(Unsent::Over(_))) => Polled::Done,
            Poll::Ready(Err(Unsent::TooLong { .. })) => {
                conn.fail_call(id, Cause::Abandoned, now);
                Polled::Done
            }
        }
    }

    /// Reads a message or takes the outcome.
    pub(super) fn poll_receive(&mut self, conn: &mut Connection, log: &Log, now: Time) -> Polled {
        let id = self.id.expect("it is open");
        let waker = self.receive.waker();
        let cx = &mut Context::from_waker(&waker);
        if self.shape().has_reply_stream() {
            match conn.poll_message(id, None, now, cx) {
                Poll::Pending => return Polled::Waits,
                Poll::Ready(Next::Message(payload)) => {
                    for message in payload.messages() {
                        check_next(message, self.read, &log.replies);
                        self.read += 1;
                    }
                    return Polled::Moved;
                }
                Poll::Ready(Next::End) => {
                    let Poll::Ready(outcome) = conn.poll_reply(id, cx) else {
                        panic!("the stream has ended, and the call has no outcome");
                    };
                    self.complete(outcome, log);
                    return Polled::Done;
                }
                Poll::Ready(next @ Next::Broken(_)) => panic!("{next:?} for a caller"),
            }
        }
        match conn.poll_reply(id, cx) {
            Poll::Pending => Polled::Waits,
            Poll::Ready(outcome) => {
                self.complete(outcome, log);
                Polled::Done
            }
        }
    }

    fn complete(&mut self, outcome: Result<ReceivedReply, CallFailure>, log: &Log) {
        if let Ok(reply) = &outcome {
            let len = log.replied.expect("a reply without a handler that replied");
            if self.shape().has_reply_stream() {
                assert_eq!(self.read, log.replies.len(), "a short success");
                assert!(reply.payload.bytes().is_empty());
            } else {
                check_next(reply.payload.bytes().clone(), 0, &[len]);
            }
        }
        self.outcome = Some(outcome);
    }

    /// Drops all parts.
    pub(super) fn drop_all(&mut self, conn: &mut Connection, now: Time) {
        if self.dropped {
            return;
        }
        self.dropped = true;
        conn.drop_ticket(&mut self.ticket);
        if let (Some(id), None) = (self.id, &self.outcome) {
            conn.drop_call(id, now);
        }
        for part in [&mut self.open, &mut self.send, &mut self.receive] {
            part.end();
        }
    }
}

/// A one-way request as its caller first tries to send it.
const JOINING: JoiningSend = JoiningSend {
    procedure: ECHO,
    timeout: None,
    priority: Priority::Normal,
};
