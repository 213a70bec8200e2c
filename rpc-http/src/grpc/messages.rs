//! Messages: reads the messages of a request's body.

use std::{future::poll_fn, task::Poll};

use bytes::Bytes;
use h2::RecvStream;
use rpc_runtime::{
    Code, Status,
    codec::RawMessage,
    server::{HeldMemory, PeerFault},
};
use tokio::time::{Instant, timeout_at};

use super::{deadline::within, encoding::Encoding, prefixed::Prefixed};
use crate::{connection::Shared, pace::Pace, stream_window::ReadPause};

/// The messages of a request's body. What it holds of them counts as held by the server.
///
/// What is read gives the peer room for more at once, so at most one message and one window are held.
pub(super) struct Messages<'a> {
    shared: &'a Shared,
    body: RecvStream,
    unread: Prefixed,
    held: HeldMemory,
    /// What is held beside the messages.
    base: usize,
    /// Some while the body is not read.
    pause: Option<ReadPause>,
    /// How much was read since then.
    read: u64,
}

impl<'a> Messages<'a> {
    /// The messages of `body`. `base` is what the call holds beside them.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED if the server has no memory for them.
    pub(super) fn new(
        shared: &'a Shared,
        body: RecvStream,
        encoding: Encoding,
        base: usize,
    ) -> Result<Self, Status> {
        Ok(Self {
            held: shared.server.hold(rounded(base))?,
            unread: Prefixed::new(encoding, shared.max_message()),
            shared,
            body,
            base,
            pause: None,
            read: 0,
        })
    }

    /// Waits for the next message; none at the end. The message before it counts as held until then.
    ///
    /// # Errors
    ///
    /// `Broken::Peer` if the caller has given up, or its connection is lost. `Broken::Body` with what is wrong with the body.
    pub(super) async fn next(&mut self) -> Result<Option<RawMessage>, Broken> {
        let begun = (self.unread.len() > 0).then(|| self.pace());
        self.read(begun).await
    }

    /// Reads the only message of a call without a stream of requests, until its `deadline`.
    ///
    /// # Errors
    ///
    /// As [`Messages::next`]; UNIMPLEMENTED if there is none, or more than one; DEADLINE_EXCEEDED.
    pub(super) async fn only(&mut self, deadline: Option<Instant>) -> Result<RawMessage, Broken> {
        // Most short requests have come whole.
        let first = match self.first_now().await? {
            Some(message) => match self.has_more_now().await? {
                Some(false) => return Ok(message),
                Some(true) => return Err(several().into()),
                None => Some(message),
            },
            None => None,
        };
        // Boxed, because it is long and few calls need it.
        Box::pin(within(deadline, self.rest_of_only(first))).await
    }

    /// Returns the first message, if it is here, whole and alone in its chunk.
    async fn first_now(&mut self) -> Result<Option<RawMessage>, Broken> {
        let Poll::Ready(Some(chunk)) = self.chunk_now().await else {
            return Ok(None);
        };
        let chunk = self.taken(chunk)?;
        self.hold(chunk.len())?;
        let pushed = self.unread.push(&chunk);
        Ok(self.checked(pushed)?.map(RawMessage))
    }

    /// True if there is more behind the message that was read; none if that is not known yet.
    async fn has_more_now(&mut self) -> Result<Option<bool>, Broken> {
        while self.unread.len() == 0 {
            match self.chunk_now().await {
                Poll::Ready(None) => return Ok(Some(false)),
                Poll::Pending => return Ok(None),
                // Many callers end the body by an empty frame.
                Poll::Ready(Some(chunk)) => {
                    if !self.taken(chunk)?.is_empty() {
                        break;
                    }
                }
            }
        }
        Ok(Some(true))
    }

    /// Reads what the only message lacks, and the end of the body. `first` is the message if it is here.
    async fn rest_of_only(&mut self, first: Option<RawMessage>) -> Result<RawMessage, Broken> {
        let message = match first {
            Some(message) => Some(message),
            None => self.read(Some(self.pace())).await?,
        };
        let message = message.ok_or_else(|| {
            Status::unimplemented("the call carried no message, and this procedure takes one")
        })?;
        if self.unread.len() > 0 || self.has_more().await? {
            return Err(several().into());
        }
        Ok(message)
    }

    /// Counts the message that was read no longer as held: it has gone on.
    pub(super) fn release(&mut self) {
        // Less can always be held.
        let _ = self.hold(0);
    }

    /// Counts a whole window beside a message of `len` bytes. While the handler does not take the message, the body is not read, and the
    /// caller may fill the window.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED if the server has no memory for it.
    pub(super) fn hold_window(&mut self, len: usize) -> Result<(), Status> {
        let pause = self.shared.window.begin_pause();
        self.hold(len + pause.window())?;
        self.pause = Some(pause);
        Ok(())
    }

