//! Handler: the other end of a request, with parts that read, write and end it.

use std::collections::VecDeque;

use super::{
    log::{Log, check_next, message},
    part::{Part, Polled, send},
    *,
};
use crate::api::server_limit::ServerLimit;

/// A handler, and the two halves of it that may run at once.
pub(super) struct Handler {
    pub(super) client: bool,
    pub(super) id: CallId,
    pub(super) shape: Shape,
    one_way: bool,
    control: bool,
    /// False if it is refused or dropped before its first poll.
    started: bool,
    plan: Plan,
    rest: VecDeque<usize>,
    broken: Option<Status>,
    pub(super) main: Part,
    pub(super) read: Part,
    pub(super) write: Part,
}

impl Handler {
    pub(super) fn new(client: bool, arrived: &Arrived, shape: Shape, started: bool, plan: Plan) -> Self {
        assert_eq!(arrived.streams, shape.has_request_stream());
        let part = |wanted: bool| {
            if started && wanted {
                Part::new()
            } else {
                Part::none()
            }
        };
        Self {
            client,
            id: arrived.id,
            shape,
            one_way: arrived.one_way,
            control: arrived.procedure == CONTROL,
            started,
            rest: plan.lens.iter().copied().collect(),
            plan,
            broken: None,
            main: Part::new(),
            read: part(shape.has_request_stream()),
            write: part(shape.has_reply_stream()),
        }
    }

    /// Reads a message.
    pub(super) fn poll_read(&mut self, conn: &mut Connection, log: &mut Log, now: Time) -> Polled {
        if log.read >= self.plan.reads {
            return Polled::Done;
        }
        let waker = self.read.waker();
        match conn.poll_message(self.id, None, now, &Context::from_waker(&waker)) {
            Poll::Pending => Polled::Waits,
            Poll::Ready(Next::Message(payload)) => {
                for message in payload.messages() {
                    check_next(message, log.read, &log.requests);
                    if self.plan.echo && self.shape.has_reply_stream() {
                        self.rest.push_back(log.requests[log.read]);
                    }
                    log.read += 1;
                }
                Polled::Moved
            }
            Poll::Ready(Next::End) => {
                assert!(log.finished, "an end that the caller did not send");
                assert_eq!(log.read, log.requests.len(), "a short success");
                Polled::Done
            }
            Poll::Ready(Next::Broken(status)) => {
                self.broken = Some(status);
                Polled::Done
            }
        }
    }

    /// Sends a message. It finds the connection as its last visitor left it, perhaps with a lease.
    pub(super) fn poll_write(&mut self, conn: &mut Connection, log: &mut Log, now: Time) -> Polled {
        let Some(&len) = self.rest.front() else {
            return if self.read.is_done() {
                Polled::Done
            } else {
                Polled::Waits
            };
        };
        let message = message(log.replies.len(), len);
        let waker = self.write.waker();
        match send(conn, self.id, &message, now, &waker) {
            Poll::Pending => Polled::Waits,
            Poll::Ready(Ok(())) => {
                self.rest.pop_front();
                log.replies.push(len);
                Polled::Moved
            }
            Poll::Ready(Err(Unsent::Over(_))) => Polled::Done,
            Poll::Ready(Err(Unsent::TooLong { .. })) => {
                self.broken = Some(status(Code::Internal, "too long"));
                Polled::Done
            }
        }
    }

    /// Ends the call, or learns that its caller is gone.
    pub(super) fn poll_main(&mut self, conn: &mut Connection, log: &mut Log, now: Time) -> Polled {
        let waker = self.main.waker();
        let cx = &mut Context::from_waker(&waker);
        if !self.started {
            return self.refuse(conn, now);
        }
        if conn.poll_unwanted(self.id, cx).is_ready() {
            return self.kill(conn, now);
        }
        if !self.read.is_done() || !self.write.is_done() {
            return Polled::Waits;
        }
        let len = match self.plan.end {
            Finish::Reply(len) if !self.shape.has_reply_stream() => len,
            _ => 0,
        };
        if !self.one_way && conn.poll_room(self.id, len, cx).is_pending() {
            return Polled::Waits;
        }
        let failed = status(Code::NotFound, "no");
        match (&self.broken, self.plan.end) {
            (Some(status), _) => conn.end(self.id, End::Failed(status), now),
            (None, Finish::Fail | Finish::Refuse) => conn.end(self.id, End::Failed(&failed), now),
            (None, Finish::Drop) => conn.end(self.id, End::Dropped, now),
            (None, Finish::Reply(len)) => {
                log.replied = Some(len);
                if self.shape.has_reply_stream() {
                    conn.reply(self.id, &(), now);
                } else {
                    conn.reply(self.id, &message(0, len), now);
                }
            }
        }
        Polled::Done
    }

    /// Refuses the request or drops it, without a start.
    fn refuse(&self, conn: &mut Connection, now: Time) -> Polled {
        let no = status(Code::NotFound, "no");
        let end = match self.plan.end {
            // The peer is blamed for a refusal, except if it is for overload and of no control call.
            Finish::Refuse if !self.control => End::Refused {
                status: &no,
                reason: RefusalReason::Over(ServerLimit::MaxWaitingHandlers),
            },
            _ => End::Dropped,
        };
        conn.end(self.id, end, now);
        Polled::Done
    }

    /// Drops the handler.
    pub(super) fn kill(&mut self, conn: &mut Connection, now: Time) -> Polled {
        conn.end(self.id, End::Dropped, now);
        for part in [&mut self.main, &mut self.read, &mut self.write] {
            part.end();
        }
        Polled::Done
    }
}
