//! Initial metadata: what a handler adds to the headers of its answer.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rpc_runtime::{
    Context, Metadata, Result, Status,
    server::{CallValue, GuestServer},
};

use super::headers::check_metadata;

/// Adds an entry to the headers of the answer to a gRPC call: gRPC's initial metadata.
///
/// It needs [`Http::initial_metadata`](crate::Http::initial_metadata). Without that the entry becomes reply metadata, as by
/// [`Context::add_reply_metadata`], and a gRPC caller finds it in the trailers.
///
/// So it is for a caller of the native protocol, which has no frame before the first message: the entry comes with the reply, or with the
/// end of a stream, and the caller finds it in the [`Receipt`](rpc_runtime::client::Receipt).
///
/// The headers go with the first message.
///
/// ```
/// use rpc_http::add_initial_metadata;
/// use rpc_runtime::{Context, Result};
///
/// async fn rpc_fetch(cx: &Context, key: String) -> Result<String> {
///     add_initial_metadata(cx, "x-zone", "b")?;
///     Ok(format!("the value of {key}"))
/// }
/// ```
///
/// # Errors
///
/// FAILED_PRECONDITION if the headers are sent already, because the handler has sent a message or the call is over. INVALID_ARGUMENT for a key
/// of HTTP, of gRPC or of the runtime, for one that is no name of a header, and for a value that is not printable ASCII, unless its key ends in
/// `-bin`. RESOURCE_EXHAUSTED if the entry does not fit into a [`Metadata`].
pub fn add_initial_metadata(cx: &Context, key: impl Into<String>, value: impl Into<Bytes>) -> Result<()> {
    let (mut key, value) = (key.into(), value.into());
    let Some(headers) = cx.get::<Headers>() else {
        return cx.add_reply_metadata(key, value);
    };
    key.make_ascii_lowercase();
    let entry = Metadata::from([(key.as_str(), value.clone())]);
    check_metadata(&entry).map_err(Status::invalid_argument)?;
    let mut headers = headers.lock();
    let HeadersState::Unsent(metadata) = &mut *headers else {
        return Err(Status::failed_precondition(
            "the headers of this call are sent: add initial metadata before the first message",
        ));
    };
    if metadata.len() >= Metadata::MAX_ENTRIES
        || metadata.byte_len() + key.len() + value.len() > Metadata::MAX_LEN
    {
        let (entries, len) = (Metadata::MAX_ENTRIES, Metadata::MAX_LEN);
        return Err(Status::resource_exhausted(format!(
            "initial metadata exceeds limit of {entries} entries or {len} bytes"
        )));
    }
    metadata.append(key, value);
    Ok(())
}

/// What a handler has added to the headers of its call. It stands beside the call.
#[derive(Default)]
struct Headers(Mutex<HeadersState>);

enum HeadersState {
    Unsent(Metadata),
    /// They are sent, or the call is over.
    Closed,
}

impl Default for HeadersState {
    fn default() -> Self {
        Self::Unsent(Metadata::new())
    }
}

impl Headers {
    fn lock(&self) -> MutexGuard<'_, HeadersState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The initial metadata of one call. Its handler can add to it until this is dropped.
pub(super) struct InitialMetadata {
    headers: Arc<Headers>,
    _beside: CallValue,
}

impl InitialMetadata {
    /// Makes that of a new call, and the entry that puts it beside the call.
    pub(super) fn new(server: &GuestServer) -> (Self, (&'static str, Bytes)) {
        let headers = Arc::<Headers>::default();
        let beside = server.put_beside(Arc::clone(&headers));
        let entry = beside.entry();
        let metadata = Self {
            headers,
            _beside: beside,
        };
        (metadata, entry)
    }

    /// Takes all entries. The handler can add no more.
    pub(super) fn take(&self) -> Metadata {
        match mem::replace(&mut *self.headers.lock(), HeadersState::Closed) {
            HeadersState::Unsent(metadata) => metadata,
            HeadersState::Closed => Metadata::new(),
        }
    }

    /// True if the handler has added nothing.
    pub(super) fn is_empty(&self) -> bool {
        match &*self.headers.lock() {
            HeadersState::Unsent(metadata) => metadata.is_empty(),
            HeadersState::Closed => true,
        }
    }
}

impl Drop for InitialMetadata {
    fn drop(&mut self) {
        *self.headers.lock() = HeadersState::Closed;
    }
}
