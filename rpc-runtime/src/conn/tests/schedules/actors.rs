//! Those who use the two connections: callers and handlers, each of several parts that are polled only when they were
//! woken or have more to do.

use std::collections::VecDeque;

use super::*;

/// Something that is polled.
pub(super) struct Part {
    flag: Arc<Flag>,
    /// Whether it has more to do, so that nobody needs to wake it.
    ready: bool,
    done: bool,
}

/// What came of a poll.
pub(super) enum Polled {
    /// It did something, and may have more to do.
    Moved,
    /// It waits, and will be woken.
    Waits,
    Done,
}

impl Part {
    /// One that has something to do.
    pub(super) fn new() -> Self {
        Self {
            flag: Arc::default(),
            ready: true,
            done: false,
        }
    }

    /// One that has nothing to do.
    pub(super) fn none() -> Self {
        Self {
            done: true,
            ..Self::new()
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn end(&mut self) {
        self.done = true;
    }

    /// Lets it go on, for a reason of its own task.
    pub(super) fn nudge(&mut self) {
        self.ready = true;
    }

    /// Whether it is to be polled.
    pub(super) fn wants(&mut self) -> bool {
        self.ready |= self.flag.take();
        self.ready && !self.done
    }

    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.flag))
    }

    pub(super) fn note(&mut self, polled: &Polled) {
        self.ready = matches!(polled, Polled::Moved);
        self.done |= matches!(polled, Polled::Done);
    }
}

/// What went over a call, as its two ends saw it.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// How often its handler was started.
    pub(super) started: usize,
    /// How long the messages were that the caller sent, and whether it said that they were all.
    pub(super) requests: Vec<usize>,
    pub(super) finished: bool,
    /// Those that the handler read.
    pub(super) read: usize,
    pub(super) replies: Vec<usize>,
    /// The handler ended well, by this message if it is not a stream.
    pub(super) replied: Option<usize>,
}

/// The message with this number in its stream.
pub(super) fn message(number: usize, len: usize) -> Vec<u8> {
    vec![number as u8; len]
}

/// Checks that `payload` is the next message of `sent` behind `read` others.
pub(super) fn check_next(payload: Bytes, read: usize, sent: &[usize]) {
    let found = Vec::<u8>::decode(payload).expect("no message");
    let len = *sent.get(read).expect("a message that was never sent");
    assert_eq!(found.len(), len, "message {read}");
    assert!(found.iter().all(|&byte| byte == read as u8), "message {read}");
}

/// A request of one side, and those who use it.
pub(super) struct Caller {
    pub(super) client: bool,
    pub(super) way: Way,
    pub(super) ending: Ending,
    deadline: Option<Time>,
    idle: Option<Duration>,
    ticket: Ticket,
    pub(super) id: Option<CallId>,
    rest: VecDeque<usize>,
    /// How many messages it has read.
    read: usize,
    pub(super) outcome: Option<Result<ReceivedReply, CallFailure>>,
    pub(super) dropped: bool,
    pub(super) open: Part,
    pub(super) send: Part,
    pub(super) receive: Part,
}

impl Caller {
    pub(super) fn new(start: &Start, now: Time) -> Self {
        Self {
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
            dropped: false,
            open: Part::new(),
            send: Part::none(),
            receive: Part::none(),
        }
    }

    fn shape(&self) -> Shape {
        match self.way {
            Way::Send => Shape::Unary,
            Way::Call(shape) => shape,
        }
    }

