//! A gRPC server on a bare socket, so that the tests say each frame.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::caller::prefixed;

/// A listener whose connections are served by hand.
pub(super) struct RawServer(TcpListener);

/// An HTTP/2 connection that is served by hand. It answers SETTINGS and PING while it reads.
pub(super) struct RawConnection(TcpStream);

/// A frame of HTTP/2.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// How long a client may take to connect, or to make a call.
const LONG: Duration = Duration::from_secs(60);

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

impl RawServer {
    pub(super) async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// The address for clients.
    pub(super) fn address(&self) -> String {
        format!("grpc://{}", self.0.local_addr().unwrap())
    }

    /// Accepts a connection, and reads its preface.
    pub(super) async fn accept(&self) -> RawConnection {
        let mut stream = self.accept_stream().await;
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut connection = RawConnection(stream);
        connection.write(SETTINGS, 0, 0, &[]).await;
        connection
    }

    /// Accepts a connection of which nothing is read.
    pub(super) async fn accept_stream(&self) -> TcpStream {
        let accepted = timeout(LONG, self.0.accept()).await;
        accepted.expect("a connection in time").unwrap().0
    }
}

impl RawConnection {
    /// Reads the next frame that is about a call; none at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.answered().await?;
            if !matches!(frame.kind, SETTINGS | PING | WINDOW_UPDATE) {
                return Some(frame);
            }
        }
    }

    /// Reads until `count` PINGs of the caller are answered.
    pub(super) async fn answer_pings(&mut self, count: usize) {
        let mut answered = 0;
        while answered < count {
            let frame = timeout(LONG, self.answered()).await.expect("a PING in time");
            let frame = frame.expect("a PING");
            answered += usize::from(frame.kind == PING && frame.flags & ACK == 0);
        }
    }

    /// Reads until a PING of the caller, and answers none.
    pub(super) async fn unanswered_ping(&mut self) {
        loop {
            let frame = timeout(LONG, self.read()).await.expect("a PING in time");
            if frame.expect("a PING").kind == PING {
                return;
            }
        }
    }

    /// Reads until the caller closes the connection, and answers nothing.
    pub(super) async fn closed(&mut self) {
        let closed = async { while self.read().await.is_some() {} };
        timeout(LONG, closed).await.expect("an end in time");
    }

    /// Reads the next frame, and answers it if it asks for that.
    async fn answered(&mut self) -> Option<Frame> {
        let frame = self.read().await?;
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await,
            PING if frame.flags & ACK == 0 => self.write(PING, ACK, 0, &frame.payload).await,
            _ => {}
        }
        Some(frame)
    }

    /// Reads the next frame; none at the end of the connection.
    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// Reads a whole request. Returns its stream.
    pub(super) async fn request(&mut self) -> u32 {
        loop {
            let frame = timeout(LONG, self.next()).await.expect("a request in time");
            let frame = frame.expect("a request");
            if frame.flags & END_STREAM != 0 {
                return frame.stream;
            }
        }
    }

    /// Reads until the caller resets a stream. Returns the reason.
    pub(super) async fn reset(&mut self) -> u32 {
        loop {
            let frame = self.next().await.expect("a reset");
            if frame.kind == RST_STREAM {
                return u32::from_be_bytes(frame.payload.try_into().unwrap());
            }
        }
    }

    pub(super) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_uint(payload.len() as u64, 3);
        frame.put_u8(kind);
        frame.put_u8(flags);
        frame.put_u32(stream);
        frame.put_slice(payload);
        // The caller may have gone.
        let _ = self.0.write_all(&frame).await;
    }

    /// Writes headers or trailers, each as a literal that no table keeps.
    pub(super) async fn headers(&mut self, stream: u32, headers: &[(&str, &str)]) {
        self.write(HEADERS, END_HEADERS, stream, &block(headers)).await;
    }

    /// Writes headers or trailers with which the stream ends.
    pub(super) async fn end(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let flags = END_HEADERS | END_STREAM;
        self.write(HEADERS, flags, stream, &block(headers)).await;
    }

    /// Writes a message.
    pub(super) async fn message(&mut self, stream: u32, message: &impl Message) {
        self.body(stream, prefixed(message)).await;
    }

    /// Writes bytes of a body.
    pub(super) async fn body(&mut self, stream: u32, bytes: impl Into<Bytes>) {
        self.write(DATA, 0, stream, &bytes.into()).await;
    }

    /// Writes a good answer.
    pub(super) async fn answer(&mut self, stream: u32, message: &impl Message) {
        self.headers(stream, &GOOD).await;
        self.message(stream, message).await;
        self.end(stream, &[("grpc-status", "0")]).await;
    }

    /// Resets a stream.
    pub(super) async fn reset_stream(&mut self, stream: u32, reason: h2::Reason) {
        let reason = u32::from(reason).to_be_bytes();
        self.write(RST_STREAM, 0, stream, &reason).await;
    }

    /// Says that no stream above `last` is taken.
    pub(super) async fn go_away(&mut self, last: u32, reason: h2::Reason) {
        let mut payload = BytesMut::new();
        payload.put_u32(last);
        payload.put_u32(reason.into());
        self.write(GOAWAY, 0, 0, &payload).await;
    }
}

/// The headers of an answer with a body.
pub(super) const GOOD: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/grpc")];

fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.put_u8(0);
        for text in [name, value] {
            // A length below 127, and no Huffman code.
            assert!(text.len() < 127);
            block.put_u8(text.len() as u8);
            block.put_slice(text.as_bytes());
        }
    }
    block
}
