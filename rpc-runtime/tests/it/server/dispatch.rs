//! How handlers start, run and end.

use std::time::Duration;

use rpc_runtime::{Client, Code, Executed, Limits};
use test_support::{lab::*, within};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::Instant,
};

#[tokio::test(crate = "test_support::gate")]
async fn handlers_are_first_polled_in_the_order_of_submission() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-order").await;
    let client = server.client().await;
    for i in 0..500 {
        send(&client, &NOTE, &i.to_string()).await;
    }
    assert_eq!(text(&client, &ECHO, "after").await.unwrap(), "after");
    assert_eq!(lab.log(), (0..500).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_waiting_handler_delays_no_other() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-wait").await;
    let client = server.client().await;
    send(&client, &WAIT, "slow").await;
    assert_eq!(text(&client, &ECHO, "fast").await.unwrap(), "fast");
    lab.release();
    lab.logged("slow ended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn a_handler_that_blocks_its_thread_delays_no_other() {
    for transport in ["mem:dispatch-block", "tcp://127.0.0.1:0"] {
        let lab = Lab::default();
        let server = lab.serve(transport).await;
        let client = server.client().await;
        send(&client, &BLOCK, "slow").await;
        assert_eq!(text(&client, &ECHO, "fast").await.unwrap(), "fast");
        assert!(!lab.log().contains(&"slow ended".to_owned()));
        lab.release();
        lab.logged("slow ended").await;
    }
}

#[test]
fn a_blocking_handler_delays_no_other_when_the_client_is_elsewhere() {
    // The client has a runtime of its own, so that nothing but the server keeps the server's workers awake.
    let (servers, clients) = (runtime(2), runtime(1));
    let lab = Lab::default();
    let server = servers.block_on(lab.serve("tcp://127.0.0.1:0"));
    clients.block_on(async {
        let client = server.client().await;
        for blocking in [&BLOCK, &BLOCK_LATER, &BLOCK_SPAWNED] {
            let lab_log = lab.log().len();
            send(&client, blocking, "slow").await;
            for _ in 0..3 {
                assert_eq!(text(&client, &ECHO, "fast").await.unwrap(), "fast");
            }
            assert!(lab.log()[lab_log..].iter().all(|line| line != "slow ended"));
            lab.release();
            lab.logged("slow ended").await;
            lab.hold();
        }
    });
    servers.shutdown_background();
}

#[test]
fn a_timer_of_another_call_fires_beside_a_handler_that_blocks() {
    let (servers, clients) = (runtime(2), runtime(1));
    let lab = Lab::default();
    let server = servers.block_on(lab.serve("tcp://127.0.0.1:0"));
    clients.block_on(async {
        let client = server.client().await;
        send(&client, &BLOCK_LATER, "slow").await;
        lab.logged("slow began").await;
        assert_eq!(text(&client, &SLEEP, "slept").await.unwrap(), "slept");
        assert!(!lab.log().contains(&"slow ended".to_owned()));
        lab.release();
        lab.logged("slow ended").await;
    });
    servers.shutdown_background();
}

#[test]
fn a_handler_that_waits_goes_on_beside_a_later_one_that_blocks() {
    let (servers, clients) = (runtime(2), runtime(1));
    let lab = Lab::default();
    let server = servers.block_on(lab.serve("tcp://127.0.0.1:0"));
    clients.block_on(async {
        let client = server.client().await;
        // Both are in one write, so the dispatcher sees them in one batch.
        let (later, block) = tokio::join!(
            client.call().send(&PANIC_LATER, ()),
            client.call().send(&BLOCK, "slow".to_owned()),
        );
        later.and(block).unwrap();
        let account = loop {
            let account = within(client.barrier()).await.unwrap();
            if account.failed() > 0 {
                break account;
            }
            text(&client, &ECHO, "again").await.unwrap();
        };
        assert_eq!((account.received(), account.handled()), (2, 0));
        lab.release();
        lab.logged("slow ended").await;
    });
    servers.shutdown_background();
}

#[test]
fn a_call_made_by_a_handler_goes_on_beside_a_later_handler_that_blocks() {
    let (servers, clients) = (runtime(2), runtime(1));
    let lab = Lab::default();
    let (server, _behind) = servers.block_on(async {
        let behind = Lab::default().serve("mem:dispatch-behind").await;
        lab.set_client(behind.client().await);
        (lab.serve("tcp://127.0.0.1:0").await, behind)
    });
    clients.block_on(async {
        let client = server.client().await;
        let (forward, block) = tokio::join!(
            client.call().send(&FORWARD, "call".to_owned()),
            client.call().send(&BLOCK, "slow".to_owned()),
        );
        forward.and(block).unwrap();
        lab.logged("call forwarded").await;
        lab.logged("slow began").await;
        assert!(!lab.log().contains(&"slow ended".to_owned()));
        lab.release();
        lab.logged("slow ended").await;
    });
    servers.shutdown_background();
}

#[test]
fn calls_that_compute_spread_over_the_workers() {
    let (servers, clients) = (runtime(2), runtime(1));
    let lab = Lab::default();
    let server = servers.block_on(lab.serve("tcp://127.0.0.1:0"));
    clients.block_on(async {
        let client = server.client().await;
        let until_two_compute_at_a_time = async {
            loop {
                let calls: Vec<_> = (0..64).map(|_| start(&client, &COMPUTE, "call")).collect();
                for call in calls {
                    call.await.unwrap().unwrap();
                }
                let log = lab.take_log();
                if log
                    .windows(2)
                    .any(|two| two.iter().all(|line| line == "call began"))
                {
                    break;
                }
            }
        };
        within(until_two_compute_at_a_time).await;
    });
}

#[tokio::test(crate = "test_support::gate")]
async fn a_spread_call_sees_the_effects_of_earlier_sends() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    // In a runtime of one thread no order is by chance.
    let until_calls_keep_no_place = async {
        let mut overtaken = 0;
        while overtaken < 100 {
            let mut calls = JoinSet::new();
            for i in 0..16 {
                let client = client.clone();
                calls.spawn(async move {
                    send(&client, &NOTE, &format!("before {i}")).await;
                    let (call, after) = (format!("call {i}"), format!("after {i}"));
                    let (call, ()) =
                        tokio::join!(text(&client, &COMPUTE, &call), send(&client, &NOTE, &after));
                    call.unwrap();
                });
            }
            calls.join_all().await;
            within(client.barrier()).await.unwrap();
            let log = lab.take_log();
            let at = |line: String| log.iter().position(|other| *other == line).unwrap();
            for i in 0..16 {
                let call = at(format!("call {i} began"));
                assert!(at(format!("before {i}")) < call, "{log:?}");
                overtaken += usize::from(at(format!("after {i}")) < call);
            }
        }
    };
    within(until_calls_keep_no_place).await;
}

