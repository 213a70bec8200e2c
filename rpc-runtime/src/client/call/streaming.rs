//! Streaming: the replies of a call with a stream of replies.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use prost::Message;
use tracing::debug;

use super::{
    layered::{self, LayeredStreams},
    receipt::Receipt,
    reopen::{Reopen, Reopening},
    retry::{Retries, Retry},
    stream_call::StreamCall,
    stream_meter::StreamMeter,
};
use crate::{
    Code, Error, Metadata,
    client::errors,
    conn::{CallFailure, Next},
    driver::ReadTurn,
    layer::{Answer, RawMessage},
    message::{decode::DecodeFailure, unread_rows::Unread},
    trace::ClientSpan,
};

/// The replies of a call with a stream of replies.
///
/// The stream ends well only when the server has said so. A failed handler, a panic, a deadline or a lost connection is
/// an error behind the last message, never a short success. Reading gives the server credit for more. If the stream is
/// not read, only the server's handler of this call waits. Dropping the stream cancels the call.
///
/// ```no_run
/// # use rpc_runtime::{Client, Error, Streaming, server::Procedure};
/// # static WATCH: Procedure = Procedure::new("kv.v1.Kv/rpc_watch", 1).with_reply_stream();
/// # async fn example(client: Client) -> Result<(), Error> {
/// // With a stub: let mut events = kv.send_recv().watch("dog").await?;
/// let mut events: Streaming<String> = client.call().reply_stream(&WATCH, "dog".to_owned()).await?;
/// while let Some(event) = events.message().await? {
///     println!("{event}");
/// }
/// println!("complete, with {:?}", events.metadata());
/// # Ok(())
/// # }
/// ```
#[must_use = "a stream does nothing until it is read, and dropping it cancels the call"]
pub struct Streaming<T> {
    call: Arc<StreamCall>,
    state: StreamingState,
    /// Messages that have arrived and were not asked for yet.
    unread: Unread,
    turn: ReadTurn,
    /// Opens the call again after a failure, until a message was read.
    reopen: Option<Reopen>,
    /// True if a message was read, or the end.
    is_read: bool,
    /// What arrived beside the end.
    receipt: Option<Receipt>,
    /// None without middleware.
    layered: Option<Box<LayeredStreams>>,
    /// None until [`Streaming::metered`].
    meter: Option<StreamMeter>,
    /// None if nobody wants it.
    span: Option<Box<ClientSpan>>,
    message: PhantomData<fn() -> T>,
}

type Decoded<T> = Result<T, DecodeFailure>;

enum StreamingState {
    Open,
    Reopening(Reopening),
    /// The end was returned, or the error.
    Ended,
}

impl<T: Message + Default> Streaming<T> {
    pub(super) fn new(
        call: Arc<StreamCall>,
        reopen: Option<Reopen>,
        layered: Option<Box<LayeredStreams>>,
    ) -> Self {
        let unread = Unread::new(call.about.channel.max_message(), call.about.budget());
        Self {
            call,
            state: StreamingState::Open,
            unread,
            turn: ReadTurn::default(),
            reopen,
            is_read: false,
            receipt: None,
            layered,
            meter: None,
            span: None,
            message: PhantomData,
        }
    }

    /// This stream, whose call `meter` counts.
    pub(super) fn metered(mut self, meter: StreamMeter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Lets the span end with the stream.
    #[cold]
    pub(super) fn with_span(mut self, span: Box<ClientSpan>) -> Self {
        span.note_call(&self.call.on.peer, self.call.id.0);
        self.span = Some(span);
        self
    }

    /// Waits for the next message; none when the stream has ended well.
    ///
    /// # Errors
    ///
    /// As of any call, once; after that there are no more messages. [`Error::status`] is `Some` if the handler failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn message(&mut self) -> Result<Option<T>, Error> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// Returns the metadata that arrived beside the end of the stream.
    ///
    /// None before the end, and after an error: [`Error::status`] has its own.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.receipt.as_ref().map(Receipt::metadata)
    }

