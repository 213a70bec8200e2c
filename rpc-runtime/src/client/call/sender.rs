//! Sender: the caller's half of a stream of requests.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
};

use futures_core::Stream;
use prost::Message;
use tokio::task::coop;

use super::stream_call::StreamCall;
use crate::{Error, conn::Cause, driver::SendTurn, message::nesting, wire::compression::Outgoing};

/// Sends the requests of a call with a stream of requests.
///
/// Call [`Sender::finish`] after the last message. A sender that is dropped before cancels the call, so that a stream
/// without its end is never taken for a complete one. The reply then fails CANCELLED, and its text names finish(). The
/// text of a reply that fails DEADLINE_EXCEEDED while the sender is still open does so, too. The handler reads
/// CANCELLED from its [`Requests`](crate::Requests), or is dropped.
///
/// ```no_run
/// # use rpc_runtime::{Client, Error, server::Procedure};
/// # static IMPORT: Procedure = Procedure::new("kv.v1.Kv/rpc_import", 1).with_request_stream();
/// # async fn example(client: Client, lines: Vec<String>) -> Result<(), Error> {
/// // With a stub: let (mut sender, count) = kv.send_recv().import().await?;
/// let (mut sender, count) = client.call().request_stream(&IMPORT, Ok::<u64, Error>).await?;
/// for line in lines {
///     sender.send(line).await?;
/// }
/// sender.finish();
/// println!("{} lines", count.await?);
/// # Ok(())
/// # }
/// ```
#[must_use = "a sender that is dropped before finish() cancels its call"]
pub struct Sender<T> {
    call: Arc<StreamCall>,
    finished: bool,
    message: PhantomData<fn(T)>,
}

impl<T: Message> Sender<T> {
    pub(super) fn new(call: Arc<StreamCall>) -> Self {
        call.set_unfinished(true);
        Self {
            call,
            finished: false,
            message: PhantomData,
        }
    }

    /// Sends `message` when the server has credit for it.
    ///
    /// The future resolves when the message is in the connection's queue, which is limited. If the server does not
    /// read, it waits until the deadline of the call.
    ///
    /// # Errors
    ///
    /// The call's own error if it has failed. RESOURCE_EXHAUSTED if the message is longer than the server's limit, and
    /// INVALID_ARGUMENT if messages are nested more than 100 deep in it; both end the call. CANCELLED if the server has
    /// ended the call, perhaps well: the reply tells.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves has sent nothing, except when it is dropped in the same moment in
    /// which it would resolve. The call goes on.
    pub async fn send(&mut self, message: T) -> Result<(), Error>
    where
        T: 'static,
    {
        let call = &self.call;
        let is_added = poll_fn(|cx| {
            // A loop that sends must let other tasks run.
            let coop = ready!(coop::poll_proceed(cx));
            let is_added = call.add(&message);
            if is_added {
                coop.made_progress();
            }
            Poll::Ready(is_added)
        });
        match is_added.await {
            true => Ok(()),
            false => self.send_alone(&message).await,
        }
    }

    /// Sends `message` in a frame of its own, when there is credit and room.
    async fn send_alone(&self, message: &T) -> Result<(), Error>
    where
        T: 'static,
    {
        let call = &self.call;
        nesting::check(call.about.procedure.request_nesting(), message)
            .map_err(|text| call.too_deep(text))?;
        let compression = call.on.compression(call.about.channel.compression());
        let message = Outgoing::new(message, compression);
        let sent = poll_fn(|cx| {
            let coop = ready!(coop::poll_proceed(cx));
            let sent = ready!(call.poll_data(&message, cx));
            coop.made_progress();
            Poll::Ready(sent)
        });
        sent.await.map_err(|unsent| call.unsent(unsent))
    }

    /// Sends every message of `stream`, each as [`Sender::send`] does. More may be sent after that.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`], also while `stream` has no message ready. The rest of `stream` is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `stream`, perhaps with a message that was taken from it and not sent.
    pub async fn send_all(&mut self, stream: impl Stream<Item = T>) -> Result<(), Error>
    where
        T: 'static,
    {
        let mut stream = pin!(stream);
        let call = &self.call;
        let mut turn = SendTurn::default();
        loop {
            let next = turn.run(|cx| {
                if let Poll::Ready(message) = stream.as_mut().poll_next(cx) {
                    return Poll::Ready(Ok(message));
                }
                // A call that has ended must not wait for messages that it cannot send.
                let unsent = call.on.shared.wait(|conn, _| conn.poll_unsendable(call.id, cx));
                unsent.map(|unsent| Err(call.unsent(unsent)))
            });
            let Some(message) = next.await? else {
                return Ok(());
            };
            if !call.add(&message) {
                self.send_alone(&message).await?;
            }
            if turn.is_to_look() {
                turn.end_if_long().await;
            }
        }
    }

    /// Ends the stream of requests: the server reads the end behind the last message.
    pub fn finish(mut self) {
        self.finished = true;
        let call = &self.call;
        call.set_unfinished(false);
        call.on.shared.with(|conn, now| conn.finish_data(call.id, now));
    }
}

/// Without the end, the server must not take the requests for complete.
impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if !self.finished {
            self.call.fail(Cause::Abandoned);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.call).finish()
    }
}
