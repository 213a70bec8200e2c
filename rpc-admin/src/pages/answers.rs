//! Answers: texts and JSON as answers of HTTP.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};

/// An answer of text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<Bytes> {
    of_type(status, TEXT, text.into())
}

/// An answer of JSON.
pub(super) fn json(value: &serde_json::Value) -> Response<Bytes> {
    of_type(
        StatusCode::OK,
        HeaderValue::from_static("application/json"),
        format!("{value:#}\n"),
    )
}

/// An answer of another type. Nothing may keep it, since it is about this moment.
pub(super) fn of_type(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
