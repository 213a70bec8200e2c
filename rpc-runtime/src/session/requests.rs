//! Requests: the caller's stream, as its handler reads it.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use prost::Message;

use super::decoding::unreadable;
use crate::{
    Procedure, Result, Status,
    conn::{CallId, Next},
    driver::{Clock, ReadTurn},
    layer::RawMessage,
    message::{decode::DecodeFailure, growth::Budget, unread_rows::Unread},
    session::Session,
};

/// The stream of a caller's requests, as its handler reads it.
///
/// It ends when the caller has sent its last message. Everything else that ends a stream is an error: a caller that
/// gives up, a deadline, a lost connection, a message that cannot be parsed. So a stream that was read to its end is complete.
///
/// Reading gives the caller credit for more. A handler that does not read makes its own caller wait, and no other. A task that
/// the handler spawns may take the stream along. Once the handler has ended, reading fails; messages that came in one frame with the last
/// one may still be read before that.
///
/// ```
/// use rpc_runtime::{Message, Requests, Result};
///
/// async fn count(mut requests: Requests<String>) -> Result<u64> {
///     let mut count = 0;
///     while let Some(_line) = requests.message().await? {
///         count += 1;
///     }
///     Ok(count)
/// }
/// ```
#[must_use = "a stream does nothing until it is read"]
pub struct Requests<T> {
    session: Arc<Session>,
    id: CallId,
    procedure: &'static Procedure,
    unread: Unread,
    turn: ReadTurn,
    /// True once the end or an error was read.
    ended: bool,
    message: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Requests<T> {
    pub(crate) fn new(session: Arc<Session>, id: CallId, procedure: &'static Procedure) -> Self {
        let budget = session.server().budget(procedure.request_growth());
        Self::with_budget(session, id, procedure, budget)
    }

    fn with_budget(session: Arc<Session>, id: CallId, procedure: &'static Procedure, budget: Budget) -> Self {
        let unread = Unread::new(session.server().settings().max_message, budget);
        Self {
            session,
            id,
            procedure,
            unread,
            turn: ReadTurn::default(),
            ended: false,
            message: PhantomData,
        }
    }

    /// Waits for the next message. Returns none at the end of the stream.
    ///
    /// # Errors
    ///
    /// The stream broke before its end. Pass the error on by `?`; further reads return none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn message(&mut self) -> Result<Option<T>> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    #[inline]
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>>> {
        ready!(self.turn.poll_proceed(cx));
        match self.unread.next() {
            Some(Ok(message)) => Poll::Ready(Ok(Some(message))),
            Some(Err(failure)) => Poll::Ready(Err(self.end_unreadable(failure))),
            None => self.poll_more(cx),
        }
    }

    /// The next message of those that the connection has; what came with it in one frame is unread then.
    #[inline(never)]
    fn poll_more(&mut self, cx: &Context<'_>) -> Poll<Result<Option<T>>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let next = self
            .session
            .with(Clock::Now, |conn, now| conn.poll_message(self.id, None, now, cx));
        Poll::Ready(match ready!(next) {
            Next::Message(item) => match self.unread.begin(item) {
                Ok(message) => Ok(Some(message)),
                Err(failure) => Err(self.end_unreadable(failure)),
            },
            Next::End => {
                self.end();
                Ok(None)
            }
            Next::Broken(status) => {
                self.end();
                Err(status)
            }
        })
    }

    /// Ends the stream with a message that cannot be read, and fails the call, even if its handler ignores that.
    #[cold]
    fn end_unreadable(&mut self, failure: DecodeFailure) -> Status {
        let status = unreadable(self.procedure.path(), failure);
        self.session.with(Clock::Now, |conn, now| {
            conn.break_stream(self.id, status.clone(), now)
        });
        self.end();
        status
    }

    /// Notes that the end or an error was read: there are no more messages.
    fn end(&mut self) {
        self.ended = true;
        self.unread.clear();
    }
}

impl Requests<RawMessage> {
    /// The messages as they came: they are not decoded here, so their memory is not limited.
    pub(super) fn raw(session: Arc<Session>, id: CallId, procedure: &'static Procedure) -> Self {
        Self::with_budget(session, id, procedure, Budget::new(None, 0))
    }
}

impl<T: Message + Default> Stream for Requests<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        self.get_mut().poll_message(cx).map(Result::transpose)
    }
}

impl<T> fmt::Debug for Requests<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("procedure", &self.procedure.path())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
