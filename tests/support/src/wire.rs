//! A peer written after docs/reference/wire.md, without the runtime's codec. It can stop in the middle of anything.

use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::within;

/// A connection that is driven frame by frame.
#[derive(Debug)]
pub struct HandPeer(TcpStream);

/// A frame of any kind.
#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// What it is: [`CALL`] and so on.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The call, if it belongs to one.
    #[prost(uint64, tag = "2")]
    pub id: u64,
    /// [`MORE`], [`END`] and [`NOT_EXECUTED`], added up.
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
    /// Why: 1 is a drain, 4 an excess, 5 a timeout.
    #[prost(uint32, tag = "1")]
    pub reason: u32,
    /// The last call that the sender has taken.
    #[prost(uint64, tag = "2")]
    pub last_id: u64,
}

/// The first frame of each side.
pub const HELLO: u32 = 1;
/// The first frame of a call.
pub const CALL: u32 = 2;
/// A message of a stream, or a further part of one.
pub const DATA: u32 = 4;
/// The end of a call, from its server.
pub const REPLY: u32 = 5;
/// The end of a call, from its client.
pub const CANCEL: u32 = 6;
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

impl HandPeer {
    /// Connects and sends nothing.
    pub async fn connect(address: &str) -> Self {
        let address = address.strip_prefix("tcp://").unwrap();
        Self(within(TcpStream::connect(address)).await.unwrap())
    }

    /// Takes a connection that was accepted.
    pub fn over(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Connects and shakes hands.
    pub async fn greeted(address: &str) -> Self {
        let mut peer = Self::connect(address).await;
        peer.hello().await;
        assert_eq!(peer.next().await.map(|frame| frame.kind), Some(HELLO));
        peer
    }

    /// Sends HELLO, and does not wait for the other one.
    pub async fn hello(&mut self) {
        self.send(&hello()).await;
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Frame) {
        self.write(&encode(frame)).await;
    }

    /// Sends bytes, which need not be a whole frame.
    pub async fn write(&mut self, bytes: &[u8]) {
        within(self.0.write_all(bytes)).await.unwrap();
    }

    /// Sends a PING and waits for the PONG: the other side has then read everything before.
    pub async fn ping(&mut self) {
        let ping = Frame {
            kind: PING,
            payload: vec![7; 8],
            ..Frame::default()
        };
        self.send(&ping).await;
        self.until(PONG).await;
    }

    /// Reads the next frame. Returns none at the end of the stream, and panics if the stream was reset.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut len = [0; 4];
        match within(self.0.read_exact(&mut len)).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(error) => panic!("the stream was reset: {error}"),
        }
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        within(self.0.read_exact(&mut frame)).await.unwrap();
        Some(Frame::decode(&frame[..]).unwrap())
    }

    /// Reads up to the first frame of `kind`, and answers pings.
    pub async fn until(&mut self, kind: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the stream ended before the frame came");
            if frame.kind == kind {
                return frame;
            }
            if frame.kind == PING {
                // A `Pong` whose first field is the ping.
                let mut payload = vec![0x0a, frame.payload.len() as u8];
                payload.extend_from_slice(&frame.payload);
                let pong = Frame {
                    kind: PONG,
                    payload,
                    ..Frame::default()
                };
                self.send(&pong).await;
            }
        }
    }

    /// Reads up to a GOAWAY, and answers pings.
    pub async fn goaway(&mut self) -> Goaway {
        Goaway::decode(&self.until(GOAWAY).await.payload[..]).unwrap()
    }
}

/// Makes the HELLO of a peer with the usual limits.
pub fn hello() -> Frame {
    let hello = Hello {
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
    Frame {
        kind: HELLO,
        payload: hello.encode_to_vec(),
        ..Frame::default()
    }
}

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

/// Encodes a frame, its length before it.
pub fn encode(frame: &Frame) -> Vec<u8> {
    let body = frame.encode_to_vec();
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}
