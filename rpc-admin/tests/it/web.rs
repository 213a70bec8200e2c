//! A client of HTTP/1.1 that asks for one page.

use std::collections::HashMap;

use test_support::within;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

/// An answer of HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By their names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Asks for a page by GET, with more headers, each with its line break.
pub(crate) async fn get_with(address: &str, page: &str, headers: &str) -> Answer {
    ask(address, "GET", page, headers).await
}

/// Asks for a page by GET.
pub(crate) async fn get(address: &str, page: &str) -> Answer {
    get_with(address, page, "").await
}

/// Asks for a page.
pub(crate) async fn ask(address: &str, method: &str, page: &str, headers: &str) -> Answer {
    match address.split_once("://") {
        Some((_, socket)) => {
            let host = match headers.contains("Host:") {
                true => String::new(),
                false => format!("Host: {socket}\r\n"),
            };
            let stream = TcpStream::connect(socket).await.unwrap();
            ask_over(stream, method, page, &format!("{host}{headers}")).await
        }
        None => {
            let path = address.trim_start_matches("unix:");
            let stream = UnixStream::connect(path).await.unwrap();
            ask_over(stream, method, page, &format!("Host: kv\r\n{headers}")).await
        }
    }
}

/// Asks for a page over a stream that is used for nothing else.
pub(crate) async fn ask_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    page: &str,
    headers: &str,
) -> Answer {
    let request = format!("{method} {page} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Answer {
        status,
        headers: lines.map(header).collect(),
        body: bytes[end + 4..].to_vec(),
    }
}
