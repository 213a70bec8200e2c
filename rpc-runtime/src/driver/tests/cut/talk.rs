//! Talk: what a caller does with streams in each run.

use super::{session::*, streams::*, *};
use crate::{
    Code,
    conn::{CallId, Next, Unsent},
};

/// A call with streams, as its caller sees it.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) procedure: u64,
    /// Its id, while nobody has taken its outcome.
    id: Option<CallId>,
    /// How many messages were put into the output, and whether END follows them.
    pub(super) sent: usize,
    pub(super) finished: bool,
    /// How many were read, and whether until the end.
    pub(super) read: usize,
    pub(super) read_to_end: bool,
    /// How it ended; none if its caller went away.
    pub(super) outcome: Option<Result<ReceivedReply, CallFailure>>,
}

impl Talk {
    async fn open(shared: &SharedConnection, procedure: u64, secs: u64) -> Self {
        let request = Request {
            shape: shape(procedure),
            ..request(procedure, Some(shared.now() + Duration::from_secs(secs)))
        };
        let mut ticket = Ticket::default();
        let message = if request.shape.has_request_stream() {
            String::new()
        } else {
            name(procedure).to_owned()
        };
        let call =
            poll_fn(|cx| shared.with(|conn, now| conn.poll_call(&mut ticket, &request, &message, now, cx)));
        let (id, outcome) = match call.await {
            Ok(id) => (Some(id), None),
            Err(failure) => (None, Some(Err(failure))),
        };
        Self {
            procedure,
            id,
            sent: 0,
            finished: false,
            read: 0,
            read_to_end: false,
            outcome,
        }
    }

    pub(super) fn token(&self) -> &'static str {
        name(self.procedure)
    }

    /// Sends the next message; whether the call goes on.
    async fn send(&mut self, shared: &SharedConnection) -> bool {
        let Some(id) = self.id else { return false };
        match put(shared, id, &numbered(self.procedure, self.sent)).await {
            Ok(()) => {
                self.sent += 1;
                true
            }
            Err(Unsent::Over(_)) => false,
            Err(Unsent::TooLong { len, max }) => panic!("{len} of {max} bytes"),
        }
    }

    fn finish(&mut self, shared: &SharedConnection) {
        if let Some(id) = self.id {
            shared.with(|conn, now| conn.finish_data(id, now));
            self.finished = true;
        }
    }

    /// Reads the next message, or all of a row; whether there was one.
    async fn read(&mut self, shared: &SharedConnection) -> bool {
        let Some(id) = self.id else { return false };
        match next_message(shared, id).await {
            Next::Message(message) => {
                for message in message.messages() {
                    let is_next = is_numbered(message, self.procedure, self.read);
                    assert!(is_next, "{}: message {}", self.token(), self.read);
                    self.read += 1;
                }
                true
            }
            Next::End => {
                self.read_to_end = true;
                false
            }
            Next::Broken(status) => panic!("{}, for a caller: {status}", self.token()),
        }
    }

    /// Reads what is left, and how it ended.
    async fn end(mut self, shared: &SharedConnection, told: &mut Told) {
        while self.read(shared).await {}
        if let Some(id) = self.id.take() {
            self.outcome = Some(outcome(shared, id).await);
        }
        told.talks.push(self);
    }

    /// Gives the stream of requests up before its end.
    async fn abandon(self, shared: &SharedConnection, told: &mut Told) {
        if let Some(id) = self.id {
            shared.with(|conn, now| conn.fail_call(id, Cause::Abandoned, now));
        }
        self.end(shared, told).await;
    }

    /// Goes away.
    fn cancel(mut self, shared: &SharedConnection, told: &mut Told) {
        if let Some(id) = self.id.take() {
            shared.with(|conn, now| conn.drop_call(id, now));
        }
        told.talks.push(self);
    }
}

