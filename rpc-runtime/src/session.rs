//! Session: one connection as a server and its handlers see it.

pub(crate) mod context;
mod forward;
mod incoming;
mod panicked;
mod replies;
mod requests;
mod served;
mod service;
mod stream;

pub use self::{
    context::Context,
    incoming::Incoming,
    replies::Replies,
    requests::Requests,
    service::{Handler, Service},
    stream::{Out, stream},
};
pub(crate) use self::{panicked::WORKER, served::Served, service::priorities};
