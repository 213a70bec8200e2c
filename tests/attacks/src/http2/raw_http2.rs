//! RawHttp2: a connection that sends any frames of HTTP/2, and says how the server ends it.

use std::{io, time::Duration};

use test_support::LONG;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::door::Door;

/// The kinds of frames, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are the names of RFC 9113")]
pub enum Kind {
    Data = 0,
    Headers = 1,
    Priority = 2,
    RstStream = 3,
    Settings = 4,
    PushPromise = 5,
    Ping = 6,
    Goaway = 7,
    WindowUpdate = 8,
    Continuation = 9,
    /// A kind that HTTP/2 does not have.
    Unknown = 100,
}

/// A connection that sends any frames.
#[derive(Debug)]
pub struct RawHttp2(TcpStream);

/// How the server ends a connection, or that it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A GOAWAY with this code.
    Goaway(u32),
    /// The end of the stream or a reset, without a GOAWAY: what this side sent last may have destroyed that.
    Cut,
    /// The connection stays open.
    Open,
}

impl RawHttp2 {
    /// Connects, and sends the preface and `settings`.
    ///
    /// # Errors
    ///
    /// The error of the OS, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn connect(door: &Door, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        let mut raw = Self(door.socket().await?);
        raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        raw.write(&frame(Kind::Settings, 0, 0, &payload)).await?;
        Ok(raw)
    }

    /// Sends bytes; they need not be whole frames.
    ///
    /// # Errors
    ///
    /// The error of the OS, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// Some bytes may be written when the future is dropped.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(LONG, self.0.write_all(bytes)).await?
    }

    /// Sends `batches` and reads meanwhile, until the server ends the connection. Without that, it counts as open after `patience`.
    ///
    /// # Cancel safety
    ///
    /// Some bytes may be written or read when the future is dropped.
    pub async fn end(&mut self, batches: impl Iterator<Item = Vec<u8>>, patience: Duration) -> Ended {
        let (mut reader, mut writer) = self.0.split();
        let writing = async {
            for batch in batches {
                if writer.write_all(&batch).await.is_err() {
                    break;
                }
            }
            std::future::pending().await
        };
        let reading = async {
            let mut head = [0; 9];
            while reader.read_exact(&mut head).await.is_ok() {
                let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let mut payload = vec![0; len];
                if reader.read_exact(&mut payload).await.is_err() {
                    break;
                }
                let code = payload.get(4..8).and_then(|code| code.try_into().ok());
                match (head[3] == Kind::Goaway as u8, code.map(u32::from_be_bytes)) {
                    // The beginning of a drain.
                    (true, Some(0)) | (false, _) => {}
                    (true, code) => return Ended::Goaway(code.unwrap_or_default()),
                }
            }
            Ended::Cut
        };
        let ended = async {
            tokio::select! {
                ended = reading => ended,
                () = writing => Ended::Open,
            }
        };
        timeout(patience, ended).await.unwrap_or(Ended::Open)
    }
}

/// Makes a frame.
pub fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind as u8, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Makes the header block of a gRPC call.
pub fn request(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // POST and http from the static table, then literals with the names :path and :authority.
    let mut block = vec![0x83, 0x86, 0x04];
    text(&mut block, path);
    block.push(0x01);
    text(&mut block, "target");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")]
        .iter()
        .chain(more)
    {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// Adds a string of HPACK, without Huffman's code.
fn text(block: &mut Vec<u8>, text: &str) {
    const PREFIX: usize = 127;
    match text.len().checked_sub(PREFIX) {
        None => block.push(text.len() as u8),
        Some(mut rest) => {
            block.push(PREFIX as u8);
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend_from_slice(text.as_bytes());
}
