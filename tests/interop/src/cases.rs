//! The cases: functions of a site, with gRPC's names.

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

/// A case. The soaks are not cases, because they take a count.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name in gRPC.
    pub name: &'static str,
    run: for<'a> fn(&'a Site) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>,
}

impl Case {
    /// Runs the case.
    ///
    /// # Errors
    ///
    /// The first difference from the expected behaviour.
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
        /// All values.
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
