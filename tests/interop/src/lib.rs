//! The interoperability cases of gRPC, written from their public description for
//! our own stubs: exact sizes in each shape of call, statuses, metadata, cancels, deadlines, unknown procedures
//! and soaks. They compare the behaviour. The messages differ from gRPC's, and so do the bytes unless gRPC carries them.
//!
//! [`cases`] are functions of a [`Site`]: a server and the way to it, over TCP, a Unix socket or memory, with or without
//! compression, or over gRPC. `cargo test` runs all of them; `cargo run -p interop` does, too, and prints a table.

pub mod cases;
pub mod check;
mod service;
mod site;

pub use check::{Failed, Outcome};
pub use service::Tester;
pub use site::{Over, Site};

rpc_runtime::include_protos!();

/// The generated code of a client whose .proto is newer than the server's.
pub mod newer {
    include!(concat!(env!("OUT_DIR"), "/newer/rpc_protos.rs"));
}

use rpc_runtime::Bytes;

/// Makes a body of `len` bytes. Each byte follows from its place, so lost and swapped bytes are found.
///
/// The bytes repeat after 251, so they can be compressed.
pub fn body(len: usize) -> Bytes {
    let mut body = Vec::with_capacity(len);
    while body.len() < len {
        let rest = len - body.len();
        body.extend_from_slice(&PATTERN[..rest.min(PATTERN.len())]);
    }
    body.into()
}

/// True if `bytes` are a body as [`body`] makes it.
pub fn is_body(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks(PATTERN.len());
    chunks.all(|chunk| *chunk == PATTERN[..chunk.len()])
}

/// A prime number, so that no buffer or frame, which ends at a power of two, repeats the pattern.
const PATTERN: [u8; 251] = {
    let mut pattern = [0; 251];
    let mut at = 0;
    while at < pattern.len() {
        pattern[at] = at as u8;
        at += 1;
    }
    pattern
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_of_a_body_follows_from_its_place() {
        for len in [0, 1, 250, 251, 252, 1000, 314_159] {
            let body = body(len);
            assert_eq!(body.len(), len);
            let mut bytes = body.iter().enumerate();
            assert!(bytes.all(|(at, &byte)| usize::from(byte) == at % 251));
            assert!(is_body(&body));
        }
        let mut swapped = body(1000).to_vec();
        swapped.swap(7, 8);
        assert!(!is_body(&swapped));
        assert!(!is_body(&body(1000)[1..]));
    }
}
