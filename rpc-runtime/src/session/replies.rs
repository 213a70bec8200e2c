//! Replies: from a handler's stream to the messages of its call.

use std::{fmt, marker::PhantomData, pin::pin, sync::Arc};

use futures_core::Stream;
use prost::Message;

use super::decoding::unencodable;
use crate::message::procedure::Procedure;
use crate::{
    Code, Result, Status,
    conn::{CallId, Unsent},
    driver::{Clock, SendTurn},
    layer::RawMessage,
    message::nesting,
    session::Session,
    wire::{
        compression::{Outgoing, stays_plain},
        frame::EncodedSlice,
    },
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
    /// It runs in the handler's own future, so the stream may borrow what that owns. It takes a message from the stream
    /// only when the message before is queued for the caller.
    ///
    /// # Errors
    ///
    /// The error that the stream returned; RESOURCE_EXHAUSTED for a message that is longer than the caller accepts; INTERNAL for
    /// a message that is nested too deep to be parsed; CANCELLED if the caller is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream; messages taken from it before are sent, perhaps but for the last.
    pub async fn forward(self, stream: impl Stream<Item = Result<T>>) -> Result<()> {
        let mut stream = pin!(stream);
        let mut turn = SendTurn::default();
        while let Some(message) = turn.run(|cx| stream.as_mut().poll_next(cx)).await {
            let message = message?;
            if !self.add(&message) {
                self.send(&message, &mut turn).await?;
            }
            if turn.is_to_look() {
                turn.end_if_long().await;
            }
        }
        Ok(())
    }

    /// Sends one message, once there is room for it.
    ///
    /// # Errors
    ///
    /// As [`Replies::forward`].
    pub(super) async fn send_one(&self, message: &T) -> Result<()> {
        match self.add(message) {
            true => Ok(()),
            false => self.send(message, &mut SendTurn::default()).await,
        }
    }

    /// Adds `message` to the frame that holds the last one, as long as the driver has not taken that. Returns false if it has to
    /// be sent.
    #[inline]
    fn add(&self, message: &T) -> bool {
        stays_plain(message, self.session.server().compression())
            && nesting::check(self.procedure.reply_nesting(), message).is_ok()
            && self.session.shared().add_data(self.id, message)
    }

    async fn send(&self, message: &T, turn: &mut SendTurn) -> Result<()> {
        nesting::check(self.procedure.reply_nesting(), message)
            .map_err(|text| unencodable("message", self.procedure, &text))?;
        let message = Outgoing::new(message, self.session.compression());
        let sent = turn.run(|cx| {
            self.session.with(Clock::Recent, |conn, now| {
                conn.poll_data(self.id, &message, now, cx)
            })
        });
        sent.await.map_err(|unsent| match unsent {
            Unsent::TooLong { len, max } => Status::new(
                Code::ResourceExhausted,
                format!(
                    "message of {len} bytes of {} exceeds the caller's limit of {max}: its Limits::max_message",
                    self.procedure.path()
                ),
            ),
            Unsent::Over(_) => Status::new(Code::Cancelled, "the call is over"),
        })
    }
}

impl Replies<RawMessage> {
    /// Adds `messages` to the frame that holds the last one, as [`Replies::forward`] does. Returns true if all were added, and otherwise the
    /// last one that was taken has to be sent.
    #[inline]
    pub(super) fn add_slices<'a>(&self, mut messages: impl Iterator<Item = &'a [u8]>) -> bool {
        match self.session.server().compression() {
            None => self
                .session
                .shared()
                .add_all_data(self.id, messages.map(EncodedSlice)),
            // Each has to be compressed.
            Some(_) => messages.next().is_none(),
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
