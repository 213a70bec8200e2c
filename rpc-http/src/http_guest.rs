//! Http: HTTP/2 as a guest of a server.

use std::{future::Future, pin::Pin, time::Duration};

use rpc_runtime::server::{Guest, GuestConnection};

use crate::connection;

/// HTTP/2 as a guest of a server: give it to [`ServerBuilder::guest`](rpc_runtime::server::ServerBuilder::guest).
///
/// Without a protocol, such as [`Http::grpc`], it answers each request with 404. A connection has the limits of the server: what it holds
/// counts for [`max_buffered_bytes`](rpc_runtime::server::ServerBuilder::max_buffered_bytes), and the
/// [`Limits`](rpc_runtime::Limits) of age, idle time, denials, faults and slow peers end it as one of our own protocol.
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
}

impl Http {
    /// Creates a guest that serves no protocol yet.
    pub fn new() -> Self {
        Self(Settings {
            grpc: false,
            initial_metadata: false,
            max_streams: 256,
            max_header_list: 16 << 10,
            keep_alive: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(20),
        })
    }

    /// Serves gRPC calls of the server's procedures.
    pub fn grpc(mut self) -> Self {
        self.0.grpc = true;
        self
    }

    /// Lets handlers add to the headers of their gRPC answers, by [`add_initial_metadata`](crate::add_initial_metadata). Default: they cannot.
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

    /// Sets how long a peer may be silent before it gets a PING. Default: 60 s.
    ///
    /// The server looks once per interval, so the PING goes out after one to two intervals.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.0.keep_alive = interval;
        self
    }

    /// Sets how long a peer may send nothing after a PING before its connection ends. Default: 20 s.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.0.keep_alive_timeout = timeout;
        self
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Guest for Http {
    /// True for the first byte of `PRI * HTTP/2.0`, and of the methods of HTTP/1. A request of HTTP/1 is answered with 426, and a line that
    /// says what the port speaks.
    fn takes(&self, first: u8) -> bool {
        b"PGHDCOT".contains(&first)
    }

    fn alpn(&self) -> &'static [&'static [u8]] {
        &[b"h2"]
    }

    fn serve(&self, connection: GuestConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(connection::serve(self.0.clone(), connection))
    }
}
