//! Windows has no systemd, and hands no listening sockets over.

use std::ffi::OsString;

use rpc_runtime::{
    DrainReport, Error, Server,
    server::{Endpoint, ServerHandle},
};

/// No listening sockets: nothing gives any to a process on Windows.
pub(crate) struct Sockets;

impl Sockets {
    pub(crate) fn take() -> Result<Self, Error> {
        Ok(Self)
    }

    /// The endpoint at `address`.
    pub(crate) fn endpoints(&mut self, address: &str) -> Result<[Endpoint; 1], Error> {
        Ok([Endpoint::new(address)])
    }
}

/// Serves until the drain has ended.
pub(crate) async fn serve(server: Server) -> Result<DrainReport, Error> {
    server.serve().await
}

/// Ends at once: there is no signal to ask by.
pub(crate) async fn replace_when_asked(_: OsString, _: ServerHandle) {}
