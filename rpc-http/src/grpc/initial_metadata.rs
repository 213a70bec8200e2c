//! Initial metadata: what a handler adds to the headers of its answer.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rpc_runtime::{Context, Metadata, Result, Status};

use super::{call_number, headers::check_metadata};

/// Adds an entry to the headers of the answer to a gRPC call: gRPC's initial metadata.
///
/// It needs [`Http::initial_metadata`](crate::Http::initial_metadata). Without that, and for a caller of the native protocol, the entry becomes
/// reply metadata, as by [`Context::add_reply_metadata`], and so a gRPC caller finds it in the trailers.
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
    let Some(id) = cx.metadata().get(KEY) else {
        return cx.add_reply_metadata(key, value);
    };
    key.make_ascii_lowercase();
    let entry = Metadata::from([(key.as_str(), value.clone())]);
    check_metadata(&entry).map_err(Status::invalid_argument)?;
    let mut calls = calls();
    let call = call_number::read(id).and_then(|id| calls.get_mut(&id));
    let Some(Headers::Unsent(metadata)) = call else {
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

/// The initial metadata of one call, which its handler adds to by the call's number.
///
/// The number travels with the request, as metadata that only the guest can set.
pub(super) struct InitialMetadata(u64);

/// What a handler has added to the headers of a call.
enum Headers {
    Unsent(Metadata),
    Sent,
}

impl InitialMetadata {
    /// Makes the metadata of a new call, and the entry by which its handler finds it.
    pub(super) fn new() -> (Self, (&'static str, Bytes)) {
        let mut calls = calls();
        let mut id = call_number::next();
        while calls.contains_key(&id) {
            id = call_number::next();
        }
        calls.insert(id, Headers::Unsent(Metadata::new()));
        (Self(id), (KEY, call_number::write(id)))
    }

    /// Takes all entries. The handler can add no more.
    pub(super) fn take(&self) -> Metadata {
        match calls().insert(self.0, Headers::Sent) {
            Some(Headers::Unsent(metadata)) => metadata,
            Some(Headers::Sent) | None => Metadata::new(),
        }
    }

    /// True if the handler has added nothing.
    pub(super) fn is_empty(&self) -> bool {
        match calls().get(&self.0) {
            Some(Headers::Unsent(metadata)) => metadata.is_empty(),
            Some(Headers::Sent) | None => true,
        }
    }
}

impl Drop for InitialMetadata {
    fn drop(&mut self) {
        calls().remove(&self.0);
    }
}

/// The open calls of all guests with initial metadata.
fn calls() -> MutexGuard<'static, HashMap<u64, Headers>> {
    static CALLS: LazyLock<Mutex<HashMap<u64, Headers>>> = LazyLock::new(Mutex::default);
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key of the entry with a call's number. gRPC callers cannot send it: keys that begin with `grpc-` are left out.
pub(super) const KEY: &str = "grpc-initial-metadata";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_leaves_nothing_behind() {
        let (call, (_, id)) = InitialMetadata::new();
        let id = call_number::read(&id).unwrap();
        assert!(call.is_empty());
        if let Some(Headers::Unsent(metadata)) = calls().get_mut(&id) {
            metadata.append("zone", "b");
        }
        assert!(!call.is_empty());
        assert_eq!(call.take().get_str("zone"), Some("b"));
        assert!(call.take().is_empty());
        drop(call);
        assert!(!calls().contains_key(&id));
    }
}
