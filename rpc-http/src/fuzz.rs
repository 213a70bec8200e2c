//! Fuzz: the code of the fuzz target `grpc`, which tests also run on its corpus; absent from a normal build.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use rpc_runtime::{Code, Status};

use crate::{
    connection::header_list,
    grpc::{
        encoding::Encoding,
        headers::{Room, add_metadata, to_metadata},
        prefixed::{PREFIX, Prefixed},
        status::{MAX_LIST, add_end},
        timeout,
    },
};

/// Takes any bytes as a request, and panics if this crate reads it wrongly.
///
/// They are a number of headers, each a name and a value behind their lengths, of one byte each; then three bytes: an encoding, the
/// limit of a message, and the length of a chunk; then the body.
pub fn grpc(data: &[u8]) {
    let mut data = data;
    read_headers(&take_headers(&mut data));
    let (encoding, max, step) = (byte(&mut data), byte(&mut data), byte(&mut data));
    let encoding = Encoding::ALL[usize::from(encoding) % Encoding::ALL.len()];
    // Short and long limits, and chunks of any length.
    let max = usize::from(max).pow(2);
    let step = usize::from(step) + 1;
    let (messages, end) = read_body(data, encoding, max, step);
    assert_eq!((messages, end), read_slowly(data, encoding, max));
    end_is_bounded(data);
}

fn byte(data: &mut &[u8]) -> u8 {
    data.try_get_u8().unwrap_or(0)
}

fn take<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let len = usize::from(byte(data)).min(data.len());
    let (taken, rest) = data.split_at(len);
    *data = rest;
    taken
}

fn take_headers(data: &mut &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..byte(data) % 16 {
        let (name, value) = (take(data), take(data));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// What the metadata of a request is written as is read as the same.
fn read_headers(headers: &HeaderMap) {
    let _ = (
        timeout::read(headers),
        Encoding::accepted(headers),
        Encoding::of_request(headers),
    );
    let Ok(metadata) = to_metadata(headers) else {
        return;
    };
    let write = |metadata| {
        let mut written = HeaderMap::new();
        let without_room = add_metadata(metadata, &mut written, &mut Room(usize::MAX));
        assert_eq!(without_room, 0);
        written
    };
    let once = write(&metadata);
    let again = to_metadata(&once).expect("what was written can be read");
    assert_eq!(write(&again), once);
}

/// How a body ends: with bytes of a message that is not whole, or with an error.
type End = Result<usize, Code>;

/// Reads a body in chunks of `step` bytes.
fn read_body(body: &[u8], encoding: Encoding, max: usize, step: usize) -> (Vec<Bytes>, End) {
    let mut unread = Prefixed::new(encoding, max);
    let mut messages = Vec::new();
    for chunk in body.chunks(step) {
        if let Err(status) = read_chunk(&mut unread, chunk, &mut messages) {
            return (messages, Err(status.code()));
        }
    }
    (messages, Ok(unread.len()))
}

fn read_chunk(unread: &mut Prefixed, chunk: &[u8], messages: &mut Vec<Bytes>) -> Result<(), Status> {
    messages.extend(unread.push(&Bytes::copy_from_slice(chunk))?);
    while let Some(message) = unread.take()? {
        messages.push(message);
    }
    Ok(())
}

/// The same in the obvious way.
fn read_slowly(mut body: &[u8], encoding: Encoding, max: usize) -> (Vec<Bytes>, End) {
    let mut messages = Vec::new();
    while body.len() >= PREFIX {
        let (flag, len) = (
            body[0],
            u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize,
        );
        if flag > 1 {
            return (messages, Err(Code::Internal));
        }
        if len > max {
            return (messages, Err(Code::ResourceExhausted));
        }
        let Some(message) = body.get(PREFIX..PREFIX + len) else {
            break;
        };
        let message = match flag {
            0 => Ok(Bytes::copy_from_slice(message)),
            _ => encoding.decompress(message, max),
        };
        match message {
            Ok(message) => messages.push(message),
            Err(status) => return (messages, Err(status.code())),
        }
        body = &body[PREFIX + len..];
    }
    assert!(messages.iter().all(|message| message.len() <= max));
    (messages, Ok(body.len()))
}

/// Whatever a status says, its trailers are short.
fn end_is_bounded(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let status = Status::new(Code::Internal, text).with_details_bytes(data.to_vec());
    let mut trailers = HeaderMap::new();
    add_end(Err(&status), &mut trailers);
    assert!(header_list(&trailers) <= MAX_LIST);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Runs all inputs that are stored for the target.
    #[test]
    fn grpc() {
        let mut count = 0;
        for kept in ["corpus", "regressions"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../fuzz")
                .join(kept)
                .join("grpc");
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                println!("{}", path.display());
                super::grpc(&fs::read(&path).unwrap());
                count += 1;
            }
        }
        assert!(count > 0, "the corpus is missing");
    }
}
