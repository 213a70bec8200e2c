//! `/metrics`: the numbers of the process.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ACCEPT, CONTENT_ENCODING, VARY},
};
use rpc_runtime::metrics::{self, Format};

use super::answers::of_type;
use crate::negotiation::{accepts_gzip, joined};

/// Answers in the format, and with the compression, that the headers ask for.
pub(super) fn answer(headers: &HeaderMap) -> Response<Bytes> {
    let format = Format::of_accept(&joined(headers, &ACCEPT));
    let text = metrics::render(format);
    let zipped = match accepts_gzip(headers) {
        true => gzip(text.as_bytes()),
        false => None,
    };
    let is_zipped = zipped.is_some();
    let body = zipped.unwrap_or_else(|| text.into_bytes());
    let mut answer = of_type(
        StatusCode::OK,
        HeaderValue::from_static(format.content_type()),
        body,
    );
    let headers = answer.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if is_zipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

/// Compresses `bytes`; none if that fails, which it does not in memory.
fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut zipped = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    zipped.write_all(bytes).ok()?;
    zipped.finish().ok()
}
