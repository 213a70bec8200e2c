//! gzip: one member or several.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use rpc_runtime::Status;

use crate::grpc::prefixed::too_long;

pub(super) fn compress(message: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() < message.len()).then(|| compressed.into())
}

pub(super) fn decompress(message: &[u8], max: usize) -> Result<Bytes, Status> {
    let mut plain = Vec::new();
    let most = (max as u64).saturating_add(1);
    let read = MultiGzDecoder::new(message).take(most).read_to_end(&mut plain);
    read.map_err(|error| Status::internal(format!("a message cannot be decompressed as gzip: {error}")))?;
    if plain.len() > max {
        return Err(too_long(plain.len() as u64, max));
    }
    Ok(plain.into())
}
