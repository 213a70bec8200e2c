//! ReplyHeaders: the headers of one answer, apart from its trailers.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rpc_runtime::Metadata;

use crate::grpc::{call_number, headers::REPLY_HEADERS};

/// Takes the headers of the answer to one call: gRPC's initial metadata.
///
/// A call that has it as metadata puts the headers here, and its receipt has the trailers alone. Without it, the receipt has both together.
///
/// ```no_run
/// # use demo_api::demo::kv::v1::KvClient;
/// # async fn example(kv: KvClient) -> Result<(), rpc_runtime::Error> {
/// use rpc_http::ReplyHeaders;
///
/// let headers = ReplyHeaders::new();
/// let call = kv.send_recv().metadata(ReplyHeaders::KEY, &headers);
/// let (value, receipt) = call.fetch("dog").with_receipt().await?;
/// let zone = headers.get().and_then(|headers| headers.get_str("x-zone").map(str::to_owned));
/// println!("{value:?} from {zone:?}, with the trailers {:?}", receipt.metadata());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReplyHeaders(u64);

impl ReplyHeaders {
    /// The key of the metadata entry by which a call finds its `ReplyHeaders`. No server is sent this entry by gRPC.
    pub const KEY: &str = REPLY_HEADERS;

    /// Makes one for one call.
    pub fn new() -> Self {
        let mut calls = calls();
        let mut number = call_number::next();
        while calls.contains_key(&number) {
            number = call_number::next();
        }
        calls.insert(number, None);
        Self(number)
    }

    /// Returns the headers of the answer.
    ///
    /// They are there when the call has ended, and when the first reply of a stream was read. None before that; for an answer that is only an
    /// end, which has trailers alone; and for a server that is called by another protocol.
    pub fn get(&self) -> Option<Metadata> {
        calls().get(&self.0).cloned().flatten()
    }
}

impl Default for ReplyHeaders {
    fn default() -> Self {
        Self::new()
    }
}

/// The value of the metadata entry [`ReplyHeaders::KEY`].
impl From<&ReplyHeaders> for Bytes {
    fn from(headers: &ReplyHeaders) -> Self {
        call_number::write(headers.0)
    }
}

impl Drop for ReplyHeaders {
    fn drop(&mut self) {
        calls().remove(&self.0);
    }
}

/// Where the headers of an answer go.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadersSink(Option<u64>);

impl HeadersSink {
    /// That of a call with this metadata.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let number = metadata.get(ReplyHeaders::KEY);
        Self(number.and_then(|bytes| call_number::read(bytes)))
    }

    /// Gives the headers to the caller. Returns them if it has not asked for them.
    pub(super) fn put(self, headers: Metadata) -> Option<Metadata> {
        let Some(number) = self.0 else {
            return Some(headers);
        };
        // A handler may forward all that its own caller sent, so the number may be that of no call.
        match calls().get_mut(&number) {
            Some(place) => {
                *place = Some(headers);
                None
            }
            None => Some(headers),
        }
    }
}

/// The headers of the calls that want them.
fn calls() -> MutexGuard<'static, HashMap<u64, Option<Metadata>>> {
    static CALLS: LazyLock<Mutex<HashMap<u64, Option<Metadata>>>> = LazyLock::new(Mutex::default);
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}
