//! Client: the cheap-to-clone handle behind every stub; send, send_recv.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::{Account, Context, DrainReport, Error, codegen::Procedure, codegen::Service};

/// A channel to one address.
#[derive(Clone, Debug)]
pub struct Client(());

impl Client {
    /// Connects.
    pub async fn connect(_address: impl AsRef<str>) -> Result<Self, Error> {
        unimplemented!("skeleton")
    }
    /// Lazy.
    pub fn connect_lazy(_address: impl AsRef<str>) -> Self {
        unimplemented!("skeleton")
    }
    /// In process.
    pub fn in_process(_service: impl Service) -> Self {
        unimplemented!("skeleton")
    }
    /// Starts a call: its options first.
    pub fn call(&self) -> Call<'_> {
        unimplemented!("skeleton")
    }
    /// Terminates.
    pub async fn terminate(&self) -> Result<DrainReport, Error> {
        unimplemented!("skeleton")
    }
    /// Pings.
    pub async fn ping(&self) -> Result<Duration, Error> {
        unimplemented!("skeleton")
    }
    /// Flushes.
    pub async fn flush(&self) -> Result<(), Error> {
        unimplemented!("skeleton")
    }
    /// Barrier.
    pub async fn barrier(&self) -> Result<Account, Error> {
        unimplemented!("skeleton")
    }
    /// Closes.
    pub async fn close(&self) -> Result<(), Error> {
        unimplemented!("skeleton")
    }
}

/// Options of one call.
#[derive(Clone, Debug)]
#[must_use]
pub struct Call<'a>(&'a ());

impl<'a> Call<'a> {
    /// Bounds the call.
    pub fn timeout(self, _timeout: impl Into<Option<Duration>>) -> Self {
        self
    }
    /// Adds an entry.
    pub fn metadata(self, _key: impl Into<String>, _value: impl Into<Bytes>) -> Self {
        self
    }
    /// Inherits the deadline of `cx`.
    pub fn within(self, _cx: &Context) -> Self {
        self
    }
    /// One-way.
    pub async fn send<Req: Message>(self, _procedure: &'static Procedure, _request: Req) -> Result<(), Error> {
        unimplemented!("skeleton")
    }
    /// Request, reply.
    pub async fn send_recv<Req: Message, Rep: Message + Default>(
        self,
        _procedure: &'static Procedure,
        _request: Req,
    ) -> Result<Rep, Error> {
        unimplemented!("skeleton")
    }
    /// One-way terminate.
    pub async fn send_terminate(self) -> Result<(), Error> {
        unimplemented!("skeleton")
    }
    /// Terminate.
    pub async fn terminate(self) -> Result<DrainReport, Error> {
        unimplemented!("skeleton")
    }
}
