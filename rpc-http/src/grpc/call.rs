//! The call that a gRPC request asks for, made at the server itself.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    task::Poll,
};

use bytes::BytesMut;
use rpc_runtime::{
    Code, Error, Executed, Metadata, Sender, Status, Streaming,
    client::{Call, Receipt},
    codec::RawMessage,
    server::Procedure,
    trace::TraceContext,
};
use tokio::time::Instant;

use super::{
    answer::{Answer, Unsent},
    deadline::{exceeded, within},
    messages::{Broken, Messages},
    prefixed::put_prefixed,
};
use crate::connection::Shared;

/// What a request asks for.
pub(super) struct Asked {
    pub(super) procedure: &'static Procedure,
    pub(super) deadline: Option<Instant>,
    pub(super) metadata: Metadata,
    pub(super) trace: Option<TraceContext>,
}

/// How a call ended.
pub(super) enum Ended {
    /// With the metadata of its reply, or with the status of its failure.
    With(Result<Metadata, Status>),
    /// It was refused before its handler ran.
    Unexecuted(Status),
    /// The server drains, and has surely not executed it.
    Refused(Status),
    /// The caller has given up, or its connection is lost.
    Gone,
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::With(Err(status))
    }
}

impl From<Unsent> for Ended {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Gone => Self::Gone,
            Unsent::Refused(status) => Self::With(Err(status)),
        }
    }
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Peer => Self::Gone,
            Broken::Body(status) => Self::With(Err(status)),
        }
    }
}

impl Ended {
    /// The end of a call whose only request cannot be read.
    fn unread(broken: Broken) -> Self {
        match broken {
            Broken::Peer => Self::Gone,
            Broken::Body(status) => Self::Unexecuted(status),
        }
    }
}

impl From<Error> for Ended {
    /// The handler's own status, or what the runtime says.
    fn from(error: Error) -> Self {
        let status = match error.status() {
            Some(status) => status.clone(),
            None if error.code() == Code::DeadlineExceeded => exceeded(),
            None => Status::new(error.code(), error.message()),
        };
        match error.status() {
            None if error.code() == Code::Unavailable && error.executed() == Executed::No => {
                Self::Refused(status)
            }
            _ if error.executed() == Executed::No => Self::Unexecuted(status),
            _ => Self::With(Err(status)),
        }
    }
}

impl Asked {
    /// Makes the call with `messages`, and sends the replies. If the caller gives up, the call is cancelled.
    ///
    /// The call inside of the server has the same deadline. What goes on before and after it needs a timer.
    pub(super) async fn run(self, shared: &Shared, messages: Messages<'_>, answer: &mut Answer<'_>) -> Ended {
        let procedure = self.procedure;
        let made = match (procedure.has_request_stream(), procedure.has_reply_stream()) {
            (false, false) => self.unary(shared, messages, answer).await,
            // Boxed, so that the future of a call without streams is short.
            _ => Box::pin(within(self.deadline, self.streams(shared, messages, answer))).await,
        };
        made.map_or_else(|ended| ended, |metadata| Ended::With(Ok(metadata)))
    }

    async fn streams(
        self,
        shared: &Shared,
        messages: Messages<'_>,
        answer: &mut Answer<'_>,
    ) -> Result<Metadata, Ended> {
        match (
            self.procedure.has_request_stream(),
            self.procedure.has_reply_stream(),
        ) {
            (false, _) => self.reply_stream(shared, messages, answer).await,
            (true, false) => self.request_stream(shared, messages, answer).await,
            (true, true) => self.both_streams(shared, messages, answer).await,
        }
    }

    /// The call, with the time that is left for it. Takes the metadata.
    fn call<'a>(&mut self, shared: &'a Shared) -> Call<'a> {
        let left = self
            .deadline
            .map(|at| at.saturating_duration_since(Instant::now()));
        let metadata = mem::take(&mut self.metadata);
        let call = shared.client.call().timeout(left).all_metadata(metadata);
        match self.trace.take() {
            Some(trace) => call.trace_context(trace),
            None => call,
        }
    }

    async fn unary(
        mut self,
        shared: &Shared,
        mut messages: Messages<'_>,
        answer: &mut Answer<'_>,
    ) -> Result<Metadata, Ended> {
        let deadline = self.deadline;
        let replied = async {
            let request = messages.only(deadline).await.map_err(Ended::unread)?;
            // From here on the inner call counts it.
            messages.release();
            let call = self.call(shared);
            let replied = call.send_recv::<_, RawMessage>(self.procedure, request);
            Ok(replied.with_receipt().await?)
        };
        give(answer, replied, deadline).await
    }

    async fn reply_stream(
        mut self,
        shared: &Shared,
        mut messages: Messages<'_>,
        answer: &mut Answer<'_>,
    ) -> Result<Metadata, Ended> {
        let opened = async {
            let request = messages.only(None).await.map_err(Ended::unread)?;
            // From here on the inner call counts it.
            messages.release();
            let call = self.call(shared);
            Ok(call
                .reply_stream::<_, RawMessage>(self.procedure, request)
                .await?)
        };
        let replies = while_wanted(answer, opened).await?;
        forward(replies, answer).await
    }

    async fn request_stream(
        mut self,
        shared: &Shared,
        mut messages: Messages<'_>,
        answer: &mut Answer<'_>,
    ) -> Result<Metadata, Ended> {
        let replied = async {
            let call = self.call(shared);
            let opened = call.request_stream::<RawMessage, RawMessage, RawMessage>(self.procedure, Ok);
            let (sender, reply) = while_unread(&mut messages, async { Ok(opened.await?) }).await?;
            let reply = async { Ok(reply.with_receipt().await?) };
            while_sending(sender, &mut messages, reply).await
        };
        give(answer, replied, None).await
    }

    async fn both_streams(
        mut self,
        shared: &Shared,
        mut messages: Messages<'_>,
        answer: &mut Answer<'_>,
    ) -> Result<Metadata, Ended> {
        let opened = async {
            let call = self.call(shared);
            Ok(call
                .both_streams::<RawMessage, RawMessage>(self.procedure)
                .await?)
        };
        let (sender, replies) = while_wanted(answer, while_unread(&mut messages, opened)).await?;
        while_sending(sender, &mut messages, forward(replies, answer)).await
    }
}

