//! Answer: writes the answer to a call.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use rpc_runtime::{Metadata, Status, codec::RawMessage};

use super::{
    body::{self, Part, Unsent},
    encoding::{ACCEPTED, Encoding},
    messages::prefixed,
    status::add_end,
};

/// The answer to a call: headers, messages, and trailers with the end.
pub(super) struct Answer {
    respond: SendResponse<Bytes>,
    /// Where the messages go; none until the first one.
    body: Option<SendStream<Bytes>>,
    encoding: Encoding,
}

/// The caller has given up, or its connection is lost.
pub(super) struct Gone;

impl Answer {
    pub(super) fn new(respond: SendResponse<Bytes>, encoding: Encoding) -> Self {
        Self {
            respond,
            body: None,
            encoding,
        }
    }

    /// Sends a message, once the caller has room for it.
    pub(super) async fn message(&mut self, message: &RawMessage) -> Result<(), Gone> {
        let bytes = prefixed(&message.0, self.encoding);
        self.begin()?;
        let body = self.body.as_mut().ok_or(Gone)?;
        match body::send(body, bytes, Part::Middle, Some(STALL)).await {
            Ok(()) => Ok(()),
            Err(Unsent::Over) => Err(Gone),
            Err(Unsent::Stalled) => {
                body.send_reset(Reason::CANCEL);
                Err(Gone)
            }
        }
    }

    /// Sends the headers, if they are not sent yet.
    fn begin(&mut self) -> Result<(), Gone> {
        if self.body.is_none() {
            let response = response(self.encoding);
            self.body = Some(self.respond.send_response(response, false).map_err(|_| Gone)?);
        }
        Ok(())
    }

    /// Sends the end. Without a message before it, a failure has no body.
    pub(super) fn end(mut self, end: Result<&Metadata, &Status>) {
        // Whether the caller still hears it does not matter.
        let _ = self.send_end(end);
    }

    /// Says that the call was not executed, so that the caller may make it again elsewhere.
    pub(super) fn refuse(mut self, status: &Status) {
        match self.body {
            None => self.respond.send_reset(Reason::REFUSED_STREAM),
            Some(_) => self.end(Err(status)),
        }
    }

    fn send_end(&mut self, end: Result<&Metadata, &Status>) -> Result<(), Gone> {
        if self.body.is_none() && end.is_err() {
            let mut response = response(Encoding::Identity);
            add_end(end, response.headers_mut());
            return self
                .respond
                .send_response(response, true)
                .map(drop)
                .map_err(|_| Gone);
        }
        self.begin()?;
        let mut trailers = HeaderMap::new();
        add_end(end, &mut trailers);
        let body = self.body.as_mut().ok_or(Gone)?;
        body.send_trailers(trailers).map_err(|_| Gone)
    }

    /// Waits until the caller gives up, or its connection is lost.
    pub(super) async fn gone(&mut self) {
        match &mut self.body {
            Some(body) => poll_fn(|cx| body.poll_reset(cx))
                .await
                .map(drop)
                .unwrap_or_default(),
            None => poll_fn(|cx| self.respond.poll_reset(cx))
                .await
                .map(drop)
                .unwrap_or_default(),
        }
    }
}

/// How long a caller may take none of a message.
const STALL: Duration = Duration::from_secs(30);

fn response(encoding: Encoding) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPTED));
    if let Some(name) = encoding.name() {
        headers.insert("grpc-encoding", HeaderValue::from_static(name));
    }
    response
}
