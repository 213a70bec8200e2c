//! Invocation: the call of one case.

use std::{
    future::{Future, pending},
    time::Duration,
};

use prost::{Message, Name};
use rpc_http::ReplyHeaders;
use rpc_runtime::{Error, Sender, Streaming, client::Receipt};
use tokio::time::sleep;

use super::{
    connectrpc::conformance::v1::{
        BidiStreamRequest, BidiStreamResponse, ClientCompatRequest, ClientResponseResult,
        ClientStreamRequest, ConformancePayload, ConformanceServiceClient, ConformanceServiceSendRecv,
        IdempotentUnaryRequest, ServerStreamRequest, StreamType, UnaryRequest, UnimplementedRequest,
        client_compat_request::cancel::CancelTiming,
    },
    outcome::{End, Outcome},
};

/// The call of one case.
pub(super) struct Invocation {
    client: ConformanceServiceClient,
    request: ClientCompatRequest,
    headers: ReplyHeaders,
    cancel: Option<CancelTiming>,
}

/// Why a call cannot be made as the suite wants it.
type Unfit = Box<dyn std::error::Error + Send + Sync>;

impl Invocation {
    /// The call of `request` by `client`.
    pub(super) fn new(client: ConformanceServiceClient, request: ClientCompatRequest) -> Self {
        let cancel = request
            .cancel
            .as_ref()
            .map(|cancel| cancel.cancel_timing.unwrap_or(CancelTiming::AfterCloseSendMs(0)));
        Self {
            client,
            request,
            headers: ReplyHeaders::new(),
            cancel,
        }
    }

    /// Makes the call.
    ///
    /// # Errors
    ///
    /// The suite wants what this client cannot do. How the call itself fails is in the result.
    pub(super) async fn run(self) -> Result<ClientResponseResult, Unfit> {
        let outcome = match self.request.method() {
            "Unary" => {
                let call = self.call().unary(self.only_message::<UnaryRequest>()?);
                self.only_reply(call.with_receipt(), |reply| reply.payload).await
            }
            "IdempotentUnary" => {
                let request = self.only_message::<IdempotentUnaryRequest>()?;
                let call = self.call().idempotent_unary(request);
                self.only_reply(call.with_receipt(), |reply| reply.payload).await
            }
            "Unimplemented" => {
                let call = self
                    .call()
                    .unimplemented(self.only_message::<UnimplementedRequest>()?);
                self.only_reply(call.with_receipt(), |_| None).await
            }
            "ServerStream" => self.server_stream().await?,
            "ClientStream" => self.client_stream().await?,
            "BidiStream" => self.bidi_stream().await?,
            other => return Err(format!("this client does not know the method {other:?}").into()),
        };
        Ok(outcome.into_result(self.headers.get()))
    }

    async fn client_stream(&self) -> Result<Outcome, Unfit> {
        let messages = self.messages::<ClientStreamRequest>()?;
        let (mut sender, reply) = match self.call().client_stream().await {
            Ok(call) => call,
            Err(error) => return Ok(Outcome::of(failed(error))),
        };
        let unsent = self.send_all(&mut sender, messages).await;
        self.end_requests(sender);
        let mut outcome = self.only_reply(reply.with_receipt(), |reply| reply.payload).await;
        outcome.unsent = unsent;
        Ok(outcome)
    }

    async fn server_stream(&self) -> Result<Outcome, Unfit> {
        let request = self.only_message::<ServerStreamRequest>()?;
        let mut outcome = Outcome::of(End::Dropped);
        let call = async {
            let mut replies = match self.call().server_stream(request).await {
                Ok(replies) => replies,
                Err(error) => return failed(error),
            };
            self.read_all(&mut replies, |reply| reply.payload, &mut outcome.payloads)
                .await
        };
        outcome.end = self.unless_dropped(call).await;
        Ok(outcome)
    }

    async fn bidi_stream(&self) -> Result<Outcome, Unfit> {
        let messages = self.messages::<BidiStreamRequest>()?;
        let mut outcome = Outcome::of(End::Dropped);
        let (mut sender, mut replies) = match self.call().bidi_stream().await {
            Ok(call) => call,
            Err(error) => return Ok(Outcome::of(failed(error))),
        };
        let payload = |reply: BidiStreamResponse| reply.payload;
        if self.request.stream_type() == StreamType::FullDuplexBidiStream {
            let mut left = messages.len();
            for message in messages {
                if self.send(&mut sender, message).await.is_err() {
                    break;
                }
                left -= 1;
                if let Some(end) = self.read_one(&mut replies, payload, &mut outcome.payloads).await {
                    outcome.unsent = left;
                    outcome.end = end;
                    return Ok(outcome);
                }
            }
            outcome.unsent = left;
        } else {
            outcome.unsent = self.send_all(&mut sender, messages).await;
        }
        self.end_requests(sender);
        let rest = self.read_all(&mut replies, payload, &mut outcome.payloads);
        outcome.end = self.unless_dropped(rest).await;
        Ok(outcome)
    }