/// Waits for the only reply, and sends it until the `deadline`. Returns its metadata.
async fn give(
    answer: &mut Answer<'_>,
    replied: impl Future<Output = Result<(RawMessage, Receipt), Ended>>,
    deadline: Option<Instant>,
) -> Result<Metadata, Ended> {
    let (reply, receipt) = while_wanted(answer, replied).await?;
    answer.only_message(reply, deadline).await?;
    Ok(receipt.metadata().clone())
}

/// Waits for `wanted` while the caller has not given up.
async fn while_wanted<T>(
    answer: &mut Answer<'_>,
    wanted: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    tokio::select! {
        biased;
        found = wanted => found,
        () = answer.gone() => Err(Ended::Gone),
    }
}

/// Waits until a call with a stream of requests is open. It may wait for its turn, and nobody reads the body meanwhile.
async fn while_unread<T>(
    messages: &mut Messages<'_>,
    opened: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    let mut opened = pin!(opened);
    let at_once = poll_fn(|cx| Poll::Ready(opened.as_mut().poll(cx))).await;
    match at_once {
        Poll::Ready(opened) => opened,
        Poll::Pending => {
            messages.hold_window(0).map_err(Broken::Body)?;
            opened.await
        }
    }
}

/// Sends the requests of a stream until `reply` is there. A body that is broken ends the call.
async fn while_sending<T>(
    sender: Sender<RawMessage>,
    messages: &mut Messages<'_>,
    reply: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    let sent = async {
        let mut sender = sender;
        while let Some(message) = messages.next().await? {
            let len = message.0.len();
            let mut sending = pin!(sender.send(message));
            let sent = match poll_now(sending.as_mut()).await {
                Poll::Ready(sent) => sent,
                Poll::Pending => {
                    messages.hold_window(len).map_err(Broken::Body)?;
                    sending.await
                }
            };
            // The reply says why the call takes no more of them.
            if sent.is_err() {
                return Ok(());
            }
        }
        sender.finish();
        Ok::<_, Ended>(())
    };
    tokio::pin!(sent, reply);
    tokio::select! {
        biased;
        replied = &mut reply => replied,
        sent = &mut sent => {
            let () = sent?;
            reply.await
        }
    }
}

/// Sends the replies of a stream, once the caller has room for them. Returns the metadata of the end.
///
/// Replies that are here already go together: a DATA frame for each costs several times what a short message does.
async fn forward(mut replies: Streaming<RawMessage>, answer: &mut Answer<'_>) -> Result<Metadata, Ended> {
    let encoding = answer.encoding();
    let mut next = while_wanted(answer, async { Ok(replies.message().await?) }).await?;
    while let Some(message) = next {
        let Some(message) = answer.long_message_now(message)? else {
            next = while_wanted(answer, async { Ok(replies.message().await?) }).await?;
            continue;
        };
        let mut bytes = BytesMut::new();
        put_prefixed(&message.0, encoding, &mut bytes);
        drop(message);
        let more = loop {
            replies.read_arrived(|message| {
                put_prefixed(message, encoding, &mut bytes);
                bytes.len() < TOGETHER
            });
            if bytes.len() >= TOGETHER {
                break None;
            }
            match poll_now(replies.message()).await {
                Poll::Ready(Ok(Some(message))) => put_prefixed(&message.0, encoding, &mut bytes),
                // The stream is over. The caller gets what came before.
                Poll::Ready(end) => break Some(end),
                Poll::Pending => break None,
            }
        };
        answer.messages(bytes.freeze()).await?;
        next = match more {
            Some(end) => end?,
            None => while_wanted(answer, async { Ok(replies.message().await?) }).await?,
        };
    }
    Ok(replies.metadata().cloned().unwrap_or_default())
}

/// Polls `future` once.
async fn poll_now<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// With this many bytes, replies that go together are sent.
const TOGETHER: usize = 16 << 10;
