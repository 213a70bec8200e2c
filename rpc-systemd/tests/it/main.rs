//! What a service manager is told, and what a process is given.
//!
//! Each test starts itself again as a process of its own, since all of this is in the environment of a process.
#![cfg(unix)]

mod child;
mod hand_over;
mod notify;
mod sockets;
