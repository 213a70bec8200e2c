//! The same again and again: nothing is used up.

use super::unary::call_large;
use crate::{Outcome, Site};

/// Makes `count` large calls on one connection, one after the other; `done` is called after each.
///
/// # Errors
///
/// What was not as it should be.
pub async fn rpc_soak(site: &Site, count: u64, done: impl Fn()) -> Outcome {
    let client = site.client().await?;
    for _ in 0..count {
        call_large(&client).await?;
        done();
    }
    Ok(())
}

/// Makes `count` large calls, each on a connection of its own; `done` is called after each.
///
/// # Errors
///
/// What was not as it should be.
pub async fn channel_soak(site: &Site, count: u64, done: impl Fn()) -> Outcome {
    for _ in 0..count {
        let client = site.client().await?;
        call_large(&client).await?;
        client.close().await?;
        done();
    }
    Ok(())
}
