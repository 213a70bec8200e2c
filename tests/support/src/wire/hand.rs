//! HandPeer: a raw peer for tests. It panics where a raw peer returns an error.

use tokio::net::TcpStream;

use super::{Frame, GOAWAY, Goaway, HELLO, PING, PONG, RawPeer, hello};

/// A connection that a test drives frame by frame.
#[derive(Debug)]
pub struct HandPeer(RawPeer);

impl HandPeer {
    /// Connects and sends nothing.
    pub async fn connect(address: &str) -> Self {
        Self(RawPeer::connect(address).await.unwrap())
    }

    /// Wraps an accepted connection.
    pub fn over(stream: TcpStream) -> Self {
        Self(RawPeer::over(stream))
    }

    /// Connects and shakes hands.
    pub async fn greeted(address: &str) -> Self {
        let mut peer = Self::connect(address).await;
        peer.hello().await;
        assert_eq!(peer.next().await.map(|frame| frame.kind), Some(HELLO));
        peer
    }

    /// Sends HELLO, without waiting for the other HELLO.
    pub async fn hello(&mut self) {
        self.send(&hello()).await;
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Frame) {
        self.0.send(frame).await.unwrap();
    }

    /// Sends bytes; they need not be whole frames.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes).await.unwrap();
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

    /// Reads the next frame; `None` at the end of the stream. Panics if the stream was reset.
    pub async fn next(&mut self) -> Option<Frame> {
        self.0.next().await.expect("the stream was reset")
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

    /// Reads up to the first frame of `kind`, and answers no pings.
    pub async fn skip_to(&mut self, kind: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the stream ended before the frame came");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads up to a GOAWAY, and answers pings.
    pub async fn goaway(&mut self) -> Goaway {
        Goaway::of(&self.until(GOAWAY).await)
    }
}
