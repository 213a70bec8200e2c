//! The cases, each a function of a site, under the names that gRPC gives them.

mod cancels;
mod metadata;
mod soaks;
mod statuses;
mod streams;
mod unary;

use std::{fmt, future::Future, pin::Pin};

pub use self::{
    cancels::{cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server},
    metadata::custom_metadata,
    soaks::{channel_soak, rpc_soak},
    statuses::{
        special_status_message, status_code_and_message, unimplemented_method, unimplemented_service,
    },
    streams::{client_streaming, empty_stream, half_duplex, ping_pong, server_streaming},
    unary::{empty_unary, large_unary},
};
use crate::{Outcome, Site};

/// One case; the soaks, which take a count, are none.
#[derive(Clone, Copy)]
pub struct Case {
    /// What gRPC calls it.
    pub name: &'static str,
    run: for<'a> fn(&'a Site) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>,
}

impl Case {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// What was not as it should be.
    pub async fn run(&self, site: &Site) -> Outcome {
        (self.run)(site).await
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

macro_rules! table {
    ($($case:ident)*) => {
        /// All of them.
        pub const ALL: &[Case] = &[$(Case { name: stringify!($case), run: |site| Box::pin($case(site)) }),*];
    };
}

table! {
    empty_unary
    large_unary
    client_streaming
    server_streaming
    ping_pong
    half_duplex
    empty_stream
    cancel_after_begin
    cancel_after_first_response
    timeout_on_sleeping_server
    status_code_and_message
    special_status_message
    custom_metadata
    unimplemented_method
    unimplemented_service
}
