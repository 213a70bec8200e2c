//! Gathering: the messages of a stream that are ready at once, sent together.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    task::{Context, Poll},
};

use prost::Message;

use super::send_turn::SendTurn;
use crate::{Compression, conn::OutgoingRow};

/// Gathers the messages of a stream that are ready at once, and sends them together.
///
/// No message waits for one that is not ready.
pub(crate) struct Gathering<T, E> {
    row: OutgoingRow,
    compression: Option<Compression>,
    /// What follows the row, while that waits for credit or room.
    follows: Option<Follows<T, E>>,
    /// The first message of the next row, and its length.
    next: Option<(T, usize)>,
    /// The panic of the stream. It goes on when the messages before it are sent.
    panic: Option<Box<dyn Any + Send>>,
}

/// What follows the messages that were sent.
pub(crate) enum Follows<T, E> {
    /// The stream may have more.
    More,
    /// A message that travels alone, because it is long, or that cannot be sent.
    Alone(T),
    /// The stream has failed.
    Failed(E),
    /// The stream has ended.
    End,
}

impl<T: Message, E> Gathering<T, E> {
    /// Nothing is gathered yet. The peer takes no message that is longer than `max_message`.
    pub(crate) fn new(max_message: u64, compression: Option<Compression>) -> Self {
        Self {
            row: OutgoingRow::new(max_message),
            compression,
            follows: None,
            next: None,
            panic: None,
        }
    }

    /// The messages that are gathered and not sent.
    pub(crate) fn row(&self) -> &OutgoingRow {
        &self.row
    }

    /// Takes from the stream by `poll_next` what is ready, and sends it by `send`; returns what follows. A message that is not
    /// `fit` is not sent.
    ///
    /// Pending while the stream has nothing, or while `send` is. If the stream panics, what it gave before is sent first.
    pub(crate) fn poll(
        &mut self,
        poll_next: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<T, E>>>,
        is_fit: impl Fn(&T) -> bool,
        mut send: impl FnMut(&OutgoingRow, &mut Context<'_>) -> Poll<Result<(), E>>,
        turn: &mut SendTurn,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Follows<T, E>, E>> {
        turn.begin();
        let follows = match self.follows.take() {
            Some(follows) => Poll::Ready(follows),
            None => self.gather(poll_next, is_fit, turn, cx),
        };
        if !self.row.is_empty() {
            let Poll::Ready(sent) = send(&self.row, cx) else {
                turn.pause();
                // A stream that is pending is polled again afterwards: the task that it wakes may be another then.
                self.follows = Some(match follows {
                    Poll::Ready(follows) => follows,
                    Poll::Pending => Follows::More,
                });
                return Poll::Pending;
            };
            self.row.clear();
            if self.panic.is_none() {
                sent?;
            }
        }
        if let Some(panic) = self.panic.take() {
            resume_unwind(panic);
        }
        if follows.is_pending() {
            turn.pause();
            self.row.release();
        }
        follows.map(Ok)
    }

    /// Takes messages until they are enough for a frame, or the turn is long. Pending when the stream is.
    fn gather(
        &mut self,
        mut poll_next: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<T, E>>>,
        is_fit: impl Fn(&T) -> bool,
        turn: &mut SendTurn,
        cx: &mut Context<'_>,
    ) -> Poll<Follows<T, E>> {
        if let Some((message, len)) = self.next.take() {
            self.row.push(&message, len);
        }
        let follows = loop {
            let polled = catch_unwind(AssertUnwindSafe(|| poll_next(cx)));
            let polled = polled.unwrap_or_else(|panic| {
                self.panic = Some(panic);
                Poll::Pending
            });
            let message = match polled {
                Poll::Pending if self.panic.is_some() => break Poll::Ready(Follows::More),
                Poll::Pending => break Poll::Pending,
                Poll::Ready(None) => break Poll::Ready(Follows::End),
                Poll::Ready(Some(Err(error))) => break Poll::Ready(Follows::Failed(error)),
                Poll::Ready(Some(Ok(message))) => message,
            };
            if !is_fit(&message) {
                break Poll::Ready(Follows::Alone(message));
            }
            let len = message.encoded_len();
            if !self.row.ever_takes(len) {
                break Poll::Ready(Follows::Alone(message));
            }
            if !self.row.takes(len) {
                self.next = Some((message, len));
                break Poll::Ready(Follows::More);
            }
            self.row.push(&message, len);
            if turn.is_long() {
                break Poll::Ready(Follows::More);
            }
        };
        self.row.compress(self.compression);
        follows
    }
}
