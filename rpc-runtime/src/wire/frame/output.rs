//! Output: bytes to write, kept in segments.
#![allow(
    unsafe_code,
    reason = "`BufMut` is an unsafe trait, implemented by delegation; room that it has filled is added to the tail"
)]

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    io::IoSlice,
    mem::{self, MaybeUninit},
};

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::UninitSlice};

/// Bytes to write: a queue of sealed segments, and a tail into which small pieces are copied.
///
/// Writing goes through [`BufMut`], which keeps long pieces whole; reading goes through [`Buf`], by vectored writes.
/// Offsets count from the first byte ever appended. They are positions in the stream if one output carries all of it.
#[derive(Default)]
pub(crate) struct Output {
    sealed: VecDeque<Bytes>,
    sealed_len: usize,
    tail: BytesMut,
    /// Number of consumed bytes of the tail. `advance` would take them from its capacity.
    head: usize,
    written: u64,
}

impl Output {
    /// Minimum length of a piece that is kept by reference, in bytes. To copy a shorter one costs less.
    pub(crate) const BY_REFERENCE: usize = 16 * 1024;
    /// The first capacity of the tail, in bytes.
    const CHUNK_MIN: usize = 256;
    /// Above this capacity, in bytes, the tail is sealed instead of moved to a larger buffer.
    const CHUNK_MAX: usize = 64 * 1024;

    /// Makes an empty output at offset 0, without a buffer.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Moves all bytes of `other` to the end of `self`, without copying long segments.
    ///
    /// The buffers go back and forth: an empty output takes those of `other` and leaves its own.
    pub(crate) fn append(&mut self, other: &mut Self) {
        let len = other.len();
        if self.is_empty() {
            mem::swap(&mut self.sealed, &mut other.sealed);
            mem::swap(&mut self.sealed_len, &mut other.sealed_len);
            mem::swap(&mut self.tail, &mut other.tail);
            mem::swap(&mut self.head, &mut other.head);
        } else {
            self.append_behind(other);
        }
        other.written += len as u64;
    }

    /// Takes the first `len` bytes out, as an output of its own that begins at offset 0. Nothing is copied.
    ///
    /// # Panics
    ///
    /// Panics if there are fewer bytes.
    pub(crate) fn split_to(&mut self, len: usize) -> Self {
        assert!(
            len <= self.len(),
            "cannot split {len} bytes off an output of {}",
            self.len()
        );
        let mut front = Self::new();
        while front.len() < len {
            let segment = self.take_segment(len - front.len());
            front.push(segment);
        }
        front
    }

    /// Drops everything from offset `end` on, as if it had never been appended.
    #[cold]
    pub(crate) fn truncate(&mut self, end: u64) {
        while self.end() > end {
            // Fits into `usize`: these bytes are in memory.
            let excess = (self.end() - end) as usize;
            let tail = self.tail.len() - self.head;
            if tail > 0 {
                self.tail.truncate(self.head + tail.saturating_sub(excess));
                if self.tail.len() == self.head {
                    self.clear_tail();
                }
                continue;
            }
            let Some(mut last) = self.sealed.pop_back() else {
                return;
            };
            self.sealed_len -= last.len();
            last.truncate(last.len().saturating_sub(excess));
            if !last.is_empty() {
                self.push(last);
            }
        }
    }

    /// Makes room for `additional` bytes behind those from offset `from` on, so that all of them stay in the tail. Returns
    /// false if some of them have left it, or if the tail would become too long.
    #[inline]
    pub(crate) fn extend_tail(&mut self, from: u64, additional: usize) -> bool {
        if from < self.tail_start() {
            return false;
        }
        if self.spare() < additional {
            if self.tail.len() + additional > Self::CHUNK_MAX {
                return false;
            }
            self.grow(additional);
        }
        true
    }

