//! Transport: the kinds of byte streams.

use super::os;

/// The transport by which a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// TLS over a TCP connection.
    Tls,
    /// A Unix socket.
    Unix,
    /// A named pipe, on Windows.
    Pipe,
    /// A `mem:` name of this process.
    Memory,
    /// A client that was made from the server itself, in this process.
    InProcess,
    /// A user's own stream, from [`ServerBuilder::incoming`](crate::server::ServerBuilder::incoming) or
    /// [`ClientBuilder::connector`](crate::ClientBuilder::connector).
    Custom,
}

impl Transport {
    /// The local transport of this system.
    pub(crate) const LOCAL: Self = match os::HAS_PIPES {
        true => Self::Pipe,
        false => Self::Unix,
    };

    /// Returns the word for it in logs, such as `tcp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Unix => "unix",
            Self::Pipe => "pipe",
            Self::Memory => "mem",
            Self::InProcess => "in-process",
            Self::Custom => "custom",
        }
    }
}
