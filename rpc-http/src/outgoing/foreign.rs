//! Answers that are not gRPC: the error of a proxy, or a page of HTML.

use std::time::Duration;

use h2::RecvStream;
use http::StatusCode;
use rpc_runtime::{Code, Executed, Status, protocol::OutgoingFailure};
use tokio::time::timeout;

/// The failure of a call whose answer is not gRPC: the code that gRPC has for the status of HTTP, and the first line of the body.
pub(super) async fn failure(status: StatusCode, content_type: &[u8], body: RecvStream) -> OutgoingFailure {
    explain(status, content_type, &begin(body).await)
}

/// The same, of the beginning of a body.
pub(super) fn explain(status: StatusCode, content_type: &[u8], body: &[u8]) -> OutgoingFailure {
    let what = match status {
        StatusCode::OK => format!(
            "an answer of the content type \"{}\"",
            content_type[..content_type.len().min(SHOWN)].escape_ascii()
        ),
        status => format!("HTTP {status}"),
    };
    let mut text = format!("the server sent {what} in place of gRPC");
    if let Some(line) = first_line(body) {
        text.push_str(&format!(": \"{line}\""));
    }
    OutgoingFailure::new(Status::new(code_of(status), text), Executed::Maybe)
}

/// The code of a status of HTTP, as gRPC has it.
fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Reads the beginning of a body, as far as it comes soon.
async fn begin(mut body: RecvStream) -> Vec<u8> {
    let mut read = Vec::new();
    // What has come until then is enough: the page may have no end.
    let _ = timeout(SOON, read_into(&mut read, &mut body)).await;
    read.truncate(READ);
    read
}

async fn read_into(read: &mut Vec<u8>, body: &mut RecvStream) {
    while read.len() < READ {
        let Some(Ok(chunk)) = body.data().await else {
            break;
        };
        read.extend_from_slice(&chunk);
        // The stream is open, so there is no error.
        let _ = body.flow_control().release_capacity(chunk.len());
    }
}

/// The first line with text in it, without the tags of HTML.
fn first_line(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let mut is_tag = false;
    let shown = text.chars().filter(|char| match char {
        '<' => {
            is_tag = true;
            false
        }
        '>' if is_tag => {
            is_tag = false;
            false
        }
        _ => !is_tag,
    });
    let shown: String = shown.collect();
    let line = shown.lines().map(str::trim).find(|line| !line.is_empty())?;
    let line: String = line.chars().take(SHOWN).collect();
    Some(line.escape_debug().to_string())
}

/// How long the beginning of a body may take.
const SOON: Duration = Duration::from_secs(1);
/// How many bytes of a body are read.
pub(super) const READ: usize = 2048;
/// How many characters of a line are shown, and how many bytes of a content type.
const SHOWN: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_page_is_its_first_text() {
        for (body, line) in [
            (&b""[..], None),
            (b"\r\n \n", None),
            (b"upstream connect error\nmore", Some("upstream connect error")),
            (
                b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>",
                Some("502 Bad Gateway"),
            ),
            (b"a \"b\"\t\xff", Some("a \\\"b\\\"\\t\u{fffd}")),
        ] {
            assert_eq!(first_line(body).as_deref(), line);
        }
        assert_eq!(first_line(&[b'x'; 5000]).unwrap().len(), SHOWN);
    }

    #[test]
    fn a_long_content_type_is_cut() {
        let failure = explain(StatusCode::OK, &[b'x'; 5000], b"page");
        let shown = "x".repeat(SHOWN);
        let text =
            format!("the server sent an answer of the content type \"{shown}\" in place of gRPC: \"page\"");
        assert_eq!(failure.status().message(), text);
    }

    #[test]
    fn codes_are_those_of_grpc() {
        for (status, code) in [
            (400, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
            (429, Code::Unavailable),
            (500, Code::Unknown),
            (502, Code::Unavailable),
            (503, Code::Unavailable),
            (504, Code::Unavailable),
            (200, Code::Unknown),
        ] {
            assert_eq!(code_of(StatusCode::from_u16(status).unwrap()), code, "{status}");
        }
    }
}