#[test]
fn more_blocking_handlers_than_workers_delay_no_other() {
    let (servers, clients) = (runtime(1), runtime(1));
    let lab = Lab::default();
    let server = servers.block_on(lab.serve("tcp://127.0.0.1:0"));
    clients.block_on(async {
        let client = server.client().await;
        let slow: Vec<_> = (0..4)
            .map(|i| start(&client, &BLOCK_BLOCKING, &format!("slow {i}")))
            .collect();
        for i in 0..4 {
            lab.logged(&format!("slow {i} began")).await;
        }
        assert_eq!(text(&client, &ECHO, "fast").await.unwrap(), "fast");
        lab.release();
        for call in slow {
            within(call).await.unwrap().unwrap();
        }
    });
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_panic_is_the_failure_of_its_call_alone() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-panic").await;
    let client = server.client().await;
    for procedure in [&PANIC, &PANIC_LATER] {
        let begun = Instant::now();
        let error = plain(&client, procedure).await.unwrap_err();
        // A paused clock moves only while all tasks wait, so the driver did not wait.
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!((error.code(), error.executed()), (Code::Unknown, Executed::Yes));
        assert_eq!(error.message(), "handler panicked");
        assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_message_that_panics_when_it_is_written_is_the_failure_of_its_call_alone() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-unwritable").await;
    let client = server.client().await;
    let error = plain(&client, &UNWRITABLE).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unknown, Executed::Yes));
    let panicking = client.clone();
    let call = async move {
        panicking
            .call()
            .send_recv::<_, String>(&ECHO, Unwritable)
            .await
            .map(drop)
    };
    assert!(within(tokio::spawn(call)).await.unwrap_err().is_panic());
    assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_refusal_arrives_with_its_details() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-fail").await;
    let error = plain(&server.client().await, &FAIL).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::NotFound, Executed::Yes));
    assert_eq!(
        (error.message(), &error.details()[..]),
        ("no such thing", &b"more"[..])
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_context_knows_its_call() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-context").await;
    let client = server.client().await;
    let call = client
        .call()
        .timeout(None)
        .metadata("k", "v")
        .send_recv::<_, String>(&CONTEXT, ());
    assert_eq!(
        within(call).await.unwrap(),
        "lab.v1.Lab/context Memory deadline=false one_way=false k=v"
    );
    let text = plain(&client, &CONTEXT).await.unwrap();
    assert_eq!(text, "lab.v1.Lab/context Memory deadline=true one_way=false k=-");
}

#[tokio::test(crate = "test_support::gate")]
async fn an_unknown_procedure_is_not_executed_and_named() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-unknown").await;
    let client = server.client().await;
    let error = plain(&client, &NOWHERE).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unimplemented, Executed::No)
    );
    assert!(
        error.message().contains("no procedure lab.v1.Lab/nowhere: ")
            && error.message().ends_with("It serves lab.v1.Lab"),
        "{error}"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_request_of_another_type_is_not_executed() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-payload").await;
    let client = server.client().await;
    let error = within(client.call().send_recv::<_, ()>(&NOTE, 7_u64))
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::No));
    assert!(lab.log().is_empty());
}

