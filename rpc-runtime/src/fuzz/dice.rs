//! Dice: choices that input bytes make.

/// Makes choices from the given bytes. After the last byte it always returns the first choice.
pub(super) struct Dice<'a>(&'a [u8]);

impl<'a> Dice<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    /// Draws a number that is mostly small, and sometimes any number.
    pub(super) fn number(&mut self) -> u64 {
        match self.u8() {
            small @ 0..=199 => small.into(),
            200..=229 => self.u16().into(),
            230..=249 => self.u32().into(),
            _ => u64::from(self.u32()) << 32 | u64::from(self.u32()),
        }
    }

    pub(super) fn bool(&mut self) -> bool {
        self.u8() % 2 == 1
    }

    /// Draws an index below `len`; `None` if `len` is 0.
    pub(super) fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| usize::from(self.u8()) % len)
    }

    /// Takes `len` bytes, or all bytes if fewer are left.
    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}
