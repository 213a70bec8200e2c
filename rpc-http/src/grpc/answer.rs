//! Answer: writes the answer to a call.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use rpc_runtime::{
    Metadata, Status,
    codec::RawMessage,
    server::{HeldMemory, PeerFault},
};
use tokio::time::{Instant, timeout_at};

use super::{
    deadline::within,
    encoding::{ACCEPTED, CallCompression, Encoding},
    headers::{Room, add_metadata},
    initial_metadata::InitialMetadata,
    names,
    prefixed::{PREFIX, plain_prefix, prefixed},
    status::{MAX_LIST, add_end},
};
use crate::{
    connection::{Shared, header_list},
    held_bytes::HeldBytes,
    pace::Pace,
};

/// The answer to a call: headers, messages, and trailers with the end.
pub(super) struct Answer<'a> {
    shared: &'a Shared,
    respond: SendResponse<HeldBytes>,
    /// Where the messages go; none until the first one.
    body: Option<SendStream<HeldBytes>>,
    encoding: Encoding,
    /// What the handler adds to the headers; none if the guest does not ask for it.
    initial: Option<InitialMetadata>,
}

/// Why a message does not reach the caller.
pub(super) enum Unsent {
    /// The caller has given up, takes too little, or its connection is lost.
    Gone,
    /// The server has no memory for it, or the deadline of the call has passed.
    Refused(Status),
}

impl From<Status> for Unsent {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl<'a> Answer<'a> {
    /// The answer to a request that says this about `compression`.
    pub(super) fn new(
        shared: &'a Shared,
        respond: SendResponse<HeldBytes>,
        compression: CallCompression,
    ) -> Self {
        Self {
            shared,
            respond,
            body: None,
            encoding: compression.answer,
            initial: None,
        }
    }

    /// Sends what the handler adds to `initial` with the headers.
    pub(super) fn set_initial_metadata(&mut self, initial: InitialMetadata) {
        self.initial = Some(initial);
    }

    /// Sends the only message of an answer, once the caller has room for it, until the `deadline` of the call. It counts as held by the server
    /// until it is written.
    pub(super) async fn only_message(
        &mut self,
        message: RawMessage,
        deadline: Option<Instant>,
    ) -> Result<(), Unsent> {
        let Some(message) = self.long_message_now(message)? else {
            return Ok(());
        };
        let bytes = prefixed(&message.0, self.encoding);
        drop(message);
        match self.messages_now(bytes)? {
            None => Ok(()),
            // Boxed, because it is long and few calls need it.
            Some((bytes, held)) => Box::pin(within(deadline, self.send(bytes, held))).await,
        }
    }

    /// How messages of this answer are compressed.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Sends messages of a stream, each behind its five bytes, once the caller has room for them. They count as held by the server until they
    /// are written.
    pub(super) async fn messages(&mut self, bytes: Bytes) -> Result<(), Unsent> {
        match self.messages_now(bytes)? {
            None => Ok(()),
            Some((bytes, held)) => self.send(bytes, held).await,
        }
    }

    /// Sends a message that is too long to be copied, if the caller has room for all of it. Returns any other.
    pub(super) fn long_message_now(&mut self, message: RawMessage) -> Result<Option<RawMessage>, Unsent> {
        let len = PREFIX + message.0.len();
        if len < LONG || self.encoding != Encoding::Identity {
            return Ok(Some(message));
        }
        let held = self.shared.server.hold(len as u64)?;
        self.begin()?;
        let body = self.body.as_mut().ok_or(Unsent::Gone)?;
        body.reserve_capacity(len);
        if body.capacity() < len {
            return Ok(Some(message));
        }
        self.shared.traffic.add_useful(len);
        let prefix = plain_prefix(message.0.len());
        let bytes = HeldBytes::behind(prefix, message.0, held, &self.shared.unwritten);
        let sent = body.send_data(bytes, false);
        sent.map(|()| None).map_err(|_| Unsent::Gone)
    }

    /// Sends messages if the caller has room for all of them, and returns them if it has not.
    fn messages_now(&mut self, bytes: Bytes) -> Result<Option<(Bytes, HeldMemory)>, Unsent> {
        let held = self.shared.server.hold(bytes.len() as u64);
        let held = held.map_err(Unsent::Refused)?;
        self.shared.traffic.add_useful(bytes.len());
        self.begin()?;
        let body = self.body.as_mut().ok_or(Unsent::Gone)?;
        body.reserve_capacity(bytes.len());
        if body.capacity() < bytes.len() {
            return Ok(Some((bytes, held)));
        }
        let sent = body.send_data(HeldBytes::new(bytes, held, &self.shared.unwritten), false);
        sent.map(|()| None).map_err(|_| Unsent::Gone)
    }

