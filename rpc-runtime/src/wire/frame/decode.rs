//! Decode: the bytes of a frame to a [`Frame`], without trusting any of them.

use std::{error, fmt, ops::Range};

use bytes::Bytes;

use super::{Flags, Frame, Kind, MAX_TEXT, cut};
use crate::{Metadata, api::trace_context::TraceContext};

/// Maximum depth of groups in a field that is skipped. No field of ours has groups.
const MAX_NESTING: u32 = 32;

/// The reason why bytes cannot be decoded as a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A value reaches past the end of the frame.
    Truncated {
        /// Length in bytes of the frame, or of the metadata entry that is cut short.
        len: usize,
    },
    /// A number has more than 64 bits.
    Varint,
    /// A field has a number that protobuf does not allow.
    FieldNumber {
        /// The field number and wire type as they were read.
        key: u64,
    },
    /// A field has the wrong wire type, or one that does not exist.
    WireType {
        /// The number of the field.
        field: u32,
        /// The wire type that was read.
        wire_type: u8,
    },
    /// A group ends with another number than it began with, or ends without a beginning.
    Group {
        /// The number at its end.
        field: u32,
    },
    /// Groups are nested too deeply.
    Nesting {
        /// The maximum depth.
        max: u32,
    },
    /// The metadata exceeds what one frame may carry.
    Metadata {
        /// Number of entries, including the one that exceeded the limit.
        entries: usize,
        /// Length of their keys and values in bytes.
        len: usize,
    },
    /// The key of a metadata entry is not UTF-8.
    MetadataKey {
        /// The index of the entry, from 0.
        entry: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { len } => write!(f, "value reaches past the end of {len} bytes"),
            Self::Varint => f.write_str("varint exceeds 64 bits"),
            Self::FieldNumber { key } => write!(f, "field key {key} is invalid"),
            Self::WireType { field, wire_type } => {
                write!(f, "field {field} has the wrong wire type {wire_type}")
            }
            Self::Group { field } => write!(f, "group {field} ends without having begun"),
            Self::Nesting { max } => write!(f, "groups nest deeper than {max}"),
            Self::Metadata { entries, len } => write!(
                f,
                "metadata of {entries} entries and {len} bytes exceeds {} entries or {} bytes",
                Metadata::MAX_ENTRIES,
                Metadata::MAX_LEN
            ),
            Self::MetadataKey { entry } => write!(f, "key of metadata entry {entry} is not utf-8"),
        }
    }
}

impl error::Error for FrameError {}

impl Frame {
    /// Decodes `body` into a new frame.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn decode(body: Bytes) -> Result<Self, FrameError> {
        let mut frame = Self::default();
        let payload = frame.fill(&body)?;
        frame.payload = body.slice(payload);
        Ok(frame)
    }

    /// Decodes the bytes after the length prefix into `self`, which must be empty. Returns where the payload lies in them: the
    /// caller takes it.
    ///
    /// Fields may come in any order; of repeated fields the last one wins; unknown fields are skipped. Everything but the
    /// payload is copied.
    ///
    /// # Errors
    ///
    /// [`FrameError`] says what is wrong. A status text that is too long or not UTF-8 is not an error.
    #[inline]
    pub(crate) fn fill(&mut self, body: &[u8]) -> Result<Range<usize>, FrameError> {
        let frame = self;
        let mut ranges = Ranges::default();
        let mut reader = Reader::new(body);
        while let Some(key) = reader.next_byte() {
            match key {
                KIND => frame.kind = Kind::from(reader.varint()? as u32),
                ID => frame.id = reader.varint()?,
                FLAGS => frame.flags = Flags::from_bits(reader.varint()? as u32),
                PROCEDURE => frame.procedure = reader.eight()?,
                TIMEOUT => frame.timeout_us = reader.varint()?,
                QUEUE => frame.queue_us = reader.varint()?,
                RUN => frame.run_us = reader.varint()?,
                DEPTH => frame.depth = reader.varint()? as u32,
                PAYLOAD => ranges.payload = reader.prefixed()?,
                _ => {
                    reader.at -= 1;
                    reader.field(frame, &mut ranges)?;
                }
            }
        }
        let Ranges {
            message,
            details,
            payload,
            ..
        } = ranges;
        if !message.is_empty() {
            frame.extra.get_mut().message = text(&body[message]);
        }
        if !details.is_empty() {
            // Copied, because an error may be kept long, and a slice would keep the read buffer alive.
            frame.extra.get_mut().details = Bytes::copy_from_slice(&body[details]);
        }
        Ok(payload)
    }
}

