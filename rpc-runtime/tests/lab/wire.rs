//! A peer that is written by hand, after the page on the wire: it can stop in the middle of anything.

use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::within;

/// A peer that is written by hand.
pub(crate) struct HandPeer(TcpStream);

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Frame {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) id: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) flags: u32,
    #[prost(fixed64, tag = "4")]
    pub(crate) procedure: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) timeout_us: u64,
    #[prost(uint32, tag = "6")]
    pub(crate) code: u32,
    #[prost(string, tag = "7")]
    pub(crate) message: String,
    #[prost(uint64, tag = "9")]
    pub(crate) length: u64,
    #[prost(uint32, tag = "10")]
    pub(crate) encoding: u32,
    #[prost(bytes = "vec", tag = "15")]
    pub(crate) payload: Vec<u8>,
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

/// What a GOAWAY says.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Goaway {
    #[prost(uint32, tag = "1")]
    pub(crate) reason: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) last_id: u64,
}

pub(crate) const HELLO: u32 = 1;
pub(crate) const CALL: u32 = 2;
pub(crate) const DATA: u32 = 4;
pub(crate) const REPLY: u32 = 5;
pub(crate) const CANCEL: u32 = 6;
pub(crate) const PING: u32 = 8;
pub(crate) const PONG: u32 = 9;
pub(crate) const GOAWAY: u32 = 10;

pub(crate) const MORE: u32 = 1;
pub(crate) const END: u32 = 2;
pub(crate) const NOT_EXECUTED: u32 = 4;

impl HandPeer {
    /// Connects, and says nothing.
    pub(crate) async fn connect(address: &str) -> Self {
        let address = address.strip_prefix("tcp://").unwrap();
        Self(within(TcpStream::connect(address)).await.unwrap())
    }

    /// One that has connected to us, and says nothing.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Connects, and shakes hands.
    pub(crate) async fn greeted(address: &str) -> Self {
        let mut peer = Self::connect(address).await;
        peer.hello().await;
        assert_eq!(peer.next().await.map(|frame| frame.kind), Some(HELLO));
        peer
    }

    /// Says HELLO, and does not wait for the other one.
    pub(crate) async fn hello(&mut self) {
        self.send(&hello()).await;
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.write(&encode(frame)).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within(self.0.write_all(bytes)).await.unwrap();
    }

    /// Asks whether everything before was read.
    pub(crate) async fn ping(&mut self) {
        let ping = Frame {
            kind: PING,
            payload: vec![7; 8],
            ..Frame::default()
        };
        self.send(&ping).await;
        self.until(PONG).await;
    }

    /// The next frame; none at the end of the stream, which must be a proper one.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut len = [0; 4];
        match within(self.0.read_exact(&mut len)).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(error) => panic!("the stream did not end properly: {error}"),
        }
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        within(self.0.read_exact(&mut frame)).await.unwrap();
        Some(Frame::decode(&frame[..]).unwrap())
    }

    /// Reads until the frame of a kind, answering pings.
    pub(crate) async fn until(&mut self, kind: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the stream goes on");
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

    /// Reads until the GOAWAY, answering pings.
    pub(crate) async fn goaway(&mut self) -> Goaway {
        Goaway::decode(&self.until(GOAWAY).await.payload[..]).unwrap()
    }
}

/// The HELLO of a peer with the usual limits.
pub(crate) fn hello() -> Frame {
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

/// A whole call.
pub(crate) fn call(id: u64, procedure: &rpc_runtime::Procedure, request: &impl Message) -> Frame {
    Frame {
        kind: CALL,
        id,
        flags: END,
        procedure: procedure.id(),
        payload: request.encode_to_vec(),
        ..Frame::default()
    }
}

/// A frame as it is written.
pub(crate) fn encode(frame: &Frame) -> Vec<u8> {
    let body = frame.encode_to_vec();
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}