#[tokio::test(crate = "test_support::gate")]
async fn the_account_counts_every_one_way_call() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-account").await;
    let client = server.client().await;
    send(&client, &NOTE, "one").await;
    send(&client, &NOWHERE, "two").await;
    within(client.call().send(&NOTE, 7_u64)).await.unwrap();
    within(client.call().send(&FAIL, ())).await.unwrap();
    within(client.call().send(&PANIC, ())).await.unwrap();
    text(&client, &ECHO, "after").await.unwrap();
    let account = within(client.barrier()).await.unwrap();
    assert_eq!(
        (account.received(), account.handled(), account.failed()),
        (5, 1, 2)
    );
    assert_eq!(account.dropped().map(|(_, count)| count).sum::<u64>(), 2);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_cancelled_call_drops_its_handler() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-cancel").await;
    let client = server.client().await;
    let call = start(&client, &WAIT, "w");
    lab.logged("w began").await;
    call.abort();
    lab.logged("w dropped").await;
    assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_deadline_drops_the_handler() {
    let lab = Lab::default();
    let server = lab.serve("mem:dispatch-deadline").await;
    let client = server.client().await;
    let call = client
        .call()
        .timeout(Duration::from_millis(100))
        .send_recv::<_, String>(&WAIT, "w".to_owned());
    let error = within(call).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::DeadlineExceeded, Executed::Maybe)
    );
    lab.logged("w dropped").await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_one_way_handler_without_a_deadline_is_given_one() {
    let lab = Lab::default();
    let limits = Limits::default().one_way_timeout(Duration::from_secs(5));
    let server = lab
        .serve_with("mem:dispatch-one-way", |server| server.limits(limits))
        .await;
    let client = server.client().await;
    within(client.call().timeout(None).send(&WAIT, "w".to_owned()))
        .await
        .unwrap();
    lab.logged("w began").await;
    let begun = Instant::now();
    lab.logged("w dropped").await;
    // The default limit is 30 s.
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[test]
fn a_lost_client_drops_its_handlers_and_not_its_one_ways() {
    let (servers, clients) = (runtime(2), runtime(1));
    let lab = Lab::default();
    let server = servers.block_on(lab.serve("tcp://127.0.0.1:0"));
    clients.block_on(async {
        let client = server.client().await;
        send(&client, &WAIT, "sent").await;
        drop(start(&client, &WAIT, "called"));
        lab.logged("sent began").await;
        lab.logged("called began").await;
    });
    clients.shutdown_background();
    servers.block_on(async {
        lab.logged("called dropped").await;
        assert!(!lab.log().contains(&"sent dropped".to_owned()));
        lab.release();
        lab.logged("sent ended").await;
    });
}

#[tokio::test(crate = "test_support::gate")]
async fn a_call_over_the_servers_limit_is_refused_and_not_executed() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:dispatch-max-calls", |server| server.max_waiting_handlers(2))
        .await;
    let clients = [server.client().await, server.client().await];
    let waiting: Vec<_> = (0..2)
        .map(|i| start(&clients[i], &WAIT, &i.to_string()))
        .collect();
    lab.logged("0 began").await;
    lab.logged("1 began").await;
    // A handler counts once it waits; until then further ones may begin.
    text(&clients[0], &ECHO, "").await.ok();
    let error = text(&clients[0], &ECHO, "one more").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::ResourceExhausted, Executed::No)
    );
    assert_eq!(
        error.message(),
        "the server runs 2 calls already: its ServerBuilder::max_waiting_handlers"
    );
    assert!(
        within(clients[0].ping()).await.is_ok(),
        "the control service is not limited"
    );
    lab.release();
    for call in waiting {
        within(call).await.unwrap().unwrap();
    }
    assert_eq!(text(&clients[0], &ECHO, "fine").await.unwrap(), "fine");
}

#[tokio::test(crate = "test_support::gate")]
async fn one_ways_leave_a_quarter_of_the_handlers_to_calls() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:dispatch-quarter", |server| server.max_waiting_handlers(8))
        .await;
    let client = server.client().await;
    for _ in 0..8 {
        send(&client, &WAIT, "one-way").await;
        // A handler counts once it waits.
        text(&client, &ECHO, "").await.unwrap();
    }
    let account = within(client.barrier()).await.unwrap();
    let dropped: u64 = account.dropped().map(|(_, count)| count).sum();
    assert_eq!((account.received(), dropped), (8, 2), "{account}");
    let calls = [start(&client, &WAIT, "a"), start(&client, &WAIT, "b")];
    lab.logged("a began").await;
    lab.logged("b began").await;
    text(&client, &ECHO, "").await.ok();
    let refused = text(&client, &WAIT, "c").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.executed()),
        (Code::ResourceExhausted, Executed::No)
    );
    lab.release();
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn many_services_and_listeners_make_one_server() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:dispatch-many-1", |server| {
            server.listener("mem:dispatch-many-2")
        })
        .await;
    assert_eq!(
        server.handle.addresses(),
        ["mem:dispatch-many-1", "mem:dispatch-many-2"]
    );
    let second = within(Client::connect("mem:dispatch-many-2")).await.unwrap();
    assert_eq!(text(&second, &ECHO, "two").await.unwrap(), "two");
    assert_eq!(text(&server.client().await, &ECHO, "one").await.unwrap(), "one");
}

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}
