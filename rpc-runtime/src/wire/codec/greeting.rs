//! Greeting: recognises a peer that speaks another protocol by its first bytes.

use std::fmt;

/// The other protocol that a peer speaks, and the first line that it sent, if that helps and cannot be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    protocol: &'static str,
    /// What to do about it; empty if nothing is known.
    hint: &'static str,
    /// The beginning of its first line; empty if the line may be secret.
    line: Box<[u8]>,
}

/// The name of HTTP/2.
pub(crate) const HTTP2: &str = "HTTP/2";
/// What a client of ours has to do at a gRPC server.
pub(crate) const GRPC_SERVER: &str = "for a gRPC server write grpc:// and .protocol(rpc_http::Grpc::new())";
/// What a server of ours needs for clients of gRPC.
const GRPC_CLIENT: &str = "gRPC callers need .guest(rpc_http::Http::new().grpc())";

/// The most bytes of a line that are shown.
const SHOWN: usize = 64;

impl Greeting {
    /// Returns the name of the protocol.
    #[cfg_attr(
        not(feature = "_tls"),
        allow(dead_code, reason = "only TLS names what came in its place")
    )]
    pub(crate) fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// Recognises the greeting that `bytes` begin with; `None` if they may begin a frame, or are unknown.
    ///
    /// The first line of an answer is shown, such as a status or a banner. That of a request is not, because its target may
    /// be secret.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let silent = |protocol, hint| Self {
            protocol,
            hint,
            line: Box::default(),
        };
        let said = |protocol| Self {
            protocol,
            hint: "",
            line: first_line(bytes).into(),
        };
        Some(match bytes {
            [0x16, 0x03, ..] => silent("TLS", "let it connect by tcp://, or listen on tls://"),
            // A TLS server that has read our HELLO answers with an alert.
            [0x15, 0x03, ..] => silent("TLS (it has sent an alert)", "connect by tls://"),
            [b'P', b'R', b'I', b' ', ..] => silent(HTTP2, GRPC_CLIENT),
            // An HTTP/2 server begins with SETTINGS: a length, type 4, flags and stream 0. In a frame of ours the key
            // of a field would stand in place of the flags, and no key is 0.
            [0, _, _, 4, 0, 0, 0, 0, 0, ..] => silent(HTTP2, GRPC_SERVER),
            [first, second, third, fourth, ..] => {
                let start = [*first, *second, *third, *fourth];
                if REQUESTS.contains(&&start) {
                    return Some(silent("HTTP/1", ""));
                }
                let (_, protocol) = ANSWERS
                    .iter()
                    .find(|(begins, _)| begins.eq_ignore_ascii_case(&start[..begins.len()]))?;
                said(protocol)
            }
            _ => return None,
        })
    }
}

/// The beginnings of HTTP/1 requests.
const REQUESTS: [&[u8; 4]; 9] = [
    b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC",
];

/// The beginnings of answers and greetings; each has three bytes or more, so no frame begins so by accident.
const ANSWERS: [(&[u8], &str); 14] = [
    (b"HTTP", "HTTP/1"),
    (b"<htm", "HTML"),
    (b"<!do", "HTML"),
    (b"<?xm", "XML"),
    (b"SSH-", "SSH"),
    (b"220 ", "SMTP or FTP"),
    (b"220-", "SMTP or FTP"),
    (b"421 ", "SMTP or FTP"),
    (b"554 ", "SMTP"),
    (b"* OK", "IMAP"),
    (b"+OK", "POP3 or Redis"),
    (b"-ERR", "Redis or POP3"),
    (b"-NOA", "Redis"),
    (b"RFB ", "VNC"),
];

/// The beginning of the first line.
fn first_line(bytes: &[u8]) -> &[u8] {
    let line = &bytes[..bytes.len().min(SHOWN)];
    let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    &line[..end.unwrap_or(line.len())]
}

/// For example: `peer speaks HTTP/1 instead of this protocol: "HTTP/1.1 400 Bad Request"`.
impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer speaks {} instead of this protocol", self.protocol)?;
        if !self.line.is_empty() {
            write!(f, ": \"{}\"", self.line.escape_ascii())?;
        }
        match self.hint {
            "" => Ok(()),
            hint => write!(f, ": {hint}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        Greeting::read(bytes).map_or_else(|| "a frame, perhaps".to_owned(), |greeting| greeting.to_string())
    }

    #[test]
    fn other_protocols_are_named() {
        for (bytes, says) in [
            (
                &b"\x16\x03\x01\x02\x00\x01"[..],
                "TLS instead of this protocol: let it connect by tcp://, or listen on tls://",
            ),
            (
                b"\x16\x03",
                "TLS instead of this protocol: let it connect by tcp://, or listen on tls://",
            ),
            (
                b"\x15\x03\x03\x00\x02\x02\x0a",
                "TLS (it has sent an alert) instead of this protocol: connect by tls://",
            ),
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                "HTTP/2 instead of this protocol: gRPC callers need .guest(rpc_http::Http::new().grpc())",
            ),
            (
                b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03",
                "HTTP/2 instead of this protocol: for a gRPC server write grpc:// and .protocol(rpc_http::Grpc::new())",
            ),
        ] {
            assert_eq!(shown(bytes), format!("peer speaks {says}"));
        }
        for (bytes, protocol) in [
            // The target of a request may be secret.
            (&b"GET /?token=secret HTTP/1.1\r\n"[..], "HTTP/1"),
            (b"POST", "HTTP/1"),
        ] {
            assert_eq!(
                shown(bytes),
                format!("peer speaks {protocol} instead of this protocol")
            );
        }
    }

    #[test]
    fn the_line_of_a_greeting_or_an_answer_is_shown() {
        for (bytes, protocol, line) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n"[..],
                "HTTP/1",
                "HTTP/1.1 400 Bad Request",
            ),
            (b"<html><head>\n<title>400</title>", "HTML", "<html><head>"),
            (b"<!DOCTYPE html>", "HTML", "<!DOCTYPE html>"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH", "SSH-2.0-OpenSSH_9.2"),
            (
                b"220 mail.example ESMTP\r\n",
                "SMTP or FTP",
                "220 mail.example ESMTP",
            ),
            (b"+OK ready\r\n", "POP3 or Redis", "+OK ready"),
            (
                b"-ERR unknown command '\x00\x00'\r\n",
                "Redis or POP3",
                "-ERR unknown command \\'\\x00\\x00\\'",
            ),
        ] {
            let text = format!("peer speaks {protocol} instead of this protocol: \"{line}\"");
            assert_eq!(shown(bytes), text);
        }
        let long = [b"220 ", &[b'x'; 1000][..]].concat();
        assert!(shown(&long).len() < 120);
    }

    #[test]
    fn the_beginning_of_a_frame_is_no_greeting() {
        for bytes in [
            &b""[..],
            b"G",
            b"HTT",
            b"\0",
            b"\0\0\0\x47\x08\x01\x7a\x43\x09rustrpc",
        ] {
            assert_eq!(shown(bytes), "a frame, perhaps", "{bytes:?}");
        }
    }
}
