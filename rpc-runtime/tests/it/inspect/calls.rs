//! Calls in flight.

use std::time::{Duration, Instant};

use rpc_runtime::inspect::{CallQuery, CallState, CallView, CancelledBy, Side};
use test_support::{
    Running,
    lab::*,
    warnings,
    wire::{Frame, HandPeer, call},
    within,
};

use super::{accepted, all_of, calls_of, found, only};

/// The only call on the connections of `server`.
fn one_call(server: &Running) -> Option<CallView> {
    let calls = calls_of(server);
    (calls.len() == 1).then(|| calls[0].clone())
}

#[tokio::test(crate = "test_support::gate")]
async fn a_slow_handler_is_seen_at_both_ends_with_its_age_and_the_time_it_has_left() {
    let lab = Lab::default();
    let server = lab.serve("mem:inspect-slow").await;
    let client = server.client().await;
    let begun = Instant::now();
    let timeout = Duration::from_secs(40);
    let caller = client.clone();
    let call = tokio::spawn(async move {
        let call = caller.call().timeout(timeout);
        call.send_recv::<_, String>(&WAIT, "x".to_owned()).await
    });
    lab.logged("x began").await;
    let served = one_call(&server).expect("there is one call");
    assert_eq!(
        (served.side(), served.state(), served.procedure()),
        (Side::Server, CallState::Running, "lab.v1.Lab/wait")
    );
    assert_eq!(
        (served.is_one_way(), served.count(), served.protocol()),
        (false, 1, "native")
    );
    assert_eq!((served.cancelled_by(), served.blocked_for()), (None, None));
    let remaining = served.remaining().expect("it has a deadline");
    assert!(served.age() <= begun.elapsed(), "{served}");
    assert!(served.running_for().unwrap() <= served.age(), "{served}");
    assert!(
        remaining <= timeout && remaining + begun.elapsed() + MOMENT >= timeout,
        "{served}"
    );

    let [connection] = &all_of(Side::Client, "mem:inspect-slow")[..] else {
        panic!("one client has one connection")
    };
    let made = CallQuery::new().connection(connection.id()).run();
    let [made] = made.entries() else {
        panic!("{made:?}")
    };
    assert_eq!(
        (made.side(), made.state(), made.procedure(), made.id()),
        (
            Side::Client,
            CallState::WaitsForReply,
            "lab.v1.Lab/wait",
            served.id()
        )
    );
    assert!(made.remaining().is_some_and(|left| left <= timeout), "{made}");

    // Older than any call can be, or of another procedure: not listed.
    let query = || CallQuery::new().connection(served.connection());
    for none in [
        query().slower_than(begun.elapsed() + timeout),
        query().procedure("lab.v1.Lab/echo"),
        query().most(0),
    ] {
        assert!(none.run().entries().is_empty(), "{none:?}");
    }
    assert_eq!(query().most(0).run().left_out(), 1);
    assert_eq!(query().procedure("lab.v1").run().entries().len(), 1);

    lab.release();
    within(call).await.unwrap().unwrap();
    assert!(calls_of(&server).is_empty());
    assert!(
        CallQuery::new()
            .connection(connection.id())
            .run()
            .entries()
            .is_empty()
    );
}

/// More than the rounding of a deadline on the wire.
const MOMENT: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn a_handler_that_blocks_its_thread_is_named_and_who_has_cancelled_it() {
    for (number, procedure) in [&BLOCK, &BLOCK_LATER, &BLOCK_SPAWNED].into_iter().enumerate() {
        let lab = Lab::default();
        let server = lab.serve(&format!("mem:inspect-block-{number}")).await;
        let client = server.client().await;
        let call = start(&client, procedure, "slow");
        lab.logged("slow began").await;
        let blocks = || one_call(&server).filter(|call| call.blocked_for().is_some());
        let blocked = found(blocks).await;
        assert_eq!(
            (blocked.state(), blocked.procedure(), blocked.cancelled_by()),
            (CallState::Blocking, procedure.path(), None)
        );
        assert_eq!(accepted(&server)[0].blocked_handlers(), 1, "{procedure:?}");
        assert!(blocked.to_string().contains("blocks_for="), "{blocked}");
        // The caller leaves, and the handler cannot be dropped.
        call.abort();
        let cancelled = found(|| one_call(&server).filter(|call| call.cancelled_by().is_some())).await;
        assert_eq!(
            (cancelled.cancelled_by(), cancelled.state()),
            (Some(CancelledBy::Caller), CallState::Blocking)
        );
        lab.release();
        lab.logged("slow ended").await;
        found(|| calls_of(&server).is_empty().then_some(())).await;
        found(|| (accepted(&server)[0].blocked_handlers() == 0).then_some(())).await;
    }
}

#[tokio::test(crate = "test_support::gate", flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_its_thread_for_long_is_logged() {
    warnings();
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    let calls = [start(&client, &BLOCK, "one"), start(&client, &BLOCK_LATER, "two")];
    for procedure in [&BLOCK, &BLOCK_LATER] {
        let line = found(|| {
            let mut lines = warnings().into_iter();
            lines.find(|line| {
                line.get("message") == "a handler blocks its thread"
                    && line.get("peer") == only(&server).peer()
                    && line.get("procedure") == procedure.path()
            })
        });
        assert_eq!(line.await.get("unsaid"), "0");
    }
    lab.release();
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn a_handler_that_is_declared_to_block_is_not_said_to_block() {
    let lab = Lab::default();
    let server = lab.serve("mem:inspect-may-block").await;
    let client = server.client().await;
    let call = start(&client, &BLOCK_BLOCKING, "slow");
    lab.logged("slow began").await;
    // Longer than the monitor takes to notice one.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let running = one_call(&server).expect("it runs");
    assert_eq!(
        (running.state(), running.blocked_for()),
        (CallState::Running, None)
    );
    lab.release();
    within(call).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn a_handler_that_outlasts_its_deadline_or_its_connection_says_so() {
    for by in [CancelledBy::Deadline, CancelledBy::Disconnect] {
        let lab = Lab::default();
        let server = lab.serve("tcp://127.0.0.1:0").await;
        let mut peer = HandPeer::greeted(&server.address).await;
        let call = Frame {
            timeout_us: match by {
                CancelledBy::Deadline => 20_000,
                _ => 0,
            },
            ..call(1, &BLOCK, &"slow".to_owned())
        };
        peer.send(&call).await;
        lab.logged("slow began").await;
        let connection = accepted(&server)[0].id();
        if by == CancelledBy::Disconnect {
            drop(peer);
        }
        let query = CallQuery::new().connection(connection);
        let ended = found(|| query.run().into_iter().find(|call| call.cancelled_by().is_some())).await;
        assert_eq!(ended.cancelled_by(), Some(by), "{ended}");
        assert_eq!(ended.procedure(), "lab.v1.Lab/block");
        if by == CancelledBy::Deadline {
            assert_eq!(ended.remaining(), Some(Duration::ZERO));
        }
        lab.release();
        found(|| query.run().entries().is_empty().then_some(())).await;
    }
}
