//! Messages behind their lengths, as the suite sends them to a program and reads them from it.

use std::{
    error::Error,
    io::{self, Read, Write},
};

use prost::Message;

/// Reads a message behind its length of four bytes; none at the end of the input.
pub(super) fn read<M: Message + Default>(mut from: impl Read) -> Result<Option<M>, Box<dyn Error>> {
    let mut len = Vec::new();
    from.by_ref().take(4).read_to_end(&mut len)?;
    if len.is_empty() {
        return Ok(None);
    }
    let len = <[u8; 4]>::try_from(len).map_err(|_| "the input ends within the length of a message")?;
    let mut bytes = Vec::new();
    from.take(u32::from_be_bytes(len).into())
        .read_to_end(&mut bytes)?;
    Ok(Some(M::decode(&bytes[..])?))
}

/// Writes a message behind its length of four bytes.
pub(super) fn write(mut to: impl Write, message: &impl Message) -> io::Result<()> {
    let bytes = message.encode_to_vec();
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_be_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}
