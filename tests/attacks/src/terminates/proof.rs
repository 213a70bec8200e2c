//! Proof: what shows a server that a TCP peer can read its key, good and bad, after docs/reference/wire.md.

use std::{fs, io, path::Path};

use prost::Message;
use sha2::{Digest, Sha256};

use super::unauthorised::Hello;

/// The key of a target.
#[derive(Debug)]
pub(super) struct Key(Vec<u8>);

/// What a peer puts into the place of the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Absent,
    Random,
    NearMiss,
    Replayed,
}

impl Key {
    /// Reads the key of the server that has sent `hello`, from its runtime folder.
    pub(super) fn read(folder: &Path, hello: &Hello) -> io::Result<Self> {
        let name: String = hello
            .instance_id
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fs::read(folder.join("rpc-runtime").join(name + ".key")).map(Self)
    }

    /// Makes the proof for the connection with `hello`.
    pub(super) fn proof(&self, hello: &Hello) -> Vec<u8> {
        let pad = |with: u8| {
            let mut block = [with; 64];
            for (byte, key) in block.iter_mut().zip(&self.0) {
                *byte ^= key;
            }
            block
        };
        let inner = Sha256::new()
            .chain_update(pad(0x36))
            .chain_update(b"rpc terminate v1")
            .chain_update(&hello.instance_id)
            .chain_update(&hello.challenge)
            .finalize();
        Sha256::new()
            .chain_update(pad(0x5c))
            .chain_update(inner)
            .finalize()
            .to_vec()
    }
}

impl Kind {
    /// Makes the bad proof of request `number`; `other` is the good one of another connection.
    pub(super) fn make(self, number: u64, hello: &Hello, key: &Key, other: &[u8]) -> Vec<u8> {
        match self {
            Self::Absent => Vec::new(),
            Self::Random => Sha256::digest(number.to_le_bytes()).to_vec(),
            Self::NearMiss => {
                let mut near = key.proof(hello);
                let bit = (number % 256) as usize;
                near[bit / 8] ^= 1 << (bit % 8);
                near
            }
            Self::Replayed => other.to_vec(),
        }
    }
}

/// The payload of a terminate.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(bytes = "vec", tag = "3")]
    pub(super) proof: Vec<u8>,
}
