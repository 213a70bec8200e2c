//! The call that a gRPC request asks for, made at the server itself.

use std::{future::Future, time::Duration};

use rpc_runtime::{
    Error, Metadata, Sender, Status, Streaming,
    client::{Call, Reply},
    codec::RawMessage,
    server::Procedure,
};

use super::{
    answer::{Answer, Gone},
    messages::{Broken, Messages},
};
use crate::connection::Shared;

/// What a request asks for.
pub(super) struct Asked {
    pub(super) procedure: &'static Procedure,
    pub(super) timeout: Option<Duration>,
    pub(super) metadata: Metadata,
}

/// How a call ended: with the metadata of its reply, or the status of its failure.
pub(super) type End = Result<Metadata, Status>;

impl Asked {
    /// Makes the call with `messages`, and sends the replies. Returns how it ended; none if the caller has given up, which cancels the call.
    pub(super) async fn run(self, shared: &Shared, messages: Messages, answer: &mut Answer) -> Option<End> {
        let procedure = self.procedure;
        let call = self.call(shared);
        match (procedure.has_request_stream(), procedure.has_reply_stream()) {
            (false, false) => unary(call, procedure, messages, answer).await,
            (false, true) => reply_stream(call, procedure, messages, answer).await,
            (true, false) => request_stream(call, procedure, messages, answer).await,
            (true, true) => both_streams(call, procedure, messages, answer).await,
        }
    }

    fn call(self, shared: &Shared) -> Call<'_> {
        let mut call = shared.client.call().timeout(self.timeout);
        for (key, value) in self.metadata {
            call = call.metadata(key, value);
        }
        call
    }
}

async fn unary(
    call: Call<'_>,
    procedure: &'static Procedure,
    mut messages: Messages,
    answer: &mut Answer,
) -> Option<End> {
    let replied = async {
        let request = messages.only().await?;
        let replied = call
            .send_recv::<_, RawMessage>(procedure, request)
            .with_receipt()
            .await;
        Ok(replied.map_err(status)?)
    };
    let replied = tokio::select! {
        biased;
        replied = replied => replied,
        () = answer.gone() => return None,
    };
    let (reply, receipt) = match replied {
        Ok(replied) => replied,
        Err(broken) => return broken_end(broken),
    };
    match answer.message(&reply).await {
        Ok(()) => Some(Ok(receipt.metadata().clone())),
        Err(Gone) => None,
    }
}

async fn reply_stream(
    call: Call<'_>,
    procedure: &'static Procedure,
    mut messages: Messages,
    answer: &mut Answer,
) -> Option<End> {
    let opened = async {
        let request = messages.only().await?;
        let opened = call.reply_stream::<_, RawMessage>(procedure, request).await;
        Ok(opened.map_err(status)?)
    };
    let opened = tokio::select! {
        biased;
        opened = opened => opened,
        () = answer.gone() => return None,
    };
    match opened {
        Ok(replies) => forward(replies, answer).await,
        Err(broken) => broken_end(broken),
    }
}

async fn request_stream(
    call: Call<'_>,
    procedure: &'static Procedure,
    mut messages: Messages,
    answer: &mut Answer,
) -> Option<End> {
    let opened = call
        .request_stream::<RawMessage, RawMessage, RawMessage>(procedure, Ok)
        .await;
    let (sender, reply) = match opened {
        Ok(opened) => opened,
        Err(error) => return Some(Err(status(error))),
    };
    let replied = async {
        let reply: Reply<RawMessage> = reply;
        Ok(reply.with_receipt().await.map_err(status)?)
    };
    let replied = tokio::select! {
        biased;
        replied = while_sending(sender, &mut messages, replied) => replied,
        () = answer.gone() => return None,
    };
    let (reply, receipt) = match replied {
        Ok(replied) => replied,
        Err(broken) => return broken_end(broken),
    };
    match answer.message(&reply).await {
        Ok(()) => Some(Ok(receipt.metadata().clone())),
        Err(Gone) => None,
    }
}

async fn both_streams(
    call: Call<'_>,
    procedure: &'static Procedure,
    mut messages: Messages,
    answer: &mut Answer,
) -> Option<End> {
    let opened = call.both_streams::<RawMessage, RawMessage>(procedure).await;
    let (sender, replies) = match opened {
        Ok(opened) => opened,
        Err(error) => return Some(Err(status(error))),
    };
    let forwarded = async { Ok(forward(replies, answer).await) };
    match while_sending(sender, &mut messages, forwarded).await {
        Ok(end) => end,
        Err(broken) => broken_end(broken),
    }
}

/// Sends the requests of a stream, until `reply` is there. A body that is broken ends the call.
async fn while_sending<T>(
    sender: Sender<RawMessage>,
    messages: &mut Messages,
    reply: impl Future<Output = Result<T, Broken>>,
) -> Result<T, Broken> {
    let sent = async {
        let mut sender = sender;
        while let Some(message) = messages.next().await? {
            // The reply says why the call takes no more of them.
            if sender.send(message).await.is_err() {
                return Ok::<_, Broken>(());
            }
        }
        sender.finish();
        Ok(())
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

/// Sends the replies of a stream, each once the caller has room for it.
async fn forward(mut replies: Streaming<RawMessage>, answer: &mut Answer) -> Option<End> {
    loop {
        let next = tokio::select! {
            biased;
            next = replies.message() => next,
            () = answer.gone() => return None,
        };
        match next {
            Ok(Some(message)) => match answer.message(&message).await {
                Ok(()) => {}
                Err(Gone) => return None,
            },
            Ok(None) => return Some(Ok(replies.metadata().cloned().unwrap_or_default())),
            Err(error) => return Some(Err(status(error))),
        }
    }
}

fn broken_end(broken: Broken) -> Option<End> {
    match broken {
        Broken::Peer => None,
        Broken::Body(status) => Some(Err(status)),
    }
}

/// The status of a call that failed: the handler's own, or what the runtime says.
fn status(error: Error) -> Status {
    match error.status() {
        Some(status) => status.clone(),
        None => Status::new(error.code(), error.message()),
    }
}