impl Frame {
    /// Decodes a DATA frame of `len` bytes whose payload is still to come.
    ///
    /// Returns the frame and the offset of its payload; `None` if `body` holds anything else or not enough yet. In that
    /// case the frame is decoded once all of it has come.
    pub(crate) fn begun(body: &[u8], len: usize) -> Option<(Self, usize)> {
        let mut frame = Self::default();
        let mut reader = Reader::new(body);
        loop {
            match reader.next_byte()? {
                KIND => frame.kind = Kind::from(reader.varint().ok()? as u32),
                ID => frame.id = reader.varint().ok()?,
                FLAGS => frame.flags = Flags::from_bits(reader.varint().ok()? as u32),
                PAYLOAD => {
                    let payload = usize::try_from(reader.varint().ok()?).ok()?;
                    let is_last = reader.at.checked_add(payload) == Some(len);
                    let is_fragment = frame.kind == Kind::Data && !frame.flags.contains(Flags::END);
                    return (is_last && is_fragment).then_some((frame, reader.at));
                }
                _ => return None,
            }
        }
    }
}

/// Positions of the fields that have a length.
#[derive(Default)]
struct Ranges {
    message: Range<usize>,
    details: Range<usize>,
    payload: Range<usize>,
    /// Number of metadata entries so far, and the length of their keys and values.
    metadata_entries: usize,
    metadata_len: usize,
}

/// The keys of the most frequent fields, as every encoder writes them: one byte each.
pub(super) const KIND: u8 = 1 << 3 | VARINT;
pub(super) const ID: u8 = 2 << 3 | VARINT;
pub(super) const FLAGS: u8 = 3 << 3 | VARINT;
pub(super) const PROCEDURE: u8 = 4 << 3 | FIXED64;
pub(super) const TIMEOUT: u8 = 5 << 3 | VARINT;
pub(super) const QUEUE: u8 = 11 << 3 | VARINT;
pub(super) const RUN: u8 = 12 << 3 | VARINT;
const DEPTH: u8 = 14 << 3 | VARINT;
pub(super) const PAYLOAD: u8 = 15 << 3 | LEN;

/// Reads one metadata entry; `index` is for the error only.
fn entry(bytes: &[u8], index: usize) -> Result<(&str, &[u8]), FrameError> {
    let mut name: &[u8] = &[];
    let mut value: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some(key) = reader.key()? {
        match key.field {
            1 => name = reader.bytes(key)?,
            2 => value = reader.bytes(key)?,
            _ => reader.skip(key, 0)?,
        }
    }
    let name = std::str::from_utf8(name).map_err(|_| FrameError::MetadataKey { entry: index })?;
    Ok((name, value))
}

/// Reads a trace context; none if nothing valid is in it.
fn trace(bytes: &[u8]) -> Result<Option<TraceContext>, FrameError> {
    let mut fields = [""; 3];
    let mut reader = Reader::new(bytes);
    while let Some(key) = reader.key()? {
        match key.field {
            // What is not UTF-8 is invalid, as other texts are.
            at @ 1..=3 => {
                fields[at as usize - 1] = std::str::from_utf8(reader.bytes(key)?).unwrap_or_default()
            }
            _ => reader.skip(key, 0)?,
        }
    }
    let [parent, state, baggage] = fields;
    Ok(TraceContext::parse(parent, state, baggage))
}

/// Makes a status text of at most [`MAX_TEXT`] bytes from any bytes.
fn text(bytes: &[u8]) -> String {
    // The middle of a very long text is not needed. A character that is torn here lies in the part that `cut` removes.
    let far = MAX_TEXT + 3;
    let text = if bytes.len() > 2 * far {
        let (beginning, end) = (&bytes[..far], &bytes[bytes.len() - far..]);
        String::from_utf8_lossy(beginning) + String::from_utf8_lossy(end)
    } else {
        String::from_utf8_lossy(bytes)
    };
    cut(&text, MAX_TEXT).into_owned()
}

/// A field's number and wire type.
#[derive(Clone, Copy)]
struct Key {
    field: u32,
    wire_type: u8,
}

impl Key {
    fn expect(self, wire_type: u8) -> Result<(), FrameError> {
        if self.wire_type == wire_type {
            Ok(())
        } else {
            Err(FrameError::WireType {
                field: self.field,
                wire_type: self.wire_type,
            })
        }
    }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

/// Reads protobuf values one after another.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte, or `None` at the end.
    #[inline]
    fn next_byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    /// Reads any field, with a key of any valid encoding.
    #[cold]
    fn field(&mut self, frame: &mut Frame, ranges: &mut Ranges) -> Result<(), FrameError> {
        let Some(key) = self.key()? else { return Ok(()) };
        match key.field {
            1 => frame.kind = Kind::from(self.uint32(key)?),
            2 => frame.id = self.uint64(key)?,
            3 => frame.flags = Flags::from_bits(self.uint32(key)?),
            4 => frame.procedure = self.fixed64(key)?,
            5 => frame.timeout_us = self.uint64(key)?,
            6 => frame.code = self.uint32(key)?,
            7 => ranges.message = self.range(key)?,
            8 => self.metadata(key, frame, ranges)?,
            9 => frame.length = self.uint64(key)?,
            10 => frame.encoding = self.uint32(key)?,
            11 => frame.queue_us = self.uint64(key)?,
            12 => frame.run_us = self.uint64(key)?,
            13 => ranges.details = self.range(key)?,
            14 => frame.depth = self.uint32(key)?,
            15 => ranges.payload = self.range(key)?,
            16 => frame.extra.get_mut().trace = trace(self.bytes(key)?)?,
            _ => self.skip(key, 0)?,
        }
        Ok(())
    }

