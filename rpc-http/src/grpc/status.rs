//! A call's end as trailers.

use base64::Engine;
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};
use prost::Message;
use rpc_runtime::{Code, Metadata, Status};

use super::{
    headers::{BASE64, Room, add_metadata},
    names,
};
use crate::connection::header_list;

/// Adds the end of a call to its trailers: status, text, details and metadata.
///
/// Together with the headers that are there they have [`MAX_LIST`] bytes, since callers refuse longer lists: many of them with an error
/// that hides the status. Details and metadata that do not fit are left out, and the text says so.
pub(crate) fn add_end(end: Result<&Metadata, &Status>, trailers: &mut HeaderMap) {
    let (code, metadata) = match end {
        Ok(metadata) => (Code::Ok, metadata),
        Err(status) => (status.code(), status.metadata()),
    };
    if code == Code::Ok && metadata.is_empty() {
        trailers.insert(&names::STATUS, HeaderValue::from_static("0"));
        return;
    }
    trailers.insert(&names::STATUS, HeaderValue::from(code as u32));
    let mut room = Room(MAX_LIST.saturating_sub(header_list(trailers)));
    let Err(status) = end else {
        let left_out = add_metadata(metadata, trailers, &mut room);
        if left_out > 0 {
            tracing::warn!(left_out, "metadata of a reply does not fit into its trailers");
        }
        return;
    };
    let mut text = encoded(status.message());
    room.take(names::MESSAGE.as_str().len(), text.len() + NOTES);
    if let Some(details) = details(status) {
        match room.take(names::DETAILS.as_str().len(), details.len()) {
            true => {
                trailers.insert(&names::DETAILS, details);
            }
            false => text += &format!(" (left out: {} bytes of details)", status.details().len()),
        }
    }
    let left_out = add_metadata(metadata, trailers, &mut room);
    if left_out > 0 {
        text += &format!(" (left out: {left_out} entries of metadata)");
    }
    if let Some(text) = HeaderValue::from_str(&text).ok().filter(|text| !text.is_empty()) {
        trailers.insert(&names::MESSAGE, text);
    }
}

/// Percent-encodes a text, and cuts it if it is long.
fn encoded(text: &str) -> String {
    let whole = percent_encode(text.as_bytes(), NOT_PLAIN).to_string();
    if whole.len() <= MAX_TEXT {
        return whole;
    }
    let mut cut = String::new();
    for char in text.chars() {
        let mut bytes = [0; 4];
        let char = percent_encode(char.encode_utf8(&mut bytes).as_bytes(), NOT_PLAIN).to_string();
        if cut.len() + char.len() + ELLIPSIS.len() > MAX_TEXT {
            break;
        }
        cut += &char;
    }
    cut + ELLIPSIS
}

/// Returns the details as the bytes of a `google.rpc.Status`: the handler's own, or a new one that carries them in an `Any`.
fn details(status: &Status) -> Option<HeaderValue> {
    if status.details().is_empty() {
        return None;
    }
    let own = RpcStatus::decode(status.details().clone()).ok();
    let own = own.filter(|own| own.code == status.code() as i32 && !own.details.is_empty());
    let whole = match own {
        Some(own) => own,
        None => RpcStatus {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: vec![Any {
                type_url: UNTYPED.to_owned(),
                value: status.details().to_vec(),
            }],
        },
    };
    HeaderValue::from_str(&BASE64.encode(whole.encode_to_vec())).ok()
}

/// Reads the end of a call from its trailers: status, text and details. The metadata is for the caller to add.
///
/// # Errors
///
/// The status of the call, if it failed. UNKNOWN if the trailers have none.
pub(crate) fn read_end(trailers: &HeaderMap) -> Result<(), Status> {
    let Some(number) = trailers.get(&names::STATUS) else {
        return Err(Status::unknown("the server ended the call without grpc-status"));
    };
    let number = number.to_str().ok().and_then(|text| text.parse().ok());
    let Some(number) = number else {
        return Err(Status::unknown("grpc-status is no number"));
    };
    if number == 0 {
        return Ok(());
    }
    let text = trailers
        .get(&names::MESSAGE)
        .map_or(&b""[..], |value| value.as_bytes());
    let text = percent_decode(text).decode_utf8_lossy().into_owned();
    let status = Status::new(Code::from_number(number), text);
    Err(match trailers.get(&names::DETAILS) {
        None => status,
        Some(details) => status.with_details_bytes(read_details(details)),
    })
}

