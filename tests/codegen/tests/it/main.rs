//! Generated code, compiled and called.

mod compiler;
mod growth;
mod names;
mod nesting;
mod odd_streams;
mod options;
mod prost;
mod round_trip;
mod streams;
