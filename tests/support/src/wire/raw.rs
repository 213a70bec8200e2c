//! RawPeer: a connection that sends and reads single frames, or any other bytes.

use std::{fmt, io};

use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, join, sink, split},
    net::TcpStream,
    time::timeout,
};

use super::{Frame, HELLO, encode};
use crate::LONG;

/// A connection that sends and reads single frames, or any other bytes.
#[derive(Debug)]
pub struct RawPeer {
    stream: RawStream,
    /// Bytes that were read and are no whole frame yet.
    read: Vec<u8>,
}

/// The byte stream of a raw peer: TCP, or TLS over it.
pub type RawStream = Box<dyn ByteStream>;

/// Any byte stream.
pub trait ByteStream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> ByteStream for T {}

impl RawPeer {
    /// Wraps a connection.
    pub fn over(stream: impl ByteStream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            read: Vec::new(),
        }
    }

    /// Connects and sends nothing.
    ///
    /// # Errors
    ///
    /// The error of the OS, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let address = address.trim_start_matches("tcp://");
        let stream = timeout(LONG, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Connects, sends `hello` and reads the other HELLO.
    ///
    /// # Errors
    ///
    /// As those of [`connect`](Self::connect), or if the first frame is not HELLO.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn greeted(address: &str, hello: &Frame) -> io::Result<Self> {
        let mut peer = Self::connect(address).await?;
        peer.greet(hello).await?;
        Ok(peer)
    }

    /// Sends `hello`, and returns the other HELLO.
    ///
    /// # Errors
    ///
    /// The error of the OS, or if the first frame is not HELLO.
    ///
    /// # Cancel safety
    ///
    /// Part of the frame may be written when the future is dropped.
    pub async fn greet(&mut self, hello: &Frame) -> io::Result<Frame> {
        self.send(hello).await?;
        match self.next().await? {
            Some(frame) if frame.kind == HELLO => Ok(frame),
            other => Err(io::Error::other(format!("expected HELLO, got {other:?}"))),
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// The error of the OS, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// Part of the frame may be written when the future is dropped.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.write(&encode(frame)).await
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
        let write = async {
            self.stream.write_all(bytes).await?;
            // TLS keeps a part back.
            self.stream.flush().await
        };
        timeout(LONG, write).await?
    }

    /// Reads the next frame; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// The error of the OS, `UnexpectedEof` within a frame, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// No bytes are lost when the future is dropped.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            match timeout(LONG, self.stream.read_buf(&mut self.read)).await?? {
                0 if self.read.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    /// Splits the connection into its two halves.
    pub fn split(self) -> (ReadHalf<RawStream>, WriteHalf<RawStream>) {
        split(self.stream)
    }

    /// Splits the connection into a peer that only reads, and the half that writes.
    pub fn reading(self) -> (Self, WriteHalf<RawStream>) {
        let (reader, writer) = split(self.stream);
        let reading = Self {
            stream: Box::new(join(reader, sink())),
            read: self.read,
        };
        (reading, writer)
    }

    fn take_frame(&mut self) -> io::Result<Option<Frame>> {
        let Some((prefix, rest)) = self.read.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*prefix) as usize;
        if rest.len() < len {
            return Ok(None);
        }
        let frame = Frame::decode(&rest[..len]).map_err(io::Error::other)?;
        self.read.drain(..4 + len);
        Ok(Some(frame))
    }
}