    /// The stub with the headers and the metadata of the call.
    fn call(&self) -> ConformanceServiceSendRecv<'_> {
        let mut call = self.client.send_recv().metadata(ReplyHeaders::KEY, &self.headers);
        for header in &self.request.request_headers {
            for value in &header.value {
                call = call.metadata(&header.name, value.clone());
            }
        }
        call
    }

    /// Sends messages, each after the delay of the case. Returns how many could not be sent; why is said by the reply.
    async fn send_all<M: Message + 'static>(&self, sender: &mut Sender<M>, messages: Vec<M>) -> usize {
        let mut left = messages.len();
        for message in messages {
            if self.send(sender, message).await.is_err() {
                break;
            }
            left -= 1;
        }
        left
    }

    async fn send<M: Message + 'static>(&self, sender: &mut Sender<M>, message: M) -> Result<(), Error> {
        sleep(Duration::from_millis(self.request.request_delay_ms.into())).await;
        sender.send(message).await
    }

    /// Ends the requests, or cancels the call in place of that.
    fn end_requests<M: Message>(&self, sender: Sender<M>) {
        match self.cancel {
            Some(CancelTiming::BeforeCloseSend(_)) => drop(sender),
            _ => sender.finish(),
        }
    }

    /// Waits for the only reply of a call.
    async fn only_reply<R>(
        &self,
        call: impl Future<Output = Result<(R, Receipt), Error>>,
        payload: impl FnOnce(R) -> Option<ConformancePayload>,
    ) -> Outcome {
        let mut outcome = Outcome::of(End::Dropped);
        let call = async {
            match call.await {
                Ok((reply, receipt)) => {
                    outcome.payloads.push(payload(reply).unwrap_or_default());
                    End::Well(receipt.metadata().clone())
                }
                Err(error) => failed(error),
            }
        };
        outcome.end = self.unless_dropped(call).await;
        outcome
    }

    /// Reads the replies until the call ends, or is to be dropped.
    async fn read_all<R: Message + Default>(
        &self,
        replies: &mut Streaming<R>,
        payload: impl Fn(R) -> Option<ConformancePayload>,
        payloads: &mut Vec<ConformancePayload>,
    ) -> End {
        loop {
            if let Some(end) = self.read_one(replies, &payload, payloads).await {
                return end;
            }
        }
    }

    /// Reads a reply. Returns the end of the call if there is none, or if the call is to be dropped now.
    async fn read_one<R: Message + Default>(
        &self,
        replies: &mut Streaming<R>,
        payload: impl Fn(R) -> Option<ConformancePayload>,
        payloads: &mut Vec<ConformancePayload>,
    ) -> Option<End> {
        match replies.message().await {
            Ok(Some(reply)) => {
                payloads.push(payload(reply).unwrap_or_default());
                let read = u32::try_from(payloads.len()).unwrap_or(u32::MAX);
                (self.cancel == Some(CancelTiming::AfterNumResponses(read))).then_some(End::Dropped)
            }
            Ok(None) => Some(End::Well(replies.metadata().cloned().unwrap_or_default())),
            Err(error) => Some(failed(error)),
        }
    }

    /// Waits for the end of a call whose requests are sent, or until the suite wants it to be cancelled: then it is dropped.
    async fn unless_dropped(&self, call: impl Future<Output = End>) -> End {
        let cancel = async {
            match self.cancel {
                Some(CancelTiming::AfterCloseSendMs(millis)) => {
                    sleep(Duration::from_millis(millis.into())).await;
                }
                _ => pending().await,
            }
        };
        tokio::select! {
            end = call => end,
            () = cancel => End::Dropped,
        }
    }

    fn only_message<M: Message + Name + Default>(&self) -> Result<M, Unfit> {
        let mut messages = self.messages()?;
        match messages.pop() {
            Some(message) if messages.is_empty() => Ok(message),
            _ => Err("a call with one request has none or several".into()),
        }
    }

    fn messages<M: Message + Name + Default>(&self) -> Result<Vec<M>, Unfit> {
        let messages = self.request.request_messages.iter();
        let messages: Result<_, _> = messages.map(|message| message.to_msg::<M>()).collect();
        Ok(messages?)
    }
}

fn failed(error: Error) -> End {
    End::Failed(Box::new(error))
}
