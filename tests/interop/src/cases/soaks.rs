//! Soaks: many equal calls, which must use nothing up.

use super::unary::call_large;
use crate::{Outcome, Site};

/// Makes `count` large calls on one connection, one after the other, and calls `done` after each.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn rpc_soak(site: &Site, count: u64, done: impl Fn()) -> Outcome {
    let client = site.client().await?;
    for _ in 0..count {
        call_large(&client).await?;
        done();
    }
    Ok(())
}

/// Makes `count` large calls, each on a connection of its own, and calls `done` after each.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn channel_soak(site: &Site, count: u64, done: impl Fn()) -> Outcome {
    for _ in 0..count {
        let client = site.client().await?;
        call_large(&client).await?;
        client.close().await?;
        done();
    }
    Ok(())
}