    /// Appends the `len` bytes that `write` writes into the room that [`Output::extend_tail`] has made.
    ///
    /// # Panics
    ///
    /// Panics if there is no such room, or if `write` writes less or more, or panics. Then nothing is appended.
    #[inline]
    pub(crate) fn put_in_tail(&mut self, len: usize, write: impl FnOnce(&mut TailRoom<'_>)) {
        let mut room = TailRoom(&mut self.tail.spare_capacity_mut()[..len]);
        write(&mut room);
        assert!(room.0.is_empty(), "encoded_len of the message is wrong");
        let end = self.tail.len() + len;
        // SAFETY: `room` had `len` bytes and has none left. It shrinks only behind bytes that are initialised.
        unsafe { self.tail.set_len(end) };
    }

    /// Returns the last `len` bytes, to change them. They must be in the tail.
    ///
    /// # Panics
    ///
    /// Panics if they are not: see [`Output::extend_tail`].
    #[inline]
    pub(crate) fn last_mut(&mut self, len: usize) -> &mut [u8] {
        let start = self
            .tail
            .len()
            .checked_sub(len)
            .filter(|start| *start >= self.head);
        let start = start.expect("the bytes are in the tail");
        &mut self.tail[start..]
    }

    /// Replaces the `len` bytes at offset `from`, which must be in the tail, by `new`, which must not be shorter.
    ///
    /// # Panics
    ///
    /// Panics if they are not in the tail, or if `new` is shorter.
    pub(crate) fn replace(&mut self, from: u64, len: usize, new: &[u8]) {
        let added = new.len() - len;
        let rest = (self.end() - from) as usize;
        self.tail.resize(self.tail.len() + added, 0);
        let bytes = self.last_mut(rest + added);
        bytes.copy_within(len..rest, new.len());
        bytes[..new.len()].copy_from_slice(new);
    }

    /// Frees all buffers if the output is empty, for a connection that has become idle.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.sealed = VecDeque::new();
            self.tail = BytesMut::new();
        }
    }

    /// Number of unwritten bytes.
    pub(crate) fn len(&self) -> usize {
        self.sealed_len + self.tail.len() - self.head
    }

    /// True if everything is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The offset after the last appended byte.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.len() as u64
    }

    /// The offset after the last consumed byte.
    #[cfg(test)]
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The offset of the first byte that is in the tail, and not written.
    fn tail_start(&self) -> u64 {
        self.written + self.sealed_len as u64
    }

    fn append_behind(&mut self, other: &mut Self) {
        for segment in other.sealed.drain(..) {
            self.put(segment);
        }
        other.sealed_len = 0;
        let rest = &other.tail[other.head..];
        if rest.len() < Self::BY_REFERENCE {
            self.put_slice(rest);
            other.clear_tail();
        } else {
            self.seal();
            mem::swap(&mut self.tail, &mut other.tail);
            mem::swap(&mut self.head, &mut other.head);
        }
    }

    fn push(&mut self, segment: Bytes) {
        self.sealed_len += segment.len();
        self.sealed.push_back(segment);
    }

    /// Makes a segment of the bytes in the tail; the tail keeps the rest of its buffer.
    fn seal(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let mut segment = self.tail.split().freeze();
        segment.advance(mem::take(&mut self.head));
        self.push(segment);
    }

    /// Takes at most `max` bytes off the front, in one piece, and counts them as consumed.
    fn take_segment(&mut self, max: usize) -> Bytes {
        if self.sealed.is_empty() {
            self.seal();
        }
        let Some(front) = self.sealed.front_mut() else {
            return Bytes::new();
        };
        let segment = front.split_to(max.min(front.len()));
        if front.is_empty() {
            self.sealed.pop_front();
        }
        self.sealed_len -= segment.len();
        self.written += segment.len() as u64;
        segment
    }

    /// Makes room for `additional` contiguous bytes in the tail.
    #[cold]
    fn grow(&mut self, additional: usize) {
        let needed = self.tail.len().saturating_add(additional);
        if needed > Self::CHUNK_MAX && !self.tail.is_empty() {
            self.seal();
            self.tail = BytesMut::with_capacity(additional.max(Self::CHUNK_MAX));
        } else {
            let capacity = (self.tail.capacity() * 2)
                .clamp(Self::CHUNK_MIN, Self::CHUNK_MAX)
                .max(needed);
            self.tail.reserve(capacity - self.tail.len());
        }
    }

    fn spare(&self) -> usize {
        self.tail.capacity() - self.tail.len()
    }

    fn clear_tail(&mut self) {
        self.tail.clear();
        self.head = 0;
        if self.tail.capacity() > Self::CHUNK_MAX {
            self.tail = BytesMut::new();
        }
    }
}