    /// Opens the call.
    pub(super) fn poll_open(&mut self, conn: &mut Connection, now: Time) -> Polled {
        let waker = self.open.waker();
        let cx = &mut Context::from_waker(&waker);
        let request = Request {
            procedure: ECHO,
            deadline: self.deadline,
            shape: self.shape(),
            idle: self.idle,
            ..Request::default()
        };
        let len = self.rest.front().copied().unwrap_or_default();
        let ticket = &mut self.ticket;
        let opened = match self.way {
            Way::Send => conn
                .poll_send(ticket, &request, &message(0, len), now, cx)
                .map(|sent| sent.map(|()| None)),
            Way::Call(shape) if shape.has_request_stream() => {
                conn.poll_call(ticket, &request, &(), now, cx).map_ok(Some)
            }
            Way::Call(_) => conn
                .poll_call(ticket, &request, &message(0, len), now, cx)
                .map_ok(Some),
        };
        match opened {
            Poll::Pending => return Polled::Waits,
            Poll::Ready(Err(failure)) => self.outcome = Some(Err(failure)),
            Poll::Ready(Ok(None)) => {}
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

    /// Sends a message, or says the end.
    pub(super) fn poll_send(
        &mut self,
        conn: &mut Connection,
        log: &mut Log,
        late: bool,
        now: Time,
    ) -> Polled {
        let id = self.id.expect("it is open");
        let Some(&len) = self.rest.front() else {
            match self.ending {
                Ending::FinishLate if !late => return Polled::Waits,
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
        match conn.poll_data(id, &message, now, &Context::from_waker(&waker)) {
            Poll::Pending => Polled::Waits,
            Poll::Ready(Ok(())) => {
                self.rest.pop_front();
                log.requests.push(len);
                Polled::Moved
            }
            Poll::Ready(Err(Unsent::Over(_))) => Polled::Done,
            Poll::Ready(Err(Unsent::TooLong { .. })) => panic!("none is too long"),
        }
    }

    /// Reads a message, or takes the outcome.
    pub(super) fn poll_receive(&mut self, conn: &mut Connection, log: &Log, now: Time) -> Polled {
        let id = self.id.expect("it is open");
        let waker = self.receive.waker();
        let cx = &mut Context::from_waker(&waker);
        if self.shape().has_reply_stream() {
            match conn.poll_message(id, None, now, cx) {
                Poll::Pending => return Polled::Waits,
                Poll::Ready(Next::Message(payload)) => {
                    check_next(payload.into_bytes(), self.read, &log.replies);
                    self.read += 1;
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
            let len = log.replied.expect("a reply that nobody gave");
            if self.shape().has_reply_stream() {
                assert_eq!(self.read, log.replies.len(), "a short success");
                assert!(reply.payload.bytes().is_empty());
            } else {
                check_next(reply.payload.bytes().clone(), 0, &[len]);
            }
        }
        self.outcome = Some(outcome);
    }

    /// All who use the call are gone.
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

/// A handler, and the two halves that it may run at once.
pub(super) struct Handler {
    pub(super) client: bool,
    pub(super) id: CallId,
    pub(super) shape: Shape,
    one_way: bool,
    plan: Plan,
    rest: VecDeque<usize>,
    broken: Option<Status>,
    pub(super) main: Part,
    pub(super) read: Part,
    pub(super) write: Part,
}

impl Handler {
    pub(super) fn new(client: bool, arrived: &Arrived, shape: Shape, plan: Plan) -> Self {
        assert_eq!(arrived.streams, shape.has_request_stream());
        let part = |wanted: bool| if wanted { Part::new() } else { Part::none() };
        Self {
            client,
            id: arrived.id,
            shape,
            one_way: arrived.one_way,
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
                check_next(payload.into_bytes(), log.read, &log.requests);
                if self.plan.echo && self.shape.has_reply_stream() {
                    self.rest.push_back(log.requests[log.read]);
                }
                log.read += 1;
                Polled::Moved
            }
            Poll::Ready(Next::End) => {
                assert!(log.finished, "an end that nobody said");
                assert_eq!(log.read, log.requests.len(), "a short success");
                Polled::Done
            }
            Poll::Ready(Next::Broken(status)) => {
                self.broken = Some(status);
                Polled::Done
            }
        }
    }

    /// Sends a message.
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
        match conn.poll_data(self.id, &message, now, &Context::from_waker(&waker)) {
            Poll::Pending => Polled::Waits,
            Poll::Ready(Ok(())) => {
                self.rest.pop_front();
                log.replies.push(len);
                Polled::Moved
            }
            Poll::Ready(Err(_)) => Polled::Done,
        }
    }

    /// Ends the call, or finds out that nobody wants it.
    pub(super) fn poll_main(&mut self, conn: &mut Connection, log: &mut Log, now: Time) -> Polled {
        let waker = self.main.waker();
        let cx = &mut Context::from_waker(&waker);
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
            (None, Finish::Fail) => conn.end(self.id, End::Failed(&failed), now),
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

    /// The handler is dropped.
    pub(super) fn kill(&mut self, conn: &mut Connection, now: Time) -> Polled {
        conn.end(self.id, End::Dropped, now);
        for part in [&mut self.main, &mut self.read, &mut self.write] {
            part.end();
        }
        Polled::Done
    }
}
