//! Metadata as headers and trailers.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rpc_runtime::{Metadata, Status};

use crate::connection::HEADER;

/// Base64 as gRPC wants it: written without padding, read with or without.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the peer's metadata: all headers but those of HTTP and of gRPC itself.
///
/// # Errors
///
/// INTERNAL if the value of a `-bin` key is not base64: INVALID_ARGUMENT would say that a handler found it.
pub(crate) fn to_metadata(headers: &HeaderMap) -> Result<Metadata, Status> {
    let mut metadata = Metadata::new();
    for (key, value) in headers {
        let key = key.as_str();
        if is_reserved(key) {
            continue;
        }
        if !key.ends_with("-bin") {
            metadata.append(key, Bytes::copy_from_slice(value.as_bytes()));
            continue;
        }
        // Several values may share a header.
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let decoded = BASE64.decode(part.trim_ascii());
            let decoded =
                decoded.map_err(|_| Status::internal(format!("the value of {key} is not base64")))?;
            metadata.append(key, decoded);
        }
    }
    Ok(metadata)
}

/// How much may still be added to headers, as HTTP/2 counts them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room(pub(crate) usize);

impl Room {
    /// Takes room for a header; false if it does not fit.
    pub(crate) fn take(&mut self, name: usize, value: usize) -> bool {
        let left = self.0.checked_sub(name + value + HEADER);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Adds metadata to headers or trailers, as far as there is `room`. Returns how many entries have none.
///
/// What cannot be a header is left out: a value that is not printable ASCII needs a key that ends in `-bin`.
pub(crate) fn add_metadata(metadata: &Metadata, headers: &mut HeaderMap, room: &mut Room) -> usize {
    let mut without_room = 0;
    for (key, value) in metadata {
        let Ok(name) = HeaderName::from_bytes(key.as_bytes()) else {
            continue;
        };
        if is_reserved(key) {
            continue;
        }
        let value = match key.ends_with("-bin") {
            true => HeaderValue::from_str(&BASE64.encode(value)).ok(),
            false => HeaderValue::from_bytes(value)
                .ok()
                .filter(|_| is_printable(value)),
        };
        match value {
            Some(value) if room.take(key.len(), value.len()) => {
                headers.append(name, value);
            }
            Some(_) => without_room += 1,
            None => {}
        }
    }
    without_room
}

/// Checks that all metadata of a call can be headers.
///
/// # Errors
///
/// What cannot, and what to do.
pub(crate) fn check_metadata(metadata: &Metadata) -> Result<(), String> {
    for (key, value) in metadata {
        // It stays in this process.
        if key == REPLY_HEADERS {
            continue;
        }
        let fault = if HeaderName::from_bytes(key.as_bytes()).is_err() {
            "is no name of a header: use letters, digits, '-', '_' and '.'"
        } else if is_reserved(key) {
            "belongs to HTTP or to gRPC: choose another key"
        } else if !key.ends_with("-bin") && !is_printable(value) {
            "has bytes that are not printable ASCII: give the key the ending \"-bin\""
        } else {
            continue;
        };
        return Err(format!(
            "the metadata entry {key:?} cannot travel by gRPC: it {fault}"
        ));
    }
    Ok(())
}

fn is_printable(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// True for keys that belong to HTTP, to gRPC, or to the runtime.
fn is_reserved(key: &str) -> bool {
    key.starts_with("grpc-")
        || key.starts_with("rpc-")
        || matches!(
            key,
            "content-type"
                | "te"
                | "host"
                | "connection"
                | "keep-alive"
                | "proxy-connection"
                | "transfer-encoding"
                | "upgrade"
                | "content-length"
        )
}

/// The key of the entry by which a call finds its `ReplyHeaders`.
pub(crate) const REPLY_HEADERS: &str = "grpc-reply-headers";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_as_it_went() {
        let mut metadata = Metadata::new();
        metadata.append("trace", "42");
        metadata.append("trace", "43");
        metadata.append("blob-bin", vec![0, 255, 7]);
        let mut headers = HeaderMap::new();
        let mut room = Room(200);
        assert_eq!(add_metadata(&metadata, &mut headers, &mut room), 0);
        assert_eq!(room.0, 200 - 2 * (5 + 2 + 32) - (8 + 4 + 32));
        assert_eq!(headers["blob-bin"], "AP8H");
        assert_eq!(to_metadata(&headers).unwrap(), metadata);
    }

    #[test]
    fn what_is_no_header_is_left_out() {
        let mut metadata = Metadata::new();
        metadata.append("text", "größe");
        metadata.append("a key", "1");
        metadata.append("grpc-status", "0");
        let mut headers = HeaderMap::new();
        assert_eq!(add_metadata(&metadata, &mut headers, &mut Room(200)), 0);
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn what_has_no_room_is_left_out_and_counted() {
        let metadata = Metadata::from([
            ("a", "x".repeat(40)),
            ("b", "1".to_owned()),
            ("c", "1".to_owned()),
        ]);
        let mut headers = HeaderMap::new();
        assert_eq!(add_metadata(&metadata, &mut headers, &mut Room(2 * 34)), 1);
        assert_eq!((headers.len(), headers.contains_key("a")), (2, false));
    }

    #[test]
    fn base64_may_be_padded_and_listed() {
        let mut headers = HeaderMap::new();
        headers.insert("a-bin", HeaderValue::from_static("AA==, AQ"));
        let metadata = to_metadata(&headers).unwrap();
        let values: Vec<_> = metadata.get_all("a-bin").map(|value| value.to_vec()).collect();
        assert_eq!(values, [vec![0], vec![1]]);
        headers.insert("a-bin", HeaderValue::from_static("!"));
        assert!(to_metadata(&headers).is_err());
    }
}
