//! Raw: a peer that is made of bytes, as docs/reference/wire.md describes them.

use std::{io, time::Duration};

use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// One frame, as `wire.proto` has it.
#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// What it is about.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Which call.
    #[prost(uint64, tag = "2")]
    pub id: u64,
    /// MORE 1, END 2, NOT_EXECUTED 4, ABORTED 8.
    #[prost(uint32, tag = "3")]
    pub flags: u32,
    /// Which procedure.
    #[prost(fixed64, tag = "4")]
    pub procedure: u64,
    /// How much time is left.
    #[prost(uint64, tag = "5")]
    pub timeout_us: u64,
    /// How a call ended.
    #[prost(uint32, tag = "6")]
    pub code: u32,
    /// Why.
    #[prost(string, tag = "7")]
    pub message: String,
    /// Entries.
    #[prost(message, repeated, tag = "8")]
    pub metadata: Vec<Entry>,
    /// How long the whole message is.
    #[prost(uint64, tag = "9")]
    pub length: u64,
    /// The message, or a part of it.
    #[prost(bytes = "vec", tag = "15")]
    pub payload: Vec<u8>,
}

/// An entry of metadata.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Its key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Goaway {
    #[prost(uint32, tag = "1")]
    reason: u32,
    #[prost(uint64, tag = "2")]
    last_id: u64,
    #[prost(string, tag = "3")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct Hello {
    #[prost(fixed64, tag = "1")]
    magic: u64,
    #[prost(uint32, tag = "2")]
    version_min: u32,
    #[prost(uint32, tag = "3")]
    version_max: u32,
    #[prost(uint32, tag = "4")]
    max_frame: u32,
    #[prost(uint64, tag = "5")]
    max_message: u64,
    #[prost(uint32, tag = "6")]
    max_calls: u32,
    #[prost(uint64, tag = "7")]
    call_bytes: u64,
    #[prost(uint64, tag = "8")]
    send_bytes: u64,
    #[prost(uint64, tag = "9")]
    stream_window: u64,
}

/// The kinds.
pub mod kind {
    /// A request that expects a reply.
    pub const CALL: u32 = 2;
    /// A one-way request.
    pub const SEND: u32 = 3;
    /// A further fragment, or a message of a stream.
    pub const DATA: u32 = 4;
    /// The end of a call.
    pub const REPLY: u32 = 5;
    /// A call is not wanted any more.
    pub const CANCEL: u32 = 6;
    /// More may be sent.
    pub const CREDIT: u32 = 7;
    /// Are you there?
    pub const PING: u32 = 8;
    /// I am.
    pub const PONG: u32 = 9;
    /// Start nothing more.
    pub const GOAWAY: u32 = 10;
}

/// The procedures of the target: the first 8 bytes of the SHA-256 of their paths, as a client in any language has them.
pub mod procedure {
    /// Answers at once.
    pub const ECHO: u64 = 0x776b_610f_2e52_3718;
    /// Answers with so many bytes.
    pub const LARGE: u64 = 0x668b_d5c2_1e85_0ec2;
    /// Never answers.
    pub const HANG: u64 = 0x4c62_714e_6f66_540d;
    /// Takes a millisecond.
    pub const NOTE: u64 = 0x1863_8eaa_34d0_7374;
    /// Takes a message that holds others.
    pub const TREE: u64 = 0x77b7_bc7c_236c_9fe5;
}

/// More fragments follow.
pub const MORE: u32 = 1;
/// The caller sends no more.
pub const END: u32 = 2;

impl Frame {
    /// A frame about a call, with nothing in it.
    pub fn new(kind: u32, id: u64) -> Self {
        Self {
            kind,
            id,
            ..Self::default()
        }
    }

    /// A whole call.
    pub fn call(id: u64, procedure: u64, payload: Vec<u8>) -> Self {
        Self {
            flags: END,
            procedure,
            payload,
            ..Self::new(kind::CALL, id)
        }
    }

