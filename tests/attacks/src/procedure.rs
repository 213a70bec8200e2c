//! The ids of the target's procedures: the first 8 bytes of the SHA-256 of each path, as a client in any language computes them.

/// Replies at once.
pub const ECHO: u64 = 0x776b_610f_2e52_3718;
/// Replies with the requested number of bytes.
pub const LARGE: u64 = 0x668b_d5c2_1e85_0ec2;
/// Never replies.
pub const HANG: u64 = 0x4c62_714e_6f66_540d;
/// Takes a millisecond.
pub const NOTE: u64 = 0x1863_8eaa_34d0_7374;
/// Reads all requests, and replies with their number.
pub const GATHER: u64 = 0xde3f_479c_6ab2_810c;
/// Terminates a server: it belongs to the control service that each server has.
pub const TERMINATE: u64 = 0xa5ce_a24e_5662_ab3b;
/// Takes a message that contains messages.
pub const TREE: u64 = 0x77b7_bc7c_236c_9fe5;
