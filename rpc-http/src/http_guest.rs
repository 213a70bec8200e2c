//! Http: HTTP/2 as a guest of a server.

use std::{future::Future, pin::Pin, time::Duration};

use rpc_runtime::server::{Guest, GuestConnection};

use crate::connection;

/// HTTP/2 as a guest of a server: give it to [`ServerBuilder::guest`](rpc_runtime::server::ServerBuilder::guest).
///
/// Without a protocol, such as [`Http::grpc`], it answers each request with 404. Each open call may hold a request of
/// [`Limits::max_message`](rpc_runtime::Limits::max_message) and a reply, beside what the server counts.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until a server has it"]
pub struct Http(Settings);

/// How connections are served.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) grpc: bool,
    pub(crate) initial_metadata: bool,
    pub(crate) max_streams: u32,
    pub(crate) max_header_list: u32,
    pub(crate) keep_alive: Duration,
    pub(crate) keep_alive_timeout: Duration,
    pub(crate) max_age: Option<Duration>,
}

impl Http {
    /// Makes one without a protocol.
    pub fn new() -> Self {
        Self(Settings {
            grpc: false,
            initial_metadata: false,
            max_streams: 256,
            max_header_list: 16 << 10,
            keep_alive: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(20),
            max_age: None,
        })
    }

    /// Serves gRPC calls of the server's procedures.
    pub fn grpc(mut self) -> Self {
        self.0.grpc = true;
        self
    }

    /// Lets handlers add to the headers of their gRPC answers, by [`add_initial_metadata`](crate::add_initial_metadata). Default: they cannot.
    ///
    /// Each call then has a metadata entry more, `grpc-initial-metadata`, which handlers see and should not change.
    pub fn initial_metadata(mut self) -> Self {
        self.0.initial_metadata = true;
        self
    }

    /// Sets how many calls of one connection may be open at once. Default: 256.
    pub fn max_streams(mut self, streams: u32) -> Self {
        self.0.max_streams = streams;
        self
    }

    /// Sets how many bytes the headers of one request may have, as HTTP/2 counts them. Default: 16 KiB.
    pub fn max_header_list(mut self, bytes: u32) -> Self {
        self.0.max_header_list = bytes;
        self
    }

    /// Sets how often a peer gets a PING. Default: every 60 s.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.0.keep_alive = interval;
        self
    }

    /// Sets how long a peer may take to answer a PING before its connection ends. Default: 20 s.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.0.keep_alive_timeout = timeout;
        self
    }

    /// Sets how long a connection is used: after that it takes no further calls, and ends with its last one. Default: none.
    pub fn max_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.0.max_age = age.into();
        self
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Guest for Http {
    /// True for the first byte of `PRI * HTTP/2.0`. What begins with another byte gets an answer that says what the port speaks.
    fn takes(&self, first: u8) -> bool {
        first == b'P'
    }

    fn serve(&self, connection: GuestConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(connection::serve(self.0.clone(), connection))
    }
}
