//! Replies: from a handler's stream to the messages of its call.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use prost::Message;

use super::decoding::unencodable;
use crate::message::procedure::Procedure;
use crate::{
    Code, Result, Status,
    client::{
        gathering::{Follows, Gathering},
        send_turn::SendTurn,
    },
    conn::{CallId, Unsent},
    driver::Clock,
    message::nesting,
    session::Session,
    wire::{compression::Outgoing, frame::Payload},
};

/// Sends a handler's stream to its caller; generated code holds one.
#[must_use = "nothing is sent until a stream is forwarded"]
pub struct Replies<T> {
    session: Arc<Session>,
    id: CallId,
    procedure: &'static Procedure,
    message: PhantomData<fn(T)>,
}

impl<T: Message + 'static> Replies<T> {
    pub(crate) fn new(session: Arc<Session>, id: CallId, procedure: &'static Procedure) -> Self {
        Self {
            session,
            id,
            procedure,
            message: PhantomData,
        }
    }

    /// Sends the messages of `stream` to the caller, until its end or its first error.
    ///
    /// It runs in the handler's own future, so the stream may borrow what that owns. Messages that are ready at once are taken
    /// from the stream together, up to 16 KiB of them or for a millisecond. Further ones are taken when these are queued for
    /// the caller. None waits for one that is not ready.
    ///
    /// # Errors
    ///
    /// The error that the stream returned; RESOURCE_EXHAUSTED for a message that is longer than the caller accepts; INTERNAL for
    /// a message that is nested too deep to be parsed; CANCELLED if the caller is gone. The messages before are sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream; messages taken from it before are sent, perhaps but for the last: those that were
    /// ready at once and for which the caller has not made room yet.
    pub async fn forward(self, stream: impl Stream<Item = Result<T>>) -> Result<()> {
        let mut stream = pin!(stream);
        let mut turn = SendTurn::default();
        let mut forwarding = Forwarding::new(&self);
        loop {
            match poll_fn(|cx| forwarding.poll(stream.as_mut(), &mut turn, cx)).await? {
                Follows::More => {}
                Follows::Alone(message) => self.send(&message, &mut turn).await?,
                Follows::Failed(status) => return Err(status),
                Follows::End => return Ok(()),
            }
            turn.end_if_long().await;
        }
    }

    /// Sends a message that travels alone.
    async fn send(&self, message: &T, turn: &mut SendTurn) -> Result<()> {
        nesting::check(self.procedure.reply_nesting(), message)
            .map_err(|text| unencodable("message", self.procedure, &text))?;
        let message = Outgoing::new(message, self.session.compression());
        turn.run(|cx| self.poll_send(&message, cx)).await
    }

    fn poll_send<P: Payload>(&self, message: &P, cx: &Context<'_>) -> Poll<Result<()>> {
        let sent = self.session.with(Clock::Recent, |conn, now| {
            conn.poll_data(self.id, message, now, cx)
        });
        sent.map_err(|unsent| self.error(unsent))
    }

    #[cold]
    fn error(&self, unsent: Unsent) -> Status {
        match unsent {
            Unsent::TooLong { len, max } => Status::new(
                Code::ResourceExhausted,
                format!(
                    "message of {len} bytes of {} exceeds the caller's limit of {max}",
                    self.procedure.path()
                ),
            ),
            Unsent::Over(_) => Status::new(Code::Cancelled, "the call is over"),
        }
    }
}

/// A handler's stream on its way. What was taken from it is sent even if its handler is dropped, if there is room.
struct Forwarding<'a, T: Message + 'static> {
    replies: &'a Replies<T>,
    gathering: Gathering<T, Status>,
}

impl<'a, T: Message + 'static> Forwarding<'a, T> {
    fn new(replies: &'a Replies<T>) -> Self {
        let session = &replies.session;
        let max_message = session.with(Clock::Recent, |conn, _| conn.max_message());
        Self {
            replies,
            gathering: Gathering::new(max_message, session.compression()),
        }
    }

    /// Sends what the stream has ready; returns what follows that.
    fn poll(
        &mut self,
        mut stream: Pin<&mut impl Stream<Item = Result<T>>>,
        turn: &mut SendTurn,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Follows<T, Status>>> {
        let replies = self.replies;
        let nesting = replies.procedure.reply_nesting();
        self.gathering.poll(
            |cx| stream.as_mut().poll_next(cx),
            |message| nesting::check(nesting, message).is_ok(),
            |row, cx| replies.poll_send(row, cx),
            turn,
            cx,
        )
    }
}

impl<T: Message + 'static> Drop for Forwarding<'_, T> {
    fn drop(&mut self) {
        let row = self.gathering.row();
        if !row.is_empty() {
            let _ = self.replies.poll_send(row, &Context::from_waker(Waker::noop()));
        }
    }
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("procedure", &self.procedure)
            .finish_non_exhaustive()
    }
}
