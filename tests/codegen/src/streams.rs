//! Handlers of the odd streams. They write streams in each possible way.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use rpc_runtime::{
    Code, Context, Open, Requests, Result, Status, Stream,
    codegen::prost_types::{Any, Timestamp},
    stream,
};

use crate::acme::{
    common::v1::{Money, outer::Inner},
    streams::{Choice, Kind, NoFields, Sender, Stream as StreamMessage, Streaming, T, stream::Stream as Of},
};

/// Streams its arguments or its own texts.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// The texts that [`Streaming::rpc_receipt`] borrows.
    pub texts: Vec<String>,
}

impl Streaming for Streams {
    async fn rpc_stream(
        &self,
        _: &Context,
        requests: String,
        replies: rpc_runtime::Bytes,
        stream: u32,
        service: String,
        call: String,
        arguments: String,
        kind: Open<Kind>,
    ) -> Result<impl Stream<Item = Result<StreamMessage>> + Send> {
        let text = format!("{requests} {stream} {service} {call} {arguments} {kind:?}");
        let each = [Of::Text(text), Of::Data(replies)];
        Ok(Ready(each.map(|one| StreamMessage { stream: Some(one) }).into()))
    }

    async fn rpc_requests(&self, _: &Context, requests: Requests<Sender>) -> Result<Vec<String>> {
        texts(requests).await
    }

    async fn rpc_replies(
        &self,
        _: &Context,
        mut requests: Requests<T>,
    ) -> Result<impl Stream<Item = Result<T>> + Send> {
        Ok(stream(async move |out| {
            while let Some(T { of }) = requests.message().await? {
                out.send(of.map_or_else(T::default, |inner| *inner)).await;
            }
            Ok(())
        }))
    }

    async fn rpc_values(
        &self,
        _: &Context,
        mut requests: Requests<String>,
    ) -> Result<impl Stream<Item = Result<Timestamp>> + Send> {
        Ok(stream(async move |out| {
            while let Some(text) = requests.message().await? {
                let seconds = text
                    .parse()
                    .map_err(|_| Status::new(Code::InvalidArgument, "no number"))?;
                out.send(Timestamp { seconds, nanos: 0 }).await;
            }
            Ok(())
        }))
    }

    async fn rpc_any(&self, _: &Context, mut requests: Requests<Any>) -> Result<bool> {
        Ok(requests.message().await?.is_some())
    }

    async fn rpc_ticks(&self, _: &Context, mut requests: Requests<()>) -> Result<()> {
        while let Some(()) = requests.message().await? {}
        Ok(())
    }

    async fn rpc_pulses(&self, _: &Context) -> Result<impl Stream<Item = Result<()>> + Send> {
        Ok(Ready(vec![(); 3]))
    }

    async fn rpc_nothing(&self, _: &Context) -> Result<impl Stream<Item = Result<NoFields>> + Send> {
        Ok(Ready(Vec::new()))
    }

    async fn rpc_money(
        &self,
        _: &Context,
        requests: Requests<Money>,
    ) -> Result<impl Stream<Item = Result<Money>> + Send> {
        Ok(requests)
    }

    async fn rpc_inner(
        &self,
        _: &Context,
        on: bool,
        mode: Open<crate::acme::common::v1::outer::inner::Mode>,
    ) -> Result<impl Stream<Item = Result<Inner>> + Send> {
        let mode = mode.into();
        Ok(Ready(vec![Inner { on, mode }, Inner { on: !on, mode }]))
    }

    async fn rpc_choice(
        &self,
        _: &Context,
        request: Choice,
    ) -> Result<impl Stream<Item = Result<Choice>> + Send> {
        Ok(Ready(vec![request]))
    }

    async fn rpc_type(
        &self,
        _: &Context,
        requests: Requests<Sender>,
    ) -> Result<impl Stream<Item = Result<Sender>> + Send> {
        Ok(requests)
    }

    async fn rpc_idle_timeout(&self, _: &Context, requests: Requests<Sender>) -> Result<Vec<String>> {
        texts(requests).await
    }

    async fn rpc_receipt(
        &self,
        cx: &Context,
        more: Vec<String>,
    ) -> Result<impl Stream<Item = Result<Sender>> + Send> {
        // The stream borrows from `self` and from `more`.
        Ok(stream(async move |out| {
            for text in self.texts.iter().chain(&more) {
                let texts = vec![cx.procedure().to_owned(), text.clone()];
                out.send(Sender { texts }).await;
            }
            Ok(())
        }))
    }

    async fn rpc_priority(
        &self,
        cx: &Context,
        requests: Requests<Sender>,
    ) -> Result<impl Stream<Item = Result<Sender>> + Send> {
        let _ = cx;
        Ok(requests)
    }
}

async fn texts(mut requests: Requests<Sender>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    while let Some(sender) = requests.message().await? {
        all.extend(sender.texts);
    }
    Ok(all)
}

/// A stream type written by hand; all its items are ready.
#[derive(Debug)]
struct Ready<T>(Vec<T>);

impl<T: Unpin> Stream for Ready<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<T>>> {
        let next = (!self.0.is_empty()).then(|| self.0.remove(0));
        Poll::Ready(next.map(Ok))
    }
}
