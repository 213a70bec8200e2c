//! BegunFrame: what h2 gathers of a peer's frames before it hands them on.

/// Follows the frames of an HTTP/2 peer. It knows what h2 gathers of them: what has come of a frame that is not complete, and of a block of headers
/// that has not ended.
#[derive(Debug)]
pub(crate) struct BegunFrame {
    /// The head of the frame, as far as it has come.
    head: [u8; HEAD_LEN],
    head_len: usize,
    /// How many bytes the frame has behind its head, and how many of them are still to come.
    len: usize,
    left: usize,
    /// The length of the header block that the frame belongs to, up to its end; 0 if it belongs to none.
    block: usize,
    /// True if the header block goes on in the next frame.
    goes_on: bool,
}

/// A header block is longer than any peer needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BlockTooLong;

impl BegunFrame {
    /// Before the first frame there are `bytes` of other kind.
    pub(crate) fn behind(bytes: usize) -> Self {
        Self {
            head: [0; HEAD_LEN],
            head_len: 0,
            len: bytes,
            left: bytes,
            block: 0,
            goes_on: false,
        }
    }

    /// Notes what was read, behind what was noted before.
    ///
    /// # Errors
    ///
    /// [`BlockTooLong`] if a header block is announced that is too long.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<(), BlockTooLong> {
        loop {
            let here = self.left.min(bytes.len());
            self.left -= here;
            bytes = &bytes[here..];
            let wanted = (HEAD_LEN - self.head_len).min(bytes.len());
            if self.left > 0 || wanted == 0 {
                return Ok(());
            }
            let (head, rest) = bytes.split_at(wanted);
            self.head[self.head_len..][..wanted].copy_from_slice(head);
            self.head_len += wanted;
            bytes = rest;
            if self.head_len == HEAD_LEN {
                self.head_len = 0;
                self.begin()?;
            }
        }
    }

    /// How many bytes h2 gathers.
    pub(crate) fn gathered(&self) -> usize {
        match self.left {
            0 if self.goes_on => self.block,
            0 => 0,
            left => self.block.max(self.len) - left,
        }
    }

    /// Begins the frame whose head has come.
    fn begin(&mut self) -> Result<(), BlockTooLong> {
        let [a, b, c, kind, flags, ..] = self.head;
        let before = if self.goes_on { self.block } else { 0 };
        let is_block = kind == HEADERS || kind == CONTINUATION;
        self.len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.left = self.len;
        self.block = if is_block { before + self.len } else { 0 };
        self.goes_on = is_block && flags & END_HEADERS == 0;
        match self.block {
            0..=LONGEST_BLOCK => Ok(()),
            _ => Err(BlockTooLong),
        }
    }
}

/// The length of a frame's head: its length, type, flags and stream.
const HEAD_LEN: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// The flag of the last frame of a header block.
const END_HEADERS: u8 = 4;
/// The longest header block: seven of the shortest longest frames that HTTP/2 allows, as h2 allows six CONTINUATIONs.
pub(crate) const LONGEST_BLOCK: usize = 112 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(len).unwrap().to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD_LEN + len, 7);
        frame
    }

    #[test]
    fn what_has_come_of_a_frame_is_gathered_until_the_frame_is_complete() {
        let all = [vec![7; 24], frame(0, 0, 100), frame(6, 0, 8), frame(0, 0, 300)].concat();
        // Wherever the reads end.
        for step in [1, 2, 7, 50, 1000] {
            let mut begun = BegunFrame::behind(24);
            let mut read = 0;
            for bytes in all[..all.len() - 10].chunks(step) {
                begun.read(bytes).unwrap();
                read += bytes.len();
                let of_first = read.saturating_sub(24 + HEAD_LEN);
                if (1..100).contains(&of_first) {
                    assert_eq!(begun.gathered(), of_first, "{step}");
                }
            }
            assert_eq!(begun.gathered(), 290, "{step}");
            begun.read(&[7; 10]).unwrap();
            assert_eq!(begun.gathered(), 0, "{step}");
        }
    }

    #[test]
    fn a_header_block_is_gathered_to_its_end() {
        let mut begun = BegunFrame::behind(0);
        begun.read(&frame(HEADERS, 0, 100)).unwrap();
        assert_eq!(begun.gathered(), 100);
        begun.read(&frame(CONTINUATION, 0, 50)[..HEAD_LEN + 20]).unwrap();
        assert_eq!(begun.gathered(), 120);
        begun.read(&[7; 30]).unwrap();
        assert_eq!(begun.gathered(), 150);
        begun.read(&frame(CONTINUATION, END_HEADERS, 10)).unwrap();
        assert_eq!(begun.gathered(), 0);
        begun.read(&frame(0, 0, 30)[..HEAD_LEN + 20]).unwrap();
        assert_eq!(begun.gathered(), 20, "the block is over");
    }

    #[test]
    fn a_header_block_has_a_longest_length() {
        let mut begun = BegunFrame::behind(0);
        for _ in 0..7 {
            begun.read(&frame(HEADERS, END_HEADERS, LONGEST_BLOCK)).unwrap();
        }
        begun.read(&frame(HEADERS, 0, LONGEST_BLOCK / 2)).unwrap();
        begun.read(&frame(CONTINUATION, 0, LONGEST_BLOCK / 2)).unwrap();
        assert_eq!(begun.read(&frame(CONTINUATION, 0, 1)), Err(BlockTooLong));
    }
}
