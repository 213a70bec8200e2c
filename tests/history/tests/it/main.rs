//! The history checker, on real sockets and in virtual time.

mod courses;
mod simulation;
