//! Generated code, compiled and called.

mod compiler;
mod growth;
mod nesting;
mod odd_streams;
mod options;
mod round_trip;
mod streams;