/// The details of a status: the bytes of a `google.rpc.Status`, or what a handler of this library gave that was none.
fn read_details(header: &HeaderValue) -> Vec<u8> {
    let bytes = BASE64.decode(header.as_bytes()).unwrap_or_default();
    match RpcStatus::decode(&bytes[..]) {
        Ok(RpcStatus { mut details, .. }) if matches!(&details[..], [one] if one.type_url == UNTYPED) => {
            details.remove(0).value
        }
        _ => bytes,
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// How long the trailers may be, as HTTP/2 counts them: what gRPC in C and Java takes by default.
pub(crate) const MAX_LIST: usize = 8 << 10;
/// How long the text may be once it is encoded. That of a handler has 1 KiB before, in UTF-8.
const MAX_TEXT: usize = 3 << 10;
/// How long the notes may be on what was left out.
const NOTES: usize = 128;
/// `…`, encoded.
const ELLIPSIS: &str = "%E2%80%A6";

/// The type of details whose type only the handler knows.
const UNTYPED: &str = "type.googleapis.com/rpc.Details";

/// What is percent-encoded in grpc-message: all but printable ASCII, and the sign itself.
const NOT_PLAIN: &AsciiSet = &CONTROLS.add(b'%');

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(status: &Status) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        add_end(Err(status), &mut trailers);
        trailers
    }

    #[test]
    fn a_text_is_percent_encoded() {
        let trailers = trailers(&Status::not_found("100 % größer\n"));
        assert_eq!(trailers["grpc-status"], "5");
        assert_eq!(trailers["grpc-message"], "100 %25 gr%C3%B6%C3%9Fer%0A");
    }

    #[test]
    fn an_end_is_read_as_it_was_written() {
        let typed = RpcStatus {
            code: 3,
            message: "bad".to_owned(),
            details: vec![Any {
                type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
                value: vec![1, 2],
            }],
        };
        for status in [
            Status::not_found("100 % größer\n"),
            Status::invalid_argument("bad").with_details(&typed),
            Status::aborted("").with_details(&"text".to_owned()),
        ] {
            assert_eq!(read_end(&trailers(&status)).unwrap_err(), status);
        }
        let mut trailers = HeaderMap::new();
        add_end(Ok(&Metadata::new()), &mut trailers);
        read_end(&trailers).unwrap();
    }

    #[test]
    fn an_end_that_makes_no_sense_is_unknown() {
        let mut trailers = HeaderMap::new();
        assert_eq!(read_end(&trailers).unwrap_err().code(), Code::Unknown);
        for status in ["", "OK", "-1", "77"] {
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            assert_eq!(read_end(&trailers).unwrap_err().code(), Code::Unknown, "{status}");
        }
    }

    #[test]
    fn details_of_google_rpc_go_as_they_are_and_others_in_an_any() {
        let typed = RpcStatus {
            code: 3,
            message: "bad".to_owned(),
            details: vec![Any {
                type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
                value: vec![1, 2],
            }],
        };
        let read = |trailers: &HeaderMap| {
            let bytes = BASE64.decode(&trailers["grpc-status-details-bin"]).unwrap();
            RpcStatus::decode(&bytes[..]).unwrap()
        };
        let status = Status::invalid_argument("bad").with_details(&typed);
        assert_eq!(read(&trailers(&status)), typed);
        let status = Status::invalid_argument("bad").with_details(&"text".to_owned());
        let whole = read(&trailers(&status));
        assert_eq!((whole.code, &whole.details[0].type_url[..]), (3, UNTYPED));
        assert_eq!(whole.details[0].value, "text".to_owned().encode_to_vec());
    }

    #[test]
    fn trailers_have_a_limit_and_say_what_they_lack() {
        let metadata = Metadata::from([("small", "1".to_owned()), ("large", "x".repeat(6000))]);
        let status = Status::internal("größe ".repeat(1000))
            .with_details_bytes(vec![7; 20_000])
            .with_metadata(metadata);
        let trailers = trailers(&status);
        assert!(header_list(&trailers) <= MAX_LIST, "{}", header_list(&trailers));
        let text = trailers["grpc-message"].to_str().unwrap();
        let notes = " (left out: 20000 bytes of details) (left out: 1 entries of metadata)";
        assert!(text.starts_with("gr%C3%B6%C3%9Fe gr"), "{text}");
        assert!(text.ends_with(&format!("{ELLIPSIS}{notes}")), "{text}");
        assert_eq!(trailers["small"], "1");
    }

    #[test]
    fn metadata_of_a_reply_that_does_not_fit_is_left_out() {
        let metadata = Metadata::from([("large", "x".repeat(9000)), ("small", "1".to_owned())]);
        let mut trailers = HeaderMap::new();
        add_end(Ok(&metadata), &mut trailers);
        assert_eq!(
            (trailers.len(), &trailers["small"]),
            (2, &HeaderValue::from_static("1"))
        );
    }
}
