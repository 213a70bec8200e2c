//! Relay: a call that is carried to another server, by another protocol.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
};

use super::Incoming;
use crate::{
    Executed, Metadata, Result, Status,
    base::panic::Panic,
    conn::{End, RefusalReason, Unstarted},
    driver::Clock,
    layer::RawMessage,
    message::{decode::decode, growth::Budget},
    session::{
        context::{HandlerScope, Serving},
        decoding::refusal_of,
        handler::Handler,
        outgoing_call::{
            OnlyReply, OutgoingCall, OutgoingFailure, OutgoingReplies, OutgoingRequests, ProtocolConnection,
        },
        replies::Replies,
        requests::Requests,
    },
};

impl Incoming {
    /// Makes a handler that lets `connection` make the call, and ends it as that says.
    ///
    /// The call counts as started before `connection` gets it. No middleware is around it.
    pub(crate) fn relay(mut self, connection: Arc<dyn ProtocolConnection>) -> Handler {
        Box::pin(async move {
            let requests = match self.outgoing_requests() {
                Ok(requests) => requests,
                Err((status, reason)) => return self.refuse(&status, reason),
            };
            match self.start() {
                Ok(()) => {}
                Err(Unstarted::Unwanted) => return self.unwanted(),
                Err(Unstarted::Memory) => return self.refuse_for_memory(),
            }
            let only = OnlyReply::default();
            let replies = self.outgoing_replies(&only);
            let context = self.take_context();
            let mut scope = HandlerScope::new(Serving::of(&self), context.inherited(), self.trace().cloned());
            let call = OutgoingCall::new(context, self.procedure, requests, replies);
            let ended = {
                let mut call = pin!(scope.make(|| connection.call(call)));
                poll_fn(|cx| scope.poll(call.as_mut(), cx)).await
            };
            match ended {
                Ok(Ok(metadata)) => match self.only_reply(&only) {
                    Ok(reply) => {
                        self.add_reply_metadata(metadata);
                        self.reply(&reply).await;
                    }
                    Err(failure) => self.report(&failure).await,
                },
                Ok(Err(failure)) => {
                    if failure.executed() == Executed::No {
                        self.leave(&*connection);
                    }
                    self.report(&failure).await;
                }
                // It broke in this process. Whether the server has run the call is not known.
                Err(panic) => {
                    let text = format!("the protocol panicked: {}", panic.text().unwrap_or("no text"));
                    let failure = OutgoingFailure::new(Status::internal(text), Executed::Maybe);
                    self.report(&failure).await;
                }
            }
        })
    }

    fn outgoing_requests(&mut self) -> Result<OutgoingRequests, (Status, RefusalReason)> {
        if self.procedure.has_request_stream() {
            let (session, id) = (Arc::clone(&self.session), self.id);
            return Ok(OutgoingRequests::many(Requests::raw(session, id, self.procedure)));
        }
        // The caller is in this process, and has the message itself.
        let request = decode(std::mem::take(&mut self.payload), Budget::new(None, 0));
        let request = request.map_err(|failure| refusal_of(self.procedure.path(), failure))?;
        Ok(OutgoingRequests::one(request))
    }

    fn outgoing_replies(&self, only: &OnlyReply) -> OutgoingReplies {
        match self.procedure.has_reply_stream() {
            true => OutgoingReplies::many(Replies::new(Arc::clone(&self.session), self.id, self.procedure)),
            false => OutgoingReplies::one(only),
        }
    }

    /// The message that ends the call well.
    fn only_reply(&self, only: &OnlyReply) -> Result<RawMessage, OutgoingFailure> {
        if self.procedure.has_reply_stream() {
            return Ok(RawMessage::default());
        }
        only.take().ok_or_else(|| {
            let text = "the server sent no reply, and the procedure has one";
            OutgoingFailure::new(Status::unimplemented(text), Executed::Maybe)
        })
    }

    /// Adds what fits: a server may send many headers that nobody reads.
    fn add_reply_metadata(&self, metadata: Metadata) {
        if self.one_way {
            return;
        }
        self.session.with(Clock::Now, |conn, _| {
            for (key, value) in metadata {
                if Metadata::check_key(&key).is_ok() {
                    conn.add_reply_metadata(self.id, key, value);
                }
            }
        });
    }

    /// If `connection` takes no more calls, tells our peer so first, so that it makes the call again by another one.
    fn leave(&self, connection: &dyn ProtocolConnection) {
        let closed = Panic::catch(|| {
            let mut cx = TaskContext::from_waker(Waker::noop());
            connection.closed().as_mut().poll(&mut cx)
        });
        if let Ok(Poll::Ready(why)) = closed {
            self.session.retire(&why);
        }
    }

    /// Ends the call by a failure, once there is room for its details.
    async fn report(&mut self, failure: &OutgoingFailure) {
        let (status, executed) = (failure.status(), failure.executed());
        if !self.one_way {
            let len = status.details().len();
            poll_fn(|cx| {
                self.session
                    .with(Clock::Now, |conn, _| conn.poll_room(self.id, len, cx))
            })
            .await;
        }
        self.finish(End::Reported { status, executed });
    }
}