    /// A whole one-way request.
    pub fn send(id: u64, procedure: u64, payload: Vec<u8>) -> Self {
        Self {
            kind: kind::SEND,
            ..Self::call(id, procedure, payload)
        }
    }

    /// With its length before it.
    pub fn bytes(&self) -> Vec<u8> {
        framed(&self.encode_to_vec())
    }
}

/// Any bytes, with their length before them.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// The first frame of a client.
pub fn hello() -> Vec<u8> {
    let hello = Hello {
        magic: u64::from_le_bytes(*b"rustrpc\x01"),
        version_min: 1,
        version_max: 1,
        max_frame: 144 << 10,
        max_message: 64 << 20,
        max_calls: 1024,
        call_bytes: 64 << 20,
        send_bytes: 64 << 20,
        stream_window: 8 << 20,
    };
    let frame = Frame {
        payload: hello.encode_to_vec(),
        ..Frame::new(1, 0)
    };
    frame.bytes()
}

/// A connection of an attacker.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

/// What a server made of an attacker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// GOAWAY: its reason and its text.
    Goaway(u32, String),
    /// The end of the stream, or a reset, without a word.
    Cut,
    /// It goes on.
    Open,
}

impl Raw {
    /// Connects, and says nothing.
    ///
    /// # Errors
    ///
    /// What the OS says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn mute(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address.trim_start_matches("tcp://")).await?;
        stream.set_nodelay(true)?;
        let read = Vec::new();
        Ok(Self { stream, read })
    }

    /// Connects, and shakes hands.
    ///
    /// # Errors
    ///
    /// What the OS says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the connection.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let mut raw = Self::mute(address).await?;
        raw.write(&hello()).await?;
        match raw.frame().await? {
            Some(frame) if frame.kind == 1 => Ok(raw),
            other => Err(io::Error::other(format!("no HELLO but {other:?}"))),
        }
    }

    /// Writes all of it, however slowly the server reads; no longer than a minute.
    ///
    /// # Errors
    ///
    /// What the OS says; `TimedOut`.
    ///
    /// # Cancel safety
    ///
    /// Some of it may be written when the future is dropped.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(LONG, self.stream.write_all(bytes)).await?
    }

    /// The next frame; none at the end of the stream.
    ///
    /// # Errors
    ///
    /// What the OS says; `TimedOut`.
    ///
    /// # Cancel safety
    ///
    /// What was read is kept when the future is dropped.
    pub async fn frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            let mut more = [0; 64 << 10];
            let n = timeout(LONG, self.stream.read(&mut more)).await??;
            if n == 0 {
                return Ok(None);
            }
            self.read.extend_from_slice(&more[..n]);
        }
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

    /// Reads until the server says that it goes, or goes; or, if it does neither within `patience`, it is open.
    ///
    /// # Cancel safety
    ///
    /// What was read is lost when the future is dropped.
    pub async fn answer(&mut self, patience: Duration) -> Answer {
        let last_word = async {
            loop {
                match self.frame().await {
                    Ok(Some(frame)) if frame.kind == kind::GOAWAY => {
                        let goaway = Goaway::decode(&frame.payload[..]).unwrap_or_default();
                        return Answer::Goaway(goaway.reason, goaway.text);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return Answer::Cut,
                }
            }
        };
        timeout(patience, last_word).await.unwrap_or(Answer::Open)
    }

    /// Reads and forgets, until the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future reads no further.
    pub async fn swallow(&mut self) -> Answer {
        self.answer(LONG).await
    }

    /// Both halves at once: what is written, and what comes meanwhile.
    pub fn split(self) -> (tokio::net::tcp::OwnedReadHalf, tokio::net::tcp::OwnedWriteHalf) {
        self.stream.into_split()
    }
}

/// Longer than anything takes, whatever else the machine does.
pub const LONG: Duration = Duration::from_secs(60);
