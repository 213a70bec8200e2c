//! Answer: how a call ended well, as middleware sees it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use prost::Message;

use super::RawMessage;
use crate::{
    Metadata, Result, Status,
    message::{
        decode::{DecodeFailure, decode},
        growth::Budget,
    },
    wire::frame::Encoded,
};

/// How a call ended well, as [`Middleware`](crate::middleware::Middleware) sees it: the reply message, and what comes beside it.
///
/// The answer of a one-way call, or of a call with a stream of replies, has no message.
///
/// Middleware may make an answer itself, in place of the handler or the server:
///
/// ```
/// use rpc_runtime::{Result, middleware::{Answer, Next, ServerCall}};
///
/// async fn offline(call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
///     match call.procedure() {
///         // The message is of the type that the procedure returns.
///         "doc.v1.Weather/rpc_forecast" => Ok(Answer::new(&"rain".to_owned())),
///         _ => next.run(call).await,
///     }
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Answer {
    message: RawMessage,
    metadata: Metadata,
    queued: Duration,
    ran: Duration,
    /// How much memory the message may take once it is decoded; none for a message of this process.
    budget: Option<Budget>,
}

impl Answer {
    /// Makes an answer of `message`, which must be of the type that the procedure returns.
    pub fn new(message: &impl Message) -> Self {
        Self::encoded(RawMessage::of(message))
    }

    pub(crate) fn encoded(message: RawMessage) -> Self {
        Self {
            message,
            ..Self::default()
        }
    }

    /// The answer that arrived with `metadata`, and with the times that the server measured.
    pub(crate) fn received(message: Bytes, metadata: Metadata, queued: Duration, ran: Duration) -> Self {
        Self {
            message: RawMessage(message),
            metadata,
            queued,
            ran,
            budget: None,
        }
    }

    /// Limits the memory that the message may take once it is decoded.
    pub(crate) fn with_budget(self, budget: Budget) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// Decodes the reply message.
    ///
    /// The type must be the one that the procedure returns: bytes of another type may decode to a wrong message.
    ///
    /// # Errors
    ///
    /// INTERNAL if the bytes are no such message, RESOURCE_EXHAUSTED if the message takes too much memory.
    pub fn message<T: Message + Default>(&self) -> Result<T> {
        let bytes = self.message.0.clone();
        let Some(budget) = self.budget else {
            return T::decode(bytes).map_err(|error| no_such_message(&error));
        };
        decode(Encoded::plain(bytes), budget).map_err(|failure| match failure {
            DecodeFailure::TooLarge(_) => {
                Status::resource_exhausted(format!("the reply is too large: {failure}"))
            }
            _ => no_such_message(&failure),
        })
    }

    /// Replaces the reply message.
    pub fn set_message(&mut self, message: &impl Message) {
        self.message = RawMessage::of(message);
        self.budget = None;
    }

    /// Returns the entries beside the reply.
    ///
    /// On a client they are those that arrived. On a server they are those that middleware has added; entries that the
    /// handler added travel, too, and are not shown here.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the entries beside the reply, to change them or to add some.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// Returns how long the call waited on the server before its handler began; zero on a server.
    pub fn queued(&self) -> Duration {
        self.queued
    }

    /// Returns how long the handler ran, as the server measured it; zero on a server.
    pub fn ran(&self) -> Duration {
        self.ran
    }

    /// The length of the reply message, in bytes.
    pub(crate) fn message_len(&self) -> usize {
        self.message.0.len()
    }

    pub(crate) fn into_parts(self) -> (RawMessage, Metadata) {
        (self.message, self.metadata)
    }
}

fn no_such_message(why: &dyn fmt::Display) -> Status {
    Status::internal(format!("the reply is no message of this type: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Code,
        message::growth::{Growing, Growth},
    };

    #[derive(Clone, PartialEq, Message)]
    struct List {
        #[prost(message, repeated, tag = "1")]
        items: Vec<()>,
    }

    static GROWTH: Growth = Growth::new(&[&[Growing::elements(1, 1 << 20)]]);

    #[test]
    fn a_reply_that_would_take_too_much_memory_is_not_decoded() {
        let message = Bytes::from_static(&[10, 0, 10, 0]);
        let answer = Answer::received(message, Metadata::new(), Duration::ZERO, Duration::ZERO);
        assert_eq!(answer.message::<List>().unwrap().items.len(), 2);
        let answer = answer.with_budget(Budget::new(Some(GROWTH.row(0)), 1000));
        let error = answer.message::<List>().unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    }
}
