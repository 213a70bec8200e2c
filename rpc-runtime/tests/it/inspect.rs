//! What those see who look into the process.
//!
//! Other tests run in the same process, so these look at connections of their own servers only.

mod calls;
mod connections;
mod limits;
mod operators;

use std::time::Duration;

use rpc_runtime::inspect::{CallQuery, CallView, ConnectionQuery, ConnectionView, Side};
use test_support::{Running, within};
use tokio::time::sleep;

/// The connections that `server` has accepted.
fn accepted(server: &Running) -> Vec<ConnectionView> {
    all_of(Side::Server, &server.address)
}

/// The connections of the server or of the clients at `address`.
fn all_of(side: Side, address: &str) -> Vec<ConnectionView> {
    let all = ConnectionQuery::new().most(10_000).run();
    assert_eq!(all.left_out(), 0);
    let own = all.into_iter();
    own.filter(|one| one.side() == side && one.owner() == address)
        .collect()
}

/// The only connection that `server` has accepted.
#[track_caller]
fn only(server: &Running) -> ConnectionView {
    let [one] = &accepted(server)[..] else {
        panic!("{:?}", accepted(server))
    };
    one.clone()
}

/// The calls on the connections that `server` has accepted.
fn calls_of(server: &Running) -> Vec<CallView> {
    let connections = accepted(server).into_iter();
    connections
        .flat_map(|one| CallQuery::new().connection(one.id()).run())
        .collect()
}

/// Waits until `look` finds something.
async fn found<T>(look: impl Fn() -> Option<T>) -> T {
    within(async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}
