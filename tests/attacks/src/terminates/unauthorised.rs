//! Unauthorised terminates from raw peers, a few at a time on each of four connections.

use std::{io, path::Path};

use prost::Message;
use test_support::wire::{Frame, GOAWAY, NOT_EXECUTED, REPLY, RawPeer, encode, greedy_hello};
use tokio::net::UnixStream;

use super::proof::Request;
use crate::{
    attack::{Failure, call},
    procedure::TERMINATE,
};

/// What a server's HELLO says about terminates.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Hello {
    #[prost(bytes = "vec", tag = "12")]
    pub(super) instance_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "16")]
    pub(super) challenge: Vec<u8>,
}

/// A raw peer after the handshake.
pub(super) struct Greeted {
    raw: RawPeer,
    pub(super) hello: Hello,
}

pub(super) async fn greet(mut raw: RawPeer) -> Result<Greeted, Failure> {
    let frame = raw.greet(&greedy_hello()).await?;
    let hello = Hello::decode(&frame.payload[..]).map_err(io::Error::other)?;
    Ok(Greeted { raw, hello })
}

impl Greeted {
    /// Terminates the server with a good proof.
    pub(super) async fn terminate(&mut self, proof: Vec<u8>) -> Result<(), Failure> {
        self.raw.send(&frame(1, proof)).await?;
        while let Some(frame) = self.raw.next().await? {
            match (frame.kind, frame.code) {
                (REPLY, 0) => return Ok(()),
                (REPLY, _) => return Err(Failure(format!("a good proof is refused: {frame:?}"))),
                _ => {}
            }
        }
        Err(Failure("a good proof gets no reply".to_owned()))
    }
}

/// Sends terminates until `count` were refused; `proof` makes the proof of each. A server that ends a connection after many
/// refusals is connected to again.
pub(super) async fn flood(
    connect: &impl AsyncFn() -> io::Result<RawPeer>,
    count: u64,
    proof: &impl Fn(u64, &Hello) -> Vec<u8>,
) -> Result<u64, Failure> {
    let part = || flood_one(connect, count.div_ceil(4), proof);
    let parts = tokio::try_join!(part(), part(), part(), part())?;
    Ok(parts.0 + parts.1 + parts.2 + parts.3)
}

/// Does so on one connection at a time.
async fn flood_one(
    connect: &impl AsyncFn() -> io::Result<RawPeer>,
    count: u64,
    proof: &impl Fn(u64, &Hello) -> Vec<u8>,
) -> Result<u64, Failure> {
    let mut refused = 0;
    while refused < count {
        let mut peer = greet(connect().await?).await?;
        let before = refused;
        let mut id = 1;
        while refused < count {
            let mut batch = Vec::new();
            for more in 0..AT_ONCE {
                batch.extend(encode(&frame(id + 2 * more, proof(refused + more, &peer.hello))));
            }
            id += 2 * AT_ONCE;
            // The connection may have ended. What the server has said can still be read.
            let _ = peer.raw.write(&batch).await;
            let answered = answers(&mut peer.raw).await?;
            refused += answered;
            if answered < AT_ONCE {
                break;
            }
        }
        if refused == before {
            return Err(Failure(
                "a new connection gets no answer to a terminate".to_owned(),
            ));
        }
    }
    Ok(refused)
}

/// Reads the answers to a batch, and returns how many there were before the connection ended.
async fn answers(raw: &mut RawPeer) -> Result<u64, Failure> {
    let mut answered = 0;
    while answered < AT_ONCE {
        match raw.next().await {
            Ok(Some(frame)) if frame.kind == REPLY => {
                if frame.code != 7 || frame.flags & NOT_EXECUTED == 0 {
                    return Err(Failure(format!(
                        "expected PERMISSION_DENIED, not executed, got {frame:?}"
                    )));
                }
                answered += 1;
            }
            Ok(Some(frame)) if frame.kind == GOAWAY => {}
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    Ok(answered)
}

fn frame(id: u64, proof: Vec<u8>) -> Frame {
    call(id, TERMINATE, Request { proof }.encode_to_vec())
}

/// Sends terminates to the Unix socket at `path`, and returns how many were refused. The program calls it as another user.
///
/// # Errors
///
/// If the server answers anything else.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub async fn send_all(path: &Path, count: u64) -> Result<u64, Failure> {
    let connect = async || Ok(RawPeer::over(UnixStream::connect(path).await?));
    flood(&connect, count, &|_, _| Vec::new()).await
}

/// A server takes four calls of its control service at once.
const AT_ONCE: u64 = 4;
