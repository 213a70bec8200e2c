//! Wire: frames and peers written after docs/reference/wire.md, without the runtime's codec.

mod hand;
mod raw;

use prost::Message;

pub use self::{
    hand::HandPeer,
    raw::{ByteStream, RawPeer, RawStream},
};

/// A frame of any kind.
#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// What it is: [`CALL`] and so on.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The call, if it belongs to one.
    #[prost(uint64, tag = "2")]
    pub id: u64,
    /// The sum of [`MORE`], [`END`], [`NOT_EXECUTED`] and [`PACKED`].
    #[prost(uint32, tag = "3")]
    pub flags: u32,
    /// The id of the procedure, in a CALL.
    #[prost(fixed64, tag = "4")]
    pub procedure: u64,
    /// How much time the call has, in µs; 0 means no limit.
    #[prost(uint64, tag = "5")]
    pub timeout_us: u64,
    /// The code of a failure, in a REPLY.
    #[prost(uint32, tag = "6")]
    pub code: u32,
    /// The text of a failure, in a REPLY.
    #[prost(string, tag = "7")]
    pub message: String,
    /// Entries of metadata.
    #[prost(message, repeated, tag = "8")]
    pub metadata: Vec<Entry>,
    /// The length of the whole message, if it is in several frames or compressed.
    #[prost(uint64, tag = "9")]
    pub length: u64,
    /// How the payload is compressed; 0 means that it is not.
    #[prost(uint32, tag = "10")]
    pub encoding: u32,
    /// A message, or a part of one.
    #[prost(bytes = "vec", tag = "15")]
    pub payload: Vec<u8>,
}

/// An entry of metadata.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
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

/// The payload of a GOAWAY.
#[derive(Clone, PartialEq, Message)]
pub struct Goaway {
    /// The reason: 1 drain, 2 protocol error, 3 rejected HELLO, 4 excess, 5 timeout.
    #[prost(uint32, tag = "1")]
    pub reason: u32,
    /// The last call that the sender has taken.
    #[prost(uint64, tag = "2")]
    pub last_id: u64,
    /// The reason in words.
    #[prost(string, tag = "3")]
    pub text: String,
}

/// The first frame of each side.
pub const HELLO: u32 = 1;
/// The first frame of a call.
pub const CALL: u32 = 2;
/// A one-way request.
pub const SEND: u32 = 3;
/// A message of a stream, or a further part of one.
pub const DATA: u32 = 4;
/// The end of a call, from its server.
pub const REPLY: u32 = 5;
/// The end of a call, from its client.
pub const CANCEL: u32 = 6;
/// More credit for one-way requests or for a stream.
pub const CREDIT: u32 = 7;
/// A question that is answered at once.
pub const PING: u32 = 8;
/// The answer to a PING.
pub const PONG: u32 = 9;
/// The sender takes no more calls.
pub const GOAWAY: u32 = 10;

/// Flag: more frames of this message follow.
pub const MORE: u32 = 1;
/// Flag: the sender's last message of this call.
pub const END: u32 = 2;
/// Flag of a REPLY: no handler ran.
pub const NOT_EXECUTED: u32 = 4;
/// Flag: the payload is a row of messages, each behind its length.
pub const PACKED: u32 = 16;

impl Frame {
    /// Makes a frame without a payload.
    pub fn new(kind: u32, id: u64) -> Self {
        Self {
            kind,
            id,
            ..Self::default()
        }
    }
}

impl Goaway {
    /// Decodes the payload of a GOAWAY. Panics if it is malformed.
    pub fn of(frame: &Frame) -> Self {
        Self::decode(&frame.payload[..]).unwrap()
    }
}

/// Makes the HELLO of a peer with the usual limits.
pub fn hello() -> Frame {
    greeting(&USUAL)
}

/// Makes the HELLO of a peer that accepts 64 MiB of replies.
pub fn greedy_hello() -> Frame {
    greeting(&Hello {
        max_message: 64 << 20,
        call_bytes: 64 << 20,
        send_bytes: 64 << 20,
        stream_window: 8 << 20,
        ..USUAL
    })
}

fn greeting(hello: &Hello) -> Frame {
    Frame {
        payload: hello.encode_to_vec(),
        ..Frame::new(HELLO, 0)
    }
}

const USUAL: Hello = Hello {
    magic: u64::from_le_bytes(*b"rustrpc\x01"),
    version_min: 1,
    version_max: 1,
    max_frame: 144 << 10,
    max_message: 4 << 20,
    max_calls: 1024,
    call_bytes: 16 << 20,
    send_bytes: 4 << 20,
    stream_window: 64 << 10,
};

/// Makes a whole call in one frame.
pub fn call(id: u64, procedure: &rpc_runtime::server::Procedure, request: &impl Message) -> Frame {
    Frame {
        kind: CALL,
        id,
        flags: END,
        procedure: procedure.id(),
        payload: request.encode_to_vec(),
        ..Frame::default()
    }
}

/// Encodes a frame with its length before it.
pub fn encode(frame: &Frame) -> Vec<u8> {
    framed(&frame.encode_to_vec())
}

/// Puts the length of `body` before it; `body` need not be a frame.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}
