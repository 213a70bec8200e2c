//! The call that a gRPC request asks for, made at the server itself.

use std::{
    future::{Future, poll_fn},
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
    /// The server drains, and has surely not executed it.
    Refused(Status),
    /// The caller has given up, or its connection is lost.
    Gone,
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

impl From<Error> for Ended {
    /// The handler's own status, or what the runtime says.
    fn from(error: Error) -> Self {
        let status = match error.status() {
            Some(status) => status.clone(),
            None => Status::new(error.code(), error.message()),
        };
        match error.status() {
            None if error.code() == Code::Unavailable && error.executed() == Executed::No => {
                Self::Refused(status)
            }
            _ => Self::With(Err(status)),
        }
    }
}

impl Asked {
    /// Makes the call with `messages`, and sends the replies. If the caller gives up, the call is cancelled.
    pub(super) async fn run(self, shared: &Shared, messages: Messages<'_>, answer: &mut Answer<'_>) -> Ended {
        let procedure = self.procedure;
        let made = match (procedure.has_request_stream(), procedure.has_reply_stream()) {
            (false, false) => self.unary(shared, messages, answer).await,
            (false, true) => self.reply_stream(shared, messages, answer).await,
            (true, false) => self.request_stream(shared, messages, answer).await,
            (true, true) => self.both_streams(shared, messages, answer).await,
        };
        made.map_or_else(|ended| ended, |metadata| Ended::With(Ok(metadata)))
    }

    /// The call, with the time that is left for it.
    fn call<'a>(&self, shared: &'a Shared) -> Call<'a> {
        let left = self
            .deadline
            .map(|at| at.saturating_duration_since(Instant::now()));
        let mut call = shared.client.call().timeout(left);
        if let Some(trace) = &self.trace {
            call = call.trace_context(trace.clone());
        }
        let entries = self.metadata.iter();
        entries.fold(call, |call, (key, value)| call.metadata(key, value.clone()))
    }

    async fn unary(
        self,
        shared: &Shared,
        mut messages: Messages<'_>,
        answer: &mut Answer<'_>,
    ) -> Result<Metadata, Ended> {
        let replied = async {
            let request = messages.only().await?;
            // From here on the inner call counts it.
            messages.release();
            let call = self.call(shared);
            let replied = call.send_recv::<_, RawMessage>(self.procedure, request);
            Ok(replied.with_receipt().await?)
        };
        give(answer, replied).await
    }

    async fn reply_stream(
        self,
        shared: &Shared,
        mut messages: Messages<'_>,
        answer: &mut Answer<'_>,
    ) -> Result<Metadata, Ended> {
        let opened = async {
            let request = messages.only().await?;
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
        self,
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
        give(answer, replied).await
    }

    async fn both_streams(
        self,
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

/// Waits for the only reply, and sends it. Returns its metadata.
async fn give(
    answer: &mut Answer<'_>,
    replied: impl Future<Output = Result<(RawMessage, Receipt), Ended>>,
) -> Result<Metadata, Ended> {
    let (reply, receipt) = while_wanted(answer, replied).await?;
    answer.message(reply).await?;
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
        let mut bytes = BytesMut::new();
        put_prefixed(&message.0, encoding, &mut bytes);
        drop(message);
        let more = loop {
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