/// All kinds of streams, side by side: some opened before the peer's HELLO is here, and all longer than a window.
pub(super) async fn act_streams(shared: &Arc<SharedConnection>) -> Told {
    let mut told = Told::default();
    told.send(shared, "s1").await;
    let mut list = Talk::open(shared, LIST, 60).await;
    let broken = Talk::open(shared, BREAK, 60).await;
    let mut endless = Talk::open(shared, ENDLESS, 60).await;
    let silent = Talk::open(shared, SILENT, 5).await;
    // From here on the peer's HELLO is here.
    let mut chat = Talk::open(shared, CHAT, 60).await;
    chat.send(shared).await;
    let mut sum = Talk::open(shared, SUM, 60).await;
    chat.read(shared).await;
    chat.send(shared).await;
    list.read(shared).await;
    while sum.sent < MANY && sum.send(shared).await {}
    endless.read(shared).await;
    endless.cancel(shared, &mut told);
    sum.finish(shared);
    sum.end(shared, &mut told).await;
    chat.send(shared).await;
    chat.finish(shared);
    list.end(shared, &mut told).await;
    chat.end(shared, &mut told).await;
    broken.end(shared, &mut told).await;
    for procedure in [QUIT, SPURN] {
        let mut talk = Talk::open(shared, procedure, 60).await;
        while talk.send(shared).await {}
        talk.end(shared, &mut told).await;
    }
    let mut abandoned = Talk::open(shared, ABANDON, 60).await;
    abandoned.send(shared).await;
    abandoned.abandon(shared, &mut told).await;
    told.barrier(shared).await;
    told.send_packed(shared).await;
    let late = begin(shared, ECHO, "late", 60).await;
    told.wait(shared, "late", late).await;
    silent.end(shared, &mut told).await;
    told.send(shared, "s2").await;
    told
}

/// Streams of messages of several frames, each way, with short requests between them.
pub(super) async fn act_long_streams(shared: &Arc<SharedConnection>) -> Told {
    let mut told = Told::default();
    told.send(shared, "s1").await;
    let list = Talk::open(shared, LONG_LIST, 60).await;
    let mut sum = Talk::open(shared, LONG_SUM, 60).await;
    let mut cancelled = Talk::open(shared, LONG_CANCEL, 60).await;
    sum.send(shared).await;
    cancelled.send(shared).await;
    told.send(shared, "s2").await;
    cancelled.send(shared).await;
    // In the middle of its fragments.
    cancelled.cancel(shared, &mut told);
    sum.send(shared).await;
    // Behind the fragments of its last message.
    sum.finish(shared);
    let broken = Talk::open(shared, LONG_BREAK, 60).await;
    let late = begin(shared, ECHO, "late", 60).await;
    told.wait(shared, "late", late).await;
    sum.end(shared, &mut told).await;
    list.end(shared, &mut told).await;
    broken.end(shared, &mut told).await;
    told.barrier(shared).await;
    told.send_packed(shared).await;
    told
}

/// How a call ends if nothing is cut.
pub(super) fn undisturbed(talk: &Talk) -> bool {
    let replied = |with: Executed| match &talk.outcome {
        Some(Err(failure)) => {
            let is_ours = matches!(&failure.cause, Cause::Replied(status) if status.code() == Code::NotFound);
            is_ours && failure.executed == with
        }
        _ => false,
    };
    let is_ok = matches!(talk.outcome, Some(Ok(_)));
    let failed_by = |is: fn(&Cause) -> bool| match &talk.outcome {
        Some(Err(failure)) => is(&failure.cause) && failure.executed == Executed::Maybe,
        _ => false,
    };
    match talk.procedure {
        LIST => is_ok && talk.read == MANY,
        LONG_LIST => is_ok && talk.read == FEW,
        CHAT => is_ok && talk.read == 3,
        SUM => is_ok && talk.sent == MANY,
        LONG_SUM => is_ok && talk.sent == 2,
        QUIT => is_ok && talk.sent >= 1,
        // The failure discards a message that is not whole.
        LONG_BREAK => replied(Executed::Yes) && talk.read >= 1,
        BREAK => replied(Executed::Yes) && talk.read == 2,
        SPURN => replied(Executed::Yes) && talk.sent >= 1,
        SILENT => failed_by(|cause| matches!(cause, Cause::Deadline)),
        ABANDON => failed_by(|cause| matches!(cause, Cause::Abandoned)),
        ENDLESS => talk.outcome.is_none() && talk.read >= 1,
        LONG_CANCEL => talk.outcome.is_none() && talk.sent >= 1,
        other => panic!("{other} is no procedure with streams"),
    }
}
