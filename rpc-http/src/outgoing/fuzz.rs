//! The code of the fuzz target `grpc_reply`.

use http::{HeaderMap, StatusCode};
use rpc_runtime::{Code, Executed, Metadata, Result, Status, protocol::OutgoingFailure};

use super::{
    foreign::{READ, explain},
    reply::{Head, Replied, content_type, end, read_head},
};
use crate::{
    connection::header_list,
    fuzz::{byte, read_messages, read_metadata, take_headers},
    grpc::{
        names,
        status::{MAX_LIST, add_end, read_end},
    },
};

/// Takes any bytes as the answer of a server, and panics if this crate reads it wrongly.
///
/// They are two bytes of a status of HTTP, and one that says whether nothing follows the headers; then the headers and the trailers, each as
/// those of [`grpc`](crate::fuzz::grpc); then the limit of a message, the length of a chunk, and the body.
pub fn grpc_reply(data: &[u8]) {
    let mut data = data;
    let status = u16::from(byte(&mut data)) << 8 | u16::from(byte(&mut data));
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let is_end = byte(&mut data) % 2 == 1;
    let (mut headers, trailers) = (take_headers(&mut data), take_headers(&mut data));
    for list in [&headers, &trailers] {
        read_metadata(list);
        end_comes_back(list);
    }
    let (max, step) = (byte(&mut data), byte(&mut data));
    let is_foreign = match read_head(status, &mut headers, is_end) {
        Ok(Head::Messages { encoding, metadata }) => {
            let (count, is_whole) = read_messages(data, encoding, max, step);
            if is_whole {
                let replied = match count {
                    0 => Replied::No,
                    _ => Replied::Yes,
                };
                check_end(&trailers, replied, end(&trailers, metadata, replied));
            }
            false
        }
        Ok(Head::End(metadata)) => {
            check_end(&headers, Replied::No, Ok(metadata));
            false
        }
        Ok(Head::Foreign) => true,
        // The end is in the headers, or they make no sense.
        Err(failure) => {
            if headers.contains_key(&names::STATUS) && is_end {
                check_end(&headers, Replied::No, Err(failure));
            }
            false
        }
    };
    let page = &data[..data.len().min(READ)];
    let failure = explain(status, content_type(&headers), page);
    check_page(status, &failure);
    // Whatever a server sends in place of gRPC, it is not taken for a reply.
    assert!(!is_foreign || !headers.contains_key(&names::STATUS));
}

/// The end of a call has the code, the text and the guess at its execution that its trailers give it.
fn check_end(trailers: &HeaderMap, replied: Replied, end: Result<Metadata, OutgoingFailure>) {
    let number = trailers.get(&names::STATUS).map(|value| number(value.as_bytes()));
    let Err(failure) = end else {
        assert_eq!(number, Some(Some(0)), "only 0 is a success");
        return;
    };
    let status = failure.status();
    // The metadata of the trailers cannot be read. The server's status is lost with it.
    if status.message().ends_with(" is not base64") && status.code() == Code::Internal {
        assert_eq!(failure.executed(), Executed::Maybe);
        return;
    }
    let expected = match number.flatten() {
        Some(number) => Code::from_number(number),
        None => Code::Unknown,
    };
    assert_eq!(status.code(), expected);
    if number.flatten().is_some() {
        let text = trailers
            .get(&names::MESSAGE)
            .map_or(&b""[..], |value| value.as_bytes());
        assert_eq!(status.message(), decoded(text));
    }
    let refused = trailers.get(&names::EXECUTED).is_some_and(|value| value == "no");
    match failure.executed() {
        Executed::No => assert!(refused && replied == Replied::No),
        Executed::Yes => assert!(!matches!(
            expected,
            Code::Unknown | Code::Unavailable | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
        )),
        _ => assert!(!refused || replied == Replied::Yes),
    }
}

/// A number of decimal digits, perhaps behind a plus sign, of at most 32 bits.
fn number(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u32::from(digit - b'0')),
        _ => None,
    })
}

/// Decodes a text in percent-encoding in the obvious way: a sign without two hexadecimal digits stands for itself.
fn decoded(mut text: &[u8]) -> String {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut bytes = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        let code = match rest {
            [high, low, ..] if *first == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        (bytes, text) = match code {
            Some((high, low)) => ([&bytes[..], &[(high * 16 + low) as u8]].concat(), &rest[2..]),
            None => ([&bytes[..], &[*first]].concat(), rest),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A status that this crate sends on has short trailers. If it is short itself, nothing of it is lost.
fn end_comes_back(trailers: &HeaderMap) {
    let written = |status: &Status| {
        let mut trailers = HeaderMap::new();
        add_end(Err(status), &mut trailers);
        assert!(header_list(&trailers) <= MAX_LIST);
        read_end(&trailers).expect_err("a failure is no success")
    };
    let Err(status) = read_end(trailers) else {
        return;
    };
    let once = written(&status);
    assert_eq!(once.code(), status.code());
    if status.message().len() + status.details().len() < SHORT {
        assert_eq!(once.message(), status.message());
        assert_eq!(once.details().is_empty(), status.details().is_empty());
        // Details of google.rpc may lose fields that they do not have there, once.
        assert_eq!(written(&once), once);
    }
}

/// A page in place of gRPC becomes a code by gRPC's table, and one short line.
fn check_page(status: StatusCode, failure: &OutgoingFailure) {
    let expected = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    assert_eq!(
        (failure.status().code(), failure.executed()),
        (expected, Executed::Maybe)
    );
    let text = failure.status().message();
    assert!(text.len() < LONG, "{} bytes", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// So long a status has room in trailers, however it is encoded.
const SHORT: usize = 700;
/// More than a content type and a line have, however they are escaped.
const LONG: usize = 2048;
