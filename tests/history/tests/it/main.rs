//! The history checker, on real sockets and in virtual time.

mod cluster;
mod courses;
mod simulation;
