//! Sender: the caller's half of a stream of requests.

use std::{fmt, future::poll_fn, marker::PhantomData, pin::pin, sync::Arc};

use futures_core::Stream;
use prost::Message;

use super::{failure, open_call::OpenCall};
use crate::{
    Code, Error, Executed, Phase,
    compression::Outgoing,
    conn::{Cause, Unsent},
};

/// Sends the requests of a call whose requests are a stream.
///
/// When everything is sent, [`Sender::finish`] says so. A sender that is dropped before cancels the call: a stream without
/// its end is never taken for a complete one.
#[must_use = "a sender that is dropped before finish() cancels its call"]
pub struct Sender<T> {
    call: Arc<OpenCall>,
    finished: bool,
    message: PhantomData<fn(T)>,
}

impl<T: Message> Sender<T> {
    pub(super) fn new(call: Arc<OpenCall>) -> Self {
        Self {
            call,
            finished: false,
            message: PhantomData,
        }
    }

    /// Sends `message`, as soon as the server takes more of the stream.
    ///
    /// It resolves when the message is in the connection's queue, which is bounded; a server that does not read makes it
    /// wait, until the deadline of the call.
    ///
    /// # Errors
    ///
    /// The call's own error if it has failed; RESOURCE_EXHAUSTED, which ends the call, for a message that is longer than the
    /// server takes; CANCELLED if the server has ended the call, perhaps well: the reply tells.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves has sent nothing, unless it is dropped in the very moment of resolving;
    /// the call goes on.
    pub async fn send(&mut self, message: T) -> Result<(), Error> {
        let call = &self.call;
        let compression = call.on.compression(call.about.channel.compression());
        let message = Outgoing::new(&message, compression);
        let sent = poll_fn(|cx| {
            call.on
                .link
                .with(|conn, now| conn.poll_data(call.id, &message, now, cx))
        });
        sent.await.map_err(|unsent| self.error(unsent))
    }

    /// Sends every message of `stream`, each as [`Sender::send`] does. The call's stream goes on after that.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`]; the rest of `stream` is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `stream`, perhaps with a message that was taken from it and not sent.
    pub async fn send_all(&mut self, stream: impl Stream<Item = T>) -> Result<(), Error> {
        let mut stream = pin!(stream);
        while let Some(message) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            self.send(message).await?;
        }
        Ok(())
    }

    /// Says that everything is sent: the server reads the end behind the last message.
    pub fn finish(mut self) {
        self.finished = true;
        let call = &self.call;
        call.on.link.with(|conn, now| conn.finish_data(call.id, now));
    }

    fn error(&self, unsent: Unsent) -> Error {
        match unsent {
            Unsent::Over(Some(failure)) => self.call.error(failure),
            Unsent::Over(None) => {
                let text = "the call is over and takes no more messages: its reply tells how it ended";
                let error = Error::local(Code::Cancelled, text)
                    .with_executed(Executed::Maybe)
                    .with_phase(Phase::Stream);
                self.call.locate(error)
            }
            Unsent::TooLong { len, max } => {
                self.call.fail(Cause::Oversize { len, max });
                let error = failure::oversize(len, max)
                    .with_executed(Executed::Maybe)
                    .with_phase(Phase::Stream);
                self.call.locate(error)
            }
        }
    }
}

/// The end was not said: the server must not take what came for everything.
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
