//! Soaks: many equal calls, which must use nothing up.

use interop::Outcome;

use super::unary::call_large;
use crate::interop::Site;

/// Makes large calls on one connection, one after the other.
pub(super) async fn rpc_soak(site: &Site) -> Outcome {
    let client = site.client().await?;
    for _ in 0..CALLS {
        call_large(&client).await?;
    }
    Ok(())
}

/// Makes large calls, each on a connection of its own.
pub(super) async fn channel_soak(site: &Site) -> Outcome {
    for _ in 0..CONNECTIONS {
        let client = site.client().await?;
        call_large(&client).await?;
        client.close().await?;
    }
    Ok(())
}

const CALLS: usize = 1000;
const CONNECTIONS: usize = 200;
