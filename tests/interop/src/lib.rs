//! The interoperability cases that every gRPC library is tested with, written from their public description against
//! our own stubs: exact sizes in every shape of call, statuses, metadata, cancels, deadlines, procedures that are not
//! there, and soaks. The wire is ours, so it is the behaviour that is compared, not the bytes.
//!
//! [`cases`] are functions of a [`Site`]: a server and the way to it, over TCP, a Unix socket or memory, with or without
//! compression. `cargo test` runs all of them; `cargo run -p interop` does, too, and prints a table.

pub mod cases;
mod check;
mod service;
mod site;

pub use check::{Failed, Outcome};
pub use service::Tester;
pub use site::{Over, Site};

rpc_runtime::include_protos!();

/// What a client knows whose .proto is newer than the server's.
pub mod newer {
    include!(concat!(env!("OUT_DIR"), "/newer/rpc_protos.rs"));
}

use rpc_runtime::Bytes;

/// The bytes that a body of `len` bytes consists of: each tells where it stands, so that none can be lost or swapped.
///
/// They repeat after 251 bytes, so compression has something to do.
pub fn body(len: usize) -> Bytes {
    let mut body = Vec::with_capacity(len);
    while body.len() < len {
        let rest = len - body.len();
        body.extend_from_slice(&PATTERN[..rest.min(PATTERN.len())]);
    }
    body.into()
}

/// Whether `bytes` are what [`body`] makes.
pub fn is_body(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks(PATTERN.len());
    chunks.all(|chunk| *chunk == PATTERN[..chunk.len()])
}

/// A prime number of bytes: no power of two, at which buffers and frames end, repeats it.
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
