//! HeldBody: the body of an answer of HTTP/1, in the server's account of memory until it is written.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use rpc_runtime::{Status, server::GuestServer};

use crate::held_bytes::HeldBytes;

/// A body that is whole. It counts as held by the server until hyper has written and dropped it.
pub(super) struct HeldBody(Option<HeldBytes>);

impl HeldBody {
    /// The body of `bytes`, for the peer of `server`.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED if the server has no memory for it.
    pub(super) fn new(bytes: Bytes, server: &GuestServer) -> Result<Self, Status> {
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        let held = server.hold(bytes.len() as u64)?;
        Ok(Self(Some(HeldBytes::new(bytes, held, &Arc::default()))))
    }

    /// A body of no bytes.
    pub(super) fn empty() -> Self {
        Self(None)
    }
}

impl Body for HeldBody {
    type Data = HeldBytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<HeldBytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.remaining() as u64))
    }
}
