//! What the tests of this workspace share.
//!
//! - [`Lab`]: a service whose handlers do what servers and clients must survive.
//! - [`Running`]: a server that serves; [`serve`] and [`Lab::serve`] start one.
//! - [`gate`]: a runtime for `#[tokio::test(crate = "test_support::gate")]` that fails a test which leaves something behind.
//! - [`wire::RawPeer`]: a peer that sends and reads single frames or any bytes; [`wire::HandPeer`] panics in place of errors.
//! - [`Logged`]: what the thread of a test logs. [`Spans`]: the spans that it makes.

pub mod gate;
pub mod lab;
mod logged;
mod server;
mod spans;
mod wait;
pub mod wire;

pub use lab::{Lab, all, echo, hang, plain, send, start, text};
pub use logged::{Line, Logged, warnings};
pub use server::{Running, loopback, mute, own_host, serve, serve_at, serve_one, unix};
pub use spans::{RecordedSpan, Spans};
pub use wait::{LONG, until, within};
