//! The cases, with gRPC's names.

mod cancels;
mod metadata;
mod soaks;
mod statuses;
mod streams;
mod unary;

use interop::{Failed, Outcome};

use self::{
    cancels::{cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server},
    metadata::custom_metadata,
    soaks::{channel_soak, rpc_soak},
    statuses::{
        special_status_message, status_code_and_message, unimplemented_method, unimplemented_service,
    },
    streams::{client_streaming, empty_stream, half_duplex, ping_pong, server_streaming},
    unary::{empty_unary, large_unary},
};
use super::Site;

/// Makes the calls of each case, and prints the names of those that pass.
///
/// # Errors
///
/// The first difference from the expected behaviour, and its case.
pub async fn run(site: &Site) -> Outcome {
    macro_rules! each {
        ($($case:ident)*) => {
            $(
                let outcome = $case(site).await;
                outcome.map_err(|failed| Failed::new(format!("{}: {failed}", stringify!($case))))?;
                println!("{}", stringify!($case));
            )*
        };
    }
    each! {
        empty_unary
        large_unary
        client_streaming
        server_streaming
        ping_pong
        half_duplex
        empty_stream
        custom_metadata
        status_code_and_message
        special_status_message
        unimplemented_method
        unimplemented_service
        cancel_after_begin
        cancel_after_first_response
        timeout_on_sleeping_server
        rpc_soak
        channel_soak
    }
    Ok(())
}
