//! Fuzz: the code of the fuzz targets `grpc`, `grpc_reply` and `http2`, which tests also run on their corpora; absent from a normal build.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use rpc_runtime::{Code, Status};
use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    any_authority::AnyAuthority,
    begun_frame::BegunFrame,
    connection::header_list,
    grpc::{
        encoding::Encoding,
        headers::{Room, add_metadata, to_metadata},
        prefixed::{PREFIX, Prefixed},
        status::{MAX_LIST, add_end},
        timeout,
    },
    preface::PREFACE,
};

pub use crate::outgoing::fuzz::grpc_reply;

/// Takes any bytes as a request, and panics if this crate reads it wrongly.
///
/// They are a number of headers, each a name and a value behind their lengths, of one byte each; then three bytes: an encoding, the
/// limit of a message, and the length of a chunk; then the body.
pub fn grpc(data: &[u8]) {
    let mut data = data;
    read_headers(&take_headers(&mut data));
    let encoding = Encoding::ALL[usize::from(byte(&mut data)) % Encoding::ALL.len()];
    let (max, step) = (byte(&mut data), byte(&mut data));
    let _ = read_messages(data, encoding, max, step);
    end_is_bounded(data);
}

/// Reads a body in chunks. Returns how many messages it has, and whether it ends behind one.
pub(crate) fn read_messages(body: &[u8], encoding: Encoding, max: u8, step: u8) -> (usize, bool) {
    // Short and long limits, and chunks of any length.
    let max = usize::from(max).pow(2);
    let step = usize::from(step) + 1;
    let (messages, end) = read_body(body, encoding, max, step);
    let count = messages.len();
    let is_whole = end == Ok(0);
    assert_eq!((messages, end), read_slowly(body, encoding, max));
    (count, is_whole)
}

pub(crate) fn byte(data: &mut &[u8]) -> u8 {
    data.try_get_u8().unwrap_or(0)
}

fn take<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let len = usize::from(byte(data)).min(data.len());
    let (taken, rest) = data.split_at(len);
    *data = rest;
    taken
}

pub(crate) fn take_headers(data: &mut &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..byte(data) % 16 {
        let (name, value) = (take(data), take(data));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

fn read_headers(headers: &HeaderMap) {
    let _ = (
        timeout::read(headers),
        Encoding::accepted(headers),
        Encoding::of_request(headers),
    );
    read_metadata(headers);
}

/// Metadata is read as it was written.
pub(crate) fn read_metadata(headers: &HeaderMap) {
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

/// Takes any bytes as the frames of an HTTP/2 peer at a Unix socket, and panics if what this crate does to them, before h2 sees them, depends on how
/// they arrive.
///
/// Before them stand the length of a chunk and that of a buffer, of one byte each.
pub fn http2(data: &[u8]) {
    let mut data = data;
    let (step, room) = (byte(&mut data), byte(&mut data));
    let (step, room) = (usize::from(step) + 1, usize::from(room) + 1);
    let whole = with_any_authority(data, data.len().max(1), data.len().max(1));
    assert_eq!(with_any_authority(data, step, room), whole);
    assert_eq!(whole.len(), data.len());
    assert_eq!(
        with_any_authority(&whole, step, room),
        whole,
        "nothing is left to change"
    );
    let mut at_once = BegunFrame::behind(0);
    let mut in_pieces = BegunFrame::behind(0);
    let end = at_once.read(data);
    let ends = data.chunks(step).try_for_each(|chunk| in_pieces.read(chunk));
    assert_eq!(end, ends);
    if end.is_ok() {
        assert_eq!(at_once.gathered(), in_pieces.gathered());
        assert!(at_once.gathered() <= data.len());
    }
}

/// Reads frames whose `:authority` may be a path, as they come in chunks of `step` bytes, into buffers of `room` bytes.
fn with_any_authority(frames: &[u8], step: usize, room: usize) -> Vec<u8> {
    let mut stream = AnyAuthority::of_unix_peer(Chunks { rest: frames, step });
    let mut cx = Context::from_waker(Waker::noop());
    let (mut read, mut buffer) = (Vec::new(), vec![0; room]);
    loop {
        let mut buf = ReadBuf::new(&mut buffer);
        let done = Pin::new(&mut stream).poll_read(&mut cx, &mut buf);
        assert!(matches!(done, Poll::Ready(Ok(()))), "there is always something");
        if buf.filled().is_empty() {
            break;
        }
        read.extend_from_slice(buf.filled());
    }
    // The stream hands the preface on, which its peer was read before.
    let frames = read.strip_prefix(PREFACE).expect("the preface comes first");
    frames.to_vec()
}

/// Bytes that come in chunks.
struct Chunks<'a> {
    rest: &'a [u8],
    step: usize,
}

impl AsyncRead for Chunks<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.step.min(self.rest.len()).min(buf.remaining());
        let (chunk, rest) = self.rest.split_at(len);
        buf.put_slice(chunk);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Runs all inputs that are stored for a target.
    fn run(target: &str, check: fn(&[u8])) {
        let mut count = 0;
        for kept in ["corpus", "regressions"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../fuzz")
                .join(kept)
                .join(target);
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                println!("{}", path.display());
                check(&fs::read(&path).unwrap());
                count += 1;
            }
        }
        assert!(count > 0, "the corpus is missing");
    }

    #[test]
    fn grpc() {
        run("grpc", super::grpc);
    }

    #[test]
    fn grpc_reply() {
        run("grpc_reply", super::grpc_reply);
    }

    #[test]
    fn http2() {
        run("http2", super::http2);
    }
}
