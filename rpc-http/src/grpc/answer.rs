//! Answer: writes the answer to a call.

use std::{future::poll_fn, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use rpc_runtime::{Metadata, Status, codec::RawMessage};
use tokio::time::timeout;

use super::{
    encoding::{ACCEPTED, Encoding},
    headers::add_metadata,
    initial_metadata::InitialMetadata,
    messages::PREFIX,
    status::add_end,
};

/// The answer to a call: headers, messages, and trailers with the end.
pub(super) struct Answer {
    respond: SendResponse<Bytes>,
    /// Where the messages go; none until the first one.
    body: Option<SendStream<Bytes>>,
    encoding: Encoding,
    /// What the handler adds to the headers; none if the guest does not ask for it.
    initial: Option<InitialMetadata>,
}

/// The caller has given up, or its connection is lost.
pub(super) struct Gone;

impl Answer {
    pub(super) fn new(respond: SendResponse<Bytes>, encoding: Encoding) -> Self {
        Self {
            respond,
            body: None,
            encoding,
            initial: None,
        }
    }

    /// Sends what the handler adds to `initial` with the headers.
    pub(super) fn set_initial_metadata(&mut self, initial: InitialMetadata) {
        self.initial = Some(initial);
    }

    /// Sends a message, once the caller has room for it.
    pub(super) async fn message(&mut self, message: &RawMessage) -> Result<(), Gone> {
        let mut bytes = prefixed(&message.0, self.encoding);
        self.begin()?;
        let body = self.body.as_mut().ok_or(Gone)?;
        body.reserve_capacity(bytes.len());
        while !bytes.is_empty() {
            if body.capacity() == 0 {
                let room = timeout(STALL, poll_fn(|cx| body.poll_capacity(cx))).await;
                match room {
                    Ok(Some(Ok(_))) => {}
                    Ok(Some(Err(_)) | None) => return Err(Gone),
                    Err(_) => {
                        body.send_reset(Reason::CANCEL);
                        return Err(Gone);
                    }
                }
            }
            let chunk = bytes.split_to(bytes.len().min(body.capacity()));
            if !chunk.is_empty() {
                body.send_data(chunk, false).map_err(|_| Gone)?;
            }
        }
        Ok(())
    }

    /// Sends the headers, if they are not sent yet.
    fn begin(&mut self) -> Result<(), Gone> {
        if self.body.is_none() {
            let mut response = response(self.encoding);
            if let Some(initial) = &self.initial {
                add_metadata(&initial.take(), response.headers_mut());
            }
            self.body = Some(self.respond.send_response(response, false).map_err(|_| Gone)?);
        }
        Ok(())
    }

    /// Sends the end. Without a message or initial metadata before it, a failure has no body.
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
        let has_begun =
            self.body.is_some() || self.initial.as_ref().is_some_and(|initial| !initial.is_empty());
        if !has_begun && end.is_err() {
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

/// A message with the five bytes before it.
fn prefixed(message: &[u8], encoding: Encoding) -> Bytes {
    let compressed = encoding.compress(message);
    let (flag, message) = match &compressed {
        Some(compressed) => (1, &compressed[..]),
        None => (0, message),
    };
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    bytes.put_u8(flag);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}