    async fn send(&mut self, mut bytes: Bytes, mut held: HeldMemory) -> Result<(), Unsent> {
        let body = self.body.as_mut().ok_or(Unsent::Gone)?;
        let mut pace = Pace::new(self.shared.server.write_stall());
        body.reserve_capacity(bytes.len());
        while !bytes.is_empty() {
            if body.capacity() == 0 {
                let room = timeout_at(pace.due(), poll_fn(|cx| body.poll_capacity(cx))).await;
                match room {
                    Ok(Some(Ok(_))) => {}
                    Ok(Some(Err(_)) | None) => return Err(Unsent::Gone),
                    Err(_) => {
                        let peer = self.shared.server.peer().address();
                        tracing::debug!(
                            peer,
                            "a caller takes too little of its reply: Limits::write_stall"
                        );
                        self.shared.server.note_fault(PeerFault::Other);
                        body.send_reset(Reason::CANCEL);
                        return Err(Unsent::Gone);
                    }
                }
            }
            let chunk = bytes.split_to(bytes.len().min(body.capacity()));
            pace.moved(chunk.len());
            if !chunk.is_empty() {
                let held = held.split(chunk.len() as u64);
                let sent = body.send_data(HeldBytes::new(chunk, held, &self.shared.unwritten), false);
                sent.map_err(|_| Unsent::Gone)?;
            }
        }
        Ok(())
    }

    /// Sends the headers, if they are not sent yet.
    fn begin(&mut self) -> Result<(), Unsent> {
        if self.body.is_none() {
            let mut response = self.response(self.encoding);
            if let Some(initial) = &self.initial {
                let headers = response.headers_mut();
                let mut room = Room(MAX_LIST.saturating_sub(header_list(headers)));
                let left_out = add_metadata(&initial.take(), headers, &mut room);
                if left_out > 0 {
                    tracing::warn!(left_out, "initial metadata does not fit into the headers");
                }
            }
            let sent = self.respond.send_response(response, false);
            self.body = Some(sent.map_err(|_| Unsent::Gone)?);
        }
        Ok(())
    }

    /// True if the headers are sent.
    pub(super) fn has_begun(&self) -> bool {
        self.body.is_some()
    }

    /// Sends the end. Without a message or initial metadata before it, a failure has no body.
    pub(super) fn end(mut self, end: Result<&Metadata, &Status>) {
        // Whether the caller still hears it does not matter.
        let _ = self.send_end(end, HeaderMap::new());
    }

    /// Sends a failure, and that the handler surely did not run. Clients of this library read that.
    pub(super) fn end_unexecuted(mut self, status: &Status) {
        let mut trailers = HeaderMap::new();
        trailers.insert(&names::EXECUTED, HeaderValue::from_static("no"));
        let _ = self.send_end(Err(status), trailers);
    }

    /// Says that the call was not executed, so that the caller may make it again elsewhere.
    pub(super) fn refuse(mut self, status: &Status) {
        match self.body {
            None => self.respond.send_reset(Reason::REFUSED_STREAM),
            Some(_) => self.end_unexecuted(status),
        }
    }

    /// Sends the end behind what is in `trailers`.
    fn send_end(&mut self, end: Result<&Metadata, &Status>, mut trailers: HeaderMap) -> Result<(), Unsent> {
        let has_begun =
            self.body.is_some() || self.initial.as_ref().is_some_and(|initial| !initial.is_empty());
        if !has_begun && end.is_err() {
            let mut response = self.response(Encoding::Identity);
            response.headers_mut().extend(trailers);
            add_end(end, response.headers_mut());
            let sent = self.respond.send_response(response, true);
            return sent.map(drop).map_err(|_| Unsent::Gone);
        }
        self.begin()?;
        add_end(end, &mut trailers);
        let body = self.body.as_mut().ok_or(Unsent::Gone)?;
        body.send_trailers(trailers).map_err(|_| Unsent::Gone)
    }

    fn response(&self, encoding: Encoding) -> Response<()> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(&names::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        if encoding != Encoding::Identity {
            headers.insert(&names::ENCODING, HeaderValue::from_static(encoding.name()));
        }
        response
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

/// From this length on a message is not copied. A shorter one costs less to copy, and may be a part of a longer buffer.
const LONG: usize = 16 << 10;