    /// Waits for the next message; none at the end. With a `pace`, the message has begun.
    async fn read(&mut self, mut pace: Option<Pace>) -> Result<Option<RawMessage>, Broken> {
        loop {
            let taken = self.unread.take();
            if let Some(message) = self.checked(taken)? {
                return Ok(Some(RawMessage(message)));
            }
            // The message before has gone on.
            self.hold(0)?;
            let Some(chunk) = self.chunk(pace.as_mut()).await? else {
                if self.unread.len() == 0 {
                    return Ok(None);
                }
                let cut = Err(Status::internal("the body ends within a message"));
                return Ok(self.checked(cut)?.map(RawMessage));
            };
            self.hold(chunk.len())?;
            let pushed = self.unread.push(&chunk);
            if let Some(message) = self.checked(pushed)? {
                return Ok(Some(RawMessage(message)));
            }
            if pace.is_none() {
                pace = Some(self.pace());
            }
        }
    }

    /// Notes what a message that was read holds, or that it is malformed.
    fn checked(&mut self, read: Result<Option<Bytes>, Status>) -> Result<Option<Bytes>, Broken> {
        match read {
            Ok(None) => Ok(None),
            Ok(Some(message)) => {
                self.hold(message.len())?;
                Ok(Some(message))
            }
            Err(status) => {
                let is_too_long = status.code() == Code::ResourceExhausted;
                let fault = match is_too_long {
                    true => PeerFault::Other,
                    false => PeerFault::MalformedMessage,
                };
                self.shared.server.note_fault(fault);
                Err(status.into())
            }
        }
    }

    /// True if the body has further bytes. Its end must come soon.
    async fn has_more(&mut self) -> Result<bool, Broken> {
        let mut pace = self.pace();
        while let Some(chunk) = self.chunk(Some(&mut pace)).await? {
            if !chunk.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits for the next chunk of the body, not longer than `pace` allows. None at the end.
    async fn chunk(&mut self, pace: Option<&mut Pace>) -> Result<Option<Bytes>, Broken> {
        let chunk = match (self.chunk_now().await, &pace) {
            // A timer is made only for what has not come.
            (Poll::Ready(chunk), _) => chunk,
            (Poll::Pending, None) => self.body.data().await,
            (Poll::Pending, Some(pace)) => {
                let chunk = timeout_at(pace.due(), self.body.data()).await;
                chunk.map_err(|_| self.too_slow())?
            }
        };
        let Some(chunk) = chunk else { return Ok(None) };
        let chunk = self.taken(chunk)?;
        if let Some(pace) = pace {
            pace.moved(chunk.len());
        }
        Ok(Some(chunk))
    }

    /// The next chunk of the body, if it is here.
    async fn chunk_now(&mut self) -> Poll<Option<Result<Bytes, h2::Error>>> {
        poll_fn(|cx| Poll::Ready(self.body.poll_data(cx))).await
    }

    /// Notes that a chunk was taken: its caller may send as much again.
    fn taken(&mut self, chunk: Result<Bytes, h2::Error>) -> Result<Bytes, Broken> {
        let chunk = chunk.map_err(|_| Broken::Peer)?;
        // The stream is open, so there is no error.
        let _ = self.body.flow_control().release_capacity(chunk.len());
        self.shared.traffic.add_useful(chunk.len());
        self.read += chunk.len() as u64;
        self.shared.window.note_read(self.read);
        Ok(chunk)
    }

    fn pace(&self) -> Pace {
        Pace::new(self.shared.server.slow_frame())
    }

    fn too_slow(&self) -> Status {
        self.shared.server.note_fault(PeerFault::Other);
        let (time, read) = (self.shared.server.slow_frame(), self.unread.len());
        let text = format!(
            "less than 64 KiB of a message came in {time:?}, and {read} bytes wait for the rest: the server's Limits::slow_frame"
        );
        Status::new(Code::ResourceExhausted, text)
    }

    /// Counts what is held: `bytes`, and what is not read.
    fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        if self.pause.take().is_some() {
            self.read = 0;
        }
        self.held.resize(rounded(self.base + self.unread.len() + bytes))
    }
}

/// The status of a call with a second message.
fn several() -> Status {
    Status::unimplemented("the call carried several messages, and this procedure takes one")
}

/// What counts for `bytes`: steps of 1 KiB, so that a stream of short messages changes nothing.
fn rounded(bytes: usize) -> u64 {
    (bytes + CALL).next_multiple_of(1 << 10) as u64
}

/// What an open call takes at least: its task and its stream. Not measured.
const CALL: usize = 2 << 10;

/// Why a body ends before its end.
pub(super) enum Broken {
    /// The caller has given up, or its connection is lost.
    Peer,
    /// What is wrong with the body.
    Body(Status),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Body(status)
    }
}