    /// Returns what arrived beside the end of the stream; none before the end, and after an error.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    #[inline]
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
        ready!(self.turn.poll_proceed(cx));
        let next = match self.layered {
            None => ready!(self.poll_read(cx)),
            Some(_) => ready!(self.poll_layered_within_span(cx)),
        };
        if !matches!(next, Ok(Some(_))) {
            self.count_end(&next);
            self.end_span(&next);
        }
        Poll::Ready(next)
    }

    /// Counts the end of the call.
    #[cold]
    fn count_end(&mut self, end: &Result<Option<T>, Error>) {
        if let Some(meter) = &mut self.meter {
            meter.end(end.as_ref().err().map_or(Code::Ok, Error::code));
        }
    }

    /// The next message: one that has arrived, or one to wait for.
    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
        match self.unread.next() {
            Some(Ok(message)) => Poll::Ready(Ok(Some(message))),
            Some(Err(failure)) => Poll::Ready(Err(self.end_unreadable(failure))),
            None => self.poll_next_message(cx),
        }
    }

    #[cold]
    fn poll_layered_within_span(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
        let span = self.span.take();
        let polled = {
            let _entered = span.as_deref().map(ClientSpan::enter);
            self.poll_layered(cx)
        };
        self.span = span;
        polled
    }

    /// Ends the call's span: there are no more messages.
    #[cold]
    fn end_span(&mut self, end: &Result<Option<T>, Error>) {
        if let Some(span) = self.span.take() {
            span.end(end.as_ref());
        }
    }

    /// Reads the next message, while middleware may end the call, and has the last word about its end.
    #[cold]
    fn poll_layered(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
        loop {
            let Some(layered) = &mut self.layered else {
                return Poll::Ready(Ok(None));
            };
            let is_told = layered.is_told();
            if let Poll::Ready(ended) = layered.poll(cx) {
                return Poll::Ready(self.end_by_middleware(ended));
            }
            if is_told {
                return Poll::Pending;
            }
            let end = match ready!(self.poll_read(cx)) {
                Ok(Some(message)) => return Poll::Ready(Ok(Some(message))),
                Err(error) => Err(error),
                Ok(None) => Ok(match self.receipt.take() {
                    Some(receipt) => receipt.into_answer(Bytes::new()),
                    None => Answer::default(),
                }),
            };
            if let Some(layered) = &mut self.layered {
                layered.tell(end);
            }
        }
    }

    fn end_by_middleware(&mut self, ended: Result<Answer, Error>) -> Result<Option<T>, Error> {
        self.layered = None;
        if !matches!(self.state, StreamingState::Ended) {
            self.call.leave();
        }
        self.end();
        let (_, receipt) = layered::reply(ended?);
        self.receipt = Some(receipt);
        Ok(None)
    }

    /// Waits for what comes next, when all that has arrived is read.
    #[inline(never)]
    fn poll_next_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Error>> {
        loop {
            match &mut self.state {
                StreamingState::Ended => return Poll::Ready(Ok(None)),
                StreamingState::Reopening(reopening) => match ready!(reopening.as_mut().poll(cx)) {
                    Ok(call) => {
                        self.call = Arc::new(call);
                        self.state = StreamingState::Open;
                    }
                    Err(error) => {
                        self.end();
                        return Poll::Ready(Err(error));
                    }
                },
                StreamingState::Open => match ready!(self.poll_open(cx)) {
                    Ok(Some(decoded)) => {
                        self.note_read();
                        return Poll::Ready(match decoded {
                            Ok(message) => Ok(Some(message)),
                            Err(failure) => Err(self.end_unreadable(failure)),
                        });
                    }
                    Ok(None) => {
                        self.note_read();
                        self.end();
                        return Poll::Ready(Ok(None));
                    }
                    Err(failure) => {
                        let Some((retry, reopen)) = self.retry(&failure) else {
                            self.end();
                            return Poll::Ready(Err(self.call.error(failure)));
                        };
                        debug!(procedure = self.call.about.procedure.path(), call = self.call.id.0, peer = %self.call.on.peer, cause = %failure.cause, ?retry, "resending");
                        self.state =
                            StreamingState::Reopening(reopen(retry, failure.cause.to_string().into()));
                    }
                },
            }
        }
    }

    /// The next message of those that the connection has, none at the end, or how the call failed.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Decoded<T>>, CallFailure>> {
        let (call, ahead) = (&self.call, self.unread.ahead());
        let next = call
            .on
            .shared
            .wait(|conn, now| conn.poll_message(call.id, Some(ahead), now, cx));
        if let Next::Message(item) = ready!(next) {
            return Poll::Ready(Ok(Some(self.unread.begin(item))));
        }
        let outcome = ready!(call.poll_outcome(cx));
        Poll::Ready(outcome.map(|mut reply| {
            self.receipt = Some(Receipt::take(&mut reply));
            None
        }))
    }

    /// Notes that the handler runs or has run: the call is not retried.
    fn note_read(&mut self) {
        if !self.is_read {
            self.is_read = true;
            self.reopen = None;
            self.call.replied();
        }
    }

    /// Ends the stream with a message that cannot be read: later ones would be unreadable, too.
    #[cold]
    fn end_unreadable(&mut self, failure: DecodeFailure) -> Error {
        self.call.give_up();
        self.end();
        self.call.of_stream(errors::unreadable_reply(failure))
    }

    /// Decides whether the call is opened again after a failure; takes the token for it.
    fn retry(&mut self, failure: &CallFailure) -> Option<(Retry, Reopen)> {
        let reopen = self.reopen.take()?;
        let StreamCall { on, about, .. } = &*self.call;
        let mut retries = Retries::default();
        let retry = retries.next(&about.channel, failure, on, about.options, &about.deadline)?;
        Some((retry, reopen))
    }

    /// Notes that the stream has ended: there are no more messages.
    fn end(&mut self) {
        self.state = StreamingState::Ended;
        self.reopen = None;
        self.unread.clear();
    }
}

impl Streaming<RawMessage> {
    /// Gives the messages that have arrived already to `read`, one after the other, as long as it returns true.
    ///
    /// For proxies, which pass on many short messages: each costs a fraction of what [`Streaming::message`] costs. After it,
    /// [`Streaming::message`] waits for the next one. It may leave messages that have arrived, and reads none before the first call of
    /// [`Streaming::message`].
    pub fn read_arrived(&mut self, read: impl FnMut(&[u8]) -> bool) {
        // Middleware may end the call at any message.
        if self.layered.is_none() {
            self.unread.read_while(read);
        }
    }
}

impl<T: Message + Default> Stream for Streaming<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_message(cx).map(Result::transpose)
    }
}

/// A sender of the same call must not go on without a reader.
impl<T> Drop for Streaming<T> {
    fn drop(&mut self) {
        if !matches!(self.state, StreamingState::Ended) {
            self.call.leave();
        }
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Streaming").field(&self.call).finish()
    }
}
