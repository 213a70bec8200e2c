//! The longest buffer for what a peer sends.

/// The most bytes of a message of gRPC, or of the body of another request, that are gathered: 256 MiB on a system of 32 bits. On one of
/// 64 bits it bounds nothing.
pub(crate) const LONGEST: usize = longest(usize::MAX);

/// Returns the longest buffer where addresses go up to `last_address`: a sixteenth of them. A buffer may also hold messages that were read
/// before, and a frame behind its message, and it is doubled when it is full. Even then no length overflows.
const fn longest(last_address: usize) -> usize {
    last_address / 16 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_at_most_a_sixteenth_of_all_addresses() {
        assert_eq!(longest(0xffff_ffff), 256 << 20);
        // A full buffer: messages that were read, as long as the one that is gathered, and a long frame behind each.
        let full = 2 * (LONGEST + (32 << 20));
        assert!(isize::try_from(2 * full).is_ok());
    }
}
