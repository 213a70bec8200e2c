//! The interoperability cases, and compression of streams.

mod cases;
mod compression;