    fn metadata(&mut self, key: Key, frame: &mut Frame, ranges: &mut Ranges) -> Result<(), FrameError> {
        let entries = ranges.metadata_entries + 1;
        let (name, value) = entry(self.bytes(key)?, ranges.metadata_entries)?;
        ranges.metadata_entries = entries;
        ranges.metadata_len += name.len() + value.len();
        if entries > Metadata::MAX_ENTRIES || ranges.metadata_len > Metadata::MAX_LEN {
            return Err(FrameError::Metadata {
                entries,
                len: ranges.metadata_len,
            });
        }
        if Metadata::is_reserved(name) {
            // Either a later version sent it, or a peer that forwards reserved entries. Users must not see it.
            return Ok(());
        }
        // Copied, because a handler may keep it and a slice would keep the read buffer alive.
        let metadata = &mut frame.extra.get_mut().metadata;
        metadata.append(name, Bytes::copy_from_slice(value));
        Ok(())
    }

    /// The key of the next field, or `None` at the end.
    fn key(&mut self) -> Result<Option<Key>, FrameError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire_type = (key & 7) as u8;
        match u32::try_from(key).map(|key| key >> 3) {
            Err(_) | Ok(0) => Err(FrameError::FieldNumber { key }),
            Ok(field) if wire_type > FIXED32 => Err(FrameError::WireType { field, wire_type }),
            Ok(field) => Ok(Some(Key { field, wire_type })),
        }
    }

    fn uint64(&mut self, key: Key) -> Result<u64, FrameError> {
        key.expect(VARINT)?;
        self.varint()
    }

    /// Takes the lower 32 bits, as every protobuf library does.
    fn uint32(&mut self, key: Key) -> Result<u32, FrameError> {
        Ok(self.uint64(key)? as u32)
    }

    fn fixed64(&mut self, key: Key) -> Result<u64, FrameError> {
        key.expect(FIXED64)?;
        self.eight()
    }

    #[inline]
    fn eight(&mut self) -> Result<u64, FrameError> {
        let range = self.take(8)?;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[range]);
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self, key: Key) -> Result<&'a [u8], FrameError> {
        Ok(&self.bytes[self.range(key)?])
    }

    /// The position of the bytes of a field that has a length.
    fn range(&mut self, key: Key) -> Result<Range<usize>, FrameError> {
        key.expect(LEN)?;
        self.prefixed()
    }

    /// The position of bytes that follow their length.
    #[inline]
    fn prefixed(&mut self) -> Result<Range<usize>, FrameError> {
        let len = self.varint()?;
        self.take(len)
    }

    fn skip(&mut self, key: Key, depth: u32) -> Result<(), FrameError> {
        match key.wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            LEN => self.range(key).map(drop),
            FIXED32 => self.take(4).map(drop),
            GROUP if depth == MAX_NESTING => Err(FrameError::Nesting { max: MAX_NESTING }),
            GROUP => loop {
                let inner = self.key()?.ok_or(FrameError::Truncated {
                    len: self.bytes.len(),
                })?;
                if inner.wire_type == END_GROUP && inner.field == key.field {
                    return Ok(());
                }
                self.skip(inner, depth + 1)?;
            },
            _ => Err(FrameError::Group { field: key.field }),
        }
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<Range<usize>, FrameError> {
        let rest = self.bytes.len() - self.at;
        match usize::try_from(len) {
            Ok(len) if len <= rest => {
                let start = self.at;
                self.at += len;
                Ok(start..self.at)
            }
            _ => Err(FrameError::Truncated {
                len: self.bytes.len(),
            }),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, FrameError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, FrameError> {
        let rest = &self.bytes[self.at..];
        let mut value = 0;
        for (index, &byte) in rest.iter().enumerate() {
            // The tenth byte holds only the 64th bit.
            if index == 9 && byte > 1 {
                return Err(FrameError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(FrameError::Truncated {
            len: self.bytes.len(),
        })
    }
}
