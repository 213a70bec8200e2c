//! A call's end as trailers.

use base64::Engine;
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use prost::Message;
use rpc_runtime::{Code, Metadata, Status};

use super::headers::{BASE64, add_metadata};

/// Adds the end of a call to its trailers: status, text, details and metadata.
pub(super) fn add_end(end: Result<&Metadata, &Status>, trailers: &mut HeaderMap) {
    let (code, metadata) = match end {
        Ok(metadata) => (Code::Ok, metadata),
        Err(status) => (status.code(), status.metadata()),
    };
    trailers.insert("grpc-status", HeaderValue::from(code as u32));
    add_metadata(metadata, trailers);
    if let Err(status) = end {
        let text = percent_encode(status.message().as_bytes(), NOT_PLAIN).to_string();
        if let Some(text) = HeaderValue::from_str(&text)
            .ok()
            .filter(|_| !status.message().is_empty())
        {
            trailers.insert("grpc-message", text);
        }
        if let Some(details) = details(status) {
            trailers.insert("grpc-status-details-bin", details);
        }
    }
}

/// The details of a status: what the handler gave, if that is a `google.rpc.Status`, or else the one of them.
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
}