/// Reads the bytes to write, and counts them as written.
impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.sealed
            .front()
            .map_or(&self.tail[self.head..], |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let tail = &self.tail[self.head..];
        let segments = self.sealed.iter().map(|segment| &segment[..]);
        let mut count = 0;
        for (slot, segment) in dst
            .iter_mut()
            .zip(segments.chain((!tail.is_empty()).then_some(tail)))
        {
            *slot = IoSlice::new(segment);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(
            count <= self.len(),
            "cannot advance an output of {} bytes by {count}",
            self.len()
        );
        self.written += count as u64;
        while let Some(front) = self.sealed.front_mut() {
            if count < front.len() {
                front.advance(count);
                self.sealed_len -= count;
                return;
            }
            count -= front.len();
            self.sealed_len -= front.len();
            self.sealed.pop_front();
        }
        self.head += count;
        if self.head == self.tail.len() {
            self.clear_tail();
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(
            len <= self.len(),
            "cannot copy {len} bytes of an output of {}",
            self.len()
        );
        let first = self.take_segment(len);
        if first.len() == len {
            return first;
        }
        let mut bytes = BytesMut::with_capacity(len);
        bytes.put(first);
        while bytes.len() < len {
            bytes.put(self.take_segment(len - bytes.len()));
        }
        bytes.freeze()
    }
}

// SAFETY: `BytesMut` keeps the trait's promises, and this delegates to it. `chunk_mut` is the tail's spare capacity,
// which does not move until `self` is used again; `advance_mut` adds as much of it to the tail; `remaining_mut` never
// exceeds what the tail can grow to.
unsafe impl BufMut for Output {
    #[inline]
    fn remaining_mut(&self) -> usize {
        self.tail.remaining_mut()
    }

    #[inline]
    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller has initialised `count` bytes of `chunk_mut`, which is the tail's.
        unsafe { self.tail.advance_mut(count) }
    }

    #[inline]
    fn chunk_mut(&mut self) -> &mut UninitSlice {
        if self.spare() == 0 {
            self.grow(1);
        }
        self.tail.chunk_mut()
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        if self.spare() < bytes.len() {
            self.grow(bytes.len());
        }
        self.tail.put_slice(bytes);
    }

    /// Encoders write most numbers byte by byte; the default goes by a slice.
    #[inline]
    fn put_u8(&mut self, byte: u8) {
        if self.spare() == 0 {
            self.grow(1);
        }
        self.tail.put_u8(byte);
    }

    fn put<T: Buf>(&mut self, mut source: T)
    where
        Self: Sized,
    {
        let len = source.remaining();
        if len >= Self::BY_REFERENCE {
            self.seal();
            self.push(source.copy_to_bytes(len));
            return;
        }
        while source.has_remaining() {
            let chunk = source.chunk();
            self.put_slice(chunk);
            let len = chunk.len();
            source.advance(len);
        }
    }
}

/// Room of a fixed length at the end of the tail.
///
/// A small message is written here without a check for each number whether the tail has room.
#[derive(Debug)]
pub(crate) struct TailRoom<'a>(&'a mut [MaybeUninit<u8>]);

// SAFETY: the slice keeps the trait's promises, and this delegates to it. Only these methods change where it begins: each moves
// that behind bytes that are initialised.
unsafe impl BufMut for TailRoom<'_> {
    #[inline]
    fn remaining_mut(&self) -> usize {
        self.0.len()
    }

    #[inline]
    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller has initialised `count` bytes.
        unsafe { self.0.advance_mut(count) }
    }

    #[inline]
    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.0.chunk_mut()
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }

    /// Most sources are one piece; the default asks more.
    #[inline]
    fn put<T: Buf>(&mut self, mut source: T)
    where
        Self: Sized,
    {
        while source.has_remaining() {
            let chunk = source.chunk();
            self.0.put_slice(chunk);
            let len = chunk.len();
            source.advance(len);
        }
    }

    /// Encoders write most numbers byte by byte; the default goes by a slice.
    #[inline]
    fn put_u8(&mut self, byte: u8) {
        match mem::take(&mut self.0) {
            [first, rest @ ..] => {
                first.write(byte);
                self.0 = rest;
            }
            [] => panic!("encoded_len of the message is wrong"),
        }
    }
}

/// Shows lengths, never the bytes.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("segments", &self.sealed.len())
            .field("len", &self.len())
            .field("written", &self.written)
            .finish()
    }
}
