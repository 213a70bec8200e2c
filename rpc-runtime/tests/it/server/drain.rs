//! A drain ends in time and reports truly, whatever goes on when it begins.

use std::time::Duration;

use rpc_runtime::{
    Client, Code, DrainReport, Error, Executed, Limits,
    server::{ServerBuilder, TerminatePolicy},
};
use test_support::{
    lab::*,
    unix,
    wire::{self, Goaway, HandPeer},
    within,
};
use tokio::{runtime::Builder, task::JoinHandle, time::Instant};

/// How long open calls may take in these tests.
const DRAIN: Duration = Duration::from_secs(5);
/// How long after that a server may take to end.
const END: Duration = Duration::from_secs(3);

/// A terminate in a task of its own.
fn terminate(client: &Client) -> JoinHandle<Result<DrainReport, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.terminate().await })
}

fn short(server: ServerBuilder) -> ServerBuilder {
    server.drain_timeout(DRAIN)
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_terminate_by_way_of_another_server_ends_with_the_drain() {
    // a's handler waits for b's, which waits for the drain of a, which waits for a's handler.
    let (a, b) = (Lab::default(), Lab::default());
    let server_a = a.serve_with("mem:drain-beyond-a", short).await;
    let server_b = b.serve("mem:drain-beyond-b").await;
    a.set_client(server_b.client().await);
    b.set_client(server_a.client().await);
    let client = server_a.client().await;
    let begun = Instant::now();
    let call = client
        .call()
        .timeout(None)
        .send_recv::<_, String>(&TERMINATE_BEYOND, ());
    let error = within(call).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe),
        "{error}"
    );
    let report = server_a.report().await;
    assert_eq!(
        (report.completed(), report.aborted(), report.stuck()),
        (0, 1, 0),
        "{report}"
    );
    assert!(
        begun.elapsed() >= DRAIN && begun.elapsed() <= DRAIN + END,
        "took {:?}",
        begun.elapsed()
    );
    let other = server_b.client().await;
    assert_eq!(text(&other, &ECHO, "alive").await.unwrap(), "alive");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_terminate_is_accepted_when_the_server_is_full() {
    let lab = Lab::default();
    let configure = |server: ServerBuilder| server.max_waiting_handlers(2);
    let server = lab.serve_with("mem:drain-max-server", configure).await;
    let client = server.client().await;
    let open = start(&client, &WAIT, "0");
    let watching = start(&client, &DRAINING, "1");
    lab.logged("0 began").await;
    lab.logged("1 began, draining=false").await;
    // Both wait in tasks of their own now, so they are counted.
    tokio::task::yield_now().await;
    let refused = text(&client, &ECHO, "one more").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let terminate = terminate(&client);
    within(watching).await.unwrap().unwrap();
    lab.release();
    within(open).await.unwrap().unwrap();
    let report = within(terminate).await.unwrap().unwrap();
    assert!(report.completed() >= 1 && report.is_clean(), "{report}");
    assert_eq!(server.report().await, report);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_terminate_is_accepted_when_the_connection_is_full() {
    let lab = Lab::default();
    let configure = |server: ServerBuilder| server.limits(Limits::default().max_calls(16));
    let server = lab.serve_with("mem:drain-max-connection", configure).await;
    let client = server.client().await;
    let watching = start(&client, &DRAINING, "watching");
    let open: Vec<_> = (0..15).map(|i| start(&client, &WAIT, &i.to_string())).collect();
    for i in 0..15 {
        lab.logged(&format!("{i} began")).await;
    }
    // One more waits on the client's side.
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move {
            let call = client.call().timeout(DRAIN);
            call.send_recv::<_, String>(&ECHO, "waiting".to_owned()).await
        })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let terminate = terminate(&client);
    within(watching).await.unwrap().unwrap();
    lab.release();
    for call in open {
        within(call).await.unwrap().unwrap();
    }
    if let Err(error) = within(waiting).await.unwrap() {
        // It found the door closed.
        assert_eq!(error.executed(), Executed::No, "{error}");
    }
    let report = within(terminate).await.unwrap().unwrap();
    assert!(report.completed() >= 15 && report.is_clean(), "{report}");
    assert_eq!(server.report().await, report);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn half_a_message_is_refused_at_the_drains_end() {
    let lab = Lab::default();
    let server = lab.serve_with("tcp://127.0.0.1:0", short).await;
    let mut peer = HandPeer::greeted(&server.address).await;
    let mut half = wire::call(1, &ECHO, &"x".repeat(100_000));
    half.length = half.payload.len() as u64;
    half.payload.truncate(1000);
    half.flags |= wire::MORE;
    peer.send(&half).await;
    // A second message, of which the frame itself is cut.
    let frame = wire::encode(&wire::call(3, &ECHO, &"y".to_owned()));
    peer.write(&frame[..frame.len() - 1]).await;
    let mut other = HandPeer::greeted(&server.address).await;
    other.send(&wire::call(1, &ECHO, &"z".to_owned())).await;
    assert_eq!(other.until(wire::REPLY).await.code, 0);

    let begun = Instant::now();
    server.handle.drain();
    // The peer answers no PING, because a PONG would complete the cut frame.
    assert_eq!(Goaway::of(&peer.skip_to(wire::GOAWAY).await).reason, 1);
    let last = Goaway::of(&peer.skip_to(wire::GOAWAY).await);
    assert_eq!(last.last_id, 1, "the second call is not whole");
    let reply = peer.skip_to(wire::REPLY).await;
    assert_eq!(
        (reply.id, reply.code, reply.flags & wire::NOT_EXECUTED),
        (1, Code::Unavailable as u32, wire::NOT_EXECUTED)
    );
    assert!(peer.next().await.is_none());
    drop(peer);
    drop(other);
    let report = server.report().await;
    assert_eq!(
        (report.completed(), report.aborted(), report.stuck()),
        (0, 1, 0),
        "{report}"
    );
    assert!(begun.elapsed() <= DRAIN + END, "took {:?}", begun.elapsed());
    assert!(lab.log().is_empty());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn peers_that_do_not_read_or_do_not_finish_their_hello_delay_no_drain() {
    let lab = Lab::default();
    let server = lab.serve_with("tcp://127.0.0.1:0", short).await;
    // Replies of 6 MB: more than the OS and the output take.
    let mut deaf = HandPeer::connect(&server.address).await;
    deaf.hello().await;
    for i in 0..100 {
        deaf.send(&wire::call(2 * i + 1, &ECHO, &"x".repeat(60_000)))
            .await;
    }
    let mute = HandPeer::connect(&server.address).await;
    let mut half = HandPeer::connect(&server.address).await;
    half.write(&wire::encode(&wire::hello())[..7]).await;
    let client = server.client().await;
    assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive");

    let begun = Instant::now();
    server.handle.drain();
    let report = server.report().await;
    assert!(begun.elapsed() <= DRAIN + END, "took {:?}", begun.elapsed());
    assert_eq!(report.stuck(), 0, "{report}");
    assert!(
        report.completed() + report.aborted() <= 100 && report.aborted() > 0,
        "those whose reply found no room: {report}"
    );
    drop((deaf, mute, half));
}

#[test]
fn a_handler_without_a_thread_is_starved_and_not_stuck() {
    let servers = Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    let lab = Lab::default();
    let server = servers.block_on(lab.serve_with("mem:drain-starved", short));
    servers.block_on(async {
        let client = server.client().await;
        let open = start(&client, &WAIT_AGAIN, "behind");
        lab.logged("behind began").await;
        // What a task wakes lies where no other worker takes it, until the task's poll ends. The first wake may have met the
        // handler in a poll.
        let task = lab.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                task.wake();
                std::thread::sleep(Duration::from_millis(1));
            }
            task.block("a task".to_owned());
        });
        lab.logged("a task began").await;
        server.handle.abort();
        let report = server.report().await;
        assert_eq!(
            (report.aborted(), report.stuck(), report.starved()),
            (1, 0, 1),
            "{report}"
        );
        assert!(!report.is_clean());
        within(open).await.unwrap().unwrap_err();
        assert!(!lab.log().contains(&"behind dropped".to_owned()));
        lab.release();
        lab.logged("behind dropped").await;
    });
}

#[test]
fn a_call_that_never_got_a_thread_did_not_run() {
    let servers = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let lab = Lab::default();
    let configure = |server: ServerBuilder| {
        server
            .drain_timeout(Duration::from_millis(50))
            .terminate_policy(TerminatePolicy::loopback())
    };
    let server = servers.block_on(lab.serve_with("tcp://127.0.0.1:0", configure));
    let clients = Builder::new_current_thread().enable_all().build().unwrap();
    clients.block_on(async {
        let client = server.client().await;
        let _first = start(&client, &BLOCK_BLOCKING, "first");
        lab.logged("first began").await;
        let mut second = HandPeer::greeted(&server.address).await;
        second
            .send(&wire::call(1, &BLOCK_BLOCKING, &"second".to_owned()))
            .await;
        second.ping().await;
        send(&client, &BLOCK_BLOCKING, "third").await;
        within(client.barrier()).await.unwrap();
        let told = within(client.terminate()).await;
        let reply = second.until(wire::REPLY).await;
        let report = server.report().await;
        // On a slow machine the report comes too late for the caller.
        assert!(told.is_err() || told.is_ok_and(|told| told == report));
        assert_eq!(
            (
                report.completed(),
                report.aborted(),
                report.one_way_dropped(),
                report.stuck()
            ),
            // The first is cut and stuck, the second is cut, the third was dropped.
            (0, 2, 1, 1),
            "{report}"
        );
        assert_eq!(
            (reply.id, reply.code, reply.flags),
            (1, Code::Unavailable as u32, wire::NOT_EXECUTED)
        );
    });
    lab.release();
    drop(servers);
    assert!(
        lab.log()
            .iter()
            .all(|line| !line.starts_with("second") && !line.starts_with("third"))
    );
}

#[test]
fn a_cancelled_call_that_never_got_a_thread_frees_its_place() {
    let servers = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let lab = Lab::default();
    let server =
        servers.block_on(lab.serve_with("tcp://127.0.0.1:0", |server| server.max_waiting_handlers(2)));
    let clients = Builder::new_current_thread().enable_all().build().unwrap();
    clients.block_on(async {
        let client = server.client().await;
        let _first = start(&client, &BLOCK_BLOCKING, "first");
        lab.logged("first began").await;
        let second = start(&client, &BLOCK_BLOCKING, "second");
        within(async { while text(&client, &ECHO, "").await.is_ok() {} }).await;
        second.abort();
        // The only thread is not free all the while.
        within(async { while text(&client, &ECHO, "").await.is_err() {} }).await;
        assert_eq!(lab.log(), ["first began"]);
    });
    lab.release();
    drop(servers);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_of_unaccepted_peers_were_not_executed() {
    for address in ["mem:drain-backlog", "tcp://127.0.0.1:0", &unix("drain-backlog")] {
        let lab = Lab::default();
        let server = lab.serve_with(address, |server| server.max_connections(1)).await;
        let only = server.client().await;
        // One is accepted and waits for a place; the others wait to be accepted.
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let client = Client::connect_lazy(&server.address);
                tokio::spawn(async move {
                    let call = client.call().timeout(DRAIN);
                    call.send_recv::<_, String>(&NOTE, "ran".to_owned()).await
                })
            })
            .collect();
        for _ in 0..50 {
            // They connect, and send their calls.
            tokio::task::yield_now().await;
        }
        assert_eq!(text(&only, &ECHO, "alive").await.unwrap(), "alive");
        server.handle.drain();
        for call in waiting {
            let error = within(call).await.unwrap().unwrap_err();
            assert_eq!(error.executed(), Executed::No, "{address}: {error}");
        }
        assert!(server.report().await.is_clean());
        assert!(lab.log().is_empty());
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn unaccepted_peers_get_a_goaway_and_no_reset() {
    let lab = Lab::default();
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| server.max_connections(1))
        .await;
    let _only = server.client().await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = HandPeer::connect(&server.address).await;
        peer.hello().await;
        peer.send(&wire::call(1, &ECHO, &"x".to_owned())).await;
        peers.push(peer);
    }
    server.handle.drain();
    for mut peer in peers {
        assert_eq!(peer.next().await.map(|frame| frame.kind), Some(wire::HELLO));
        let goaway = peer.goaway().await;
        assert_eq!((goaway.reason, goaway.last_id), (1, 0));
        assert!(peer.next().await.is_none(), "no reply, and a proper end");
    }
    assert_eq!(
        server.report().await.to_string(),
        "drained: 0 completed, 0 aborted, 0 one-ways dropped, 0 stuck, 0 starved"
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_repeated_terminate_changes_nothing() {
    let lab = Lab::default();
    let server = lab.serve_with("mem:drain-repeated", short).await;
    let client = server.client().await;
    let open = start(&client, &WAIT, "open");
    lab.logged("open began").await;
    let begun = Instant::now();
    server.handle.drain();
    tokio::time::sleep(DRAIN / 2).await;
    server.handle.drain();
    // The GOAWAY has come, and the server accepts no more connections.
    let late = client.call().timeout(DRAIN / 5).terminate();
    assert_eq!(within(late).await.unwrap_err().executed(), Executed::No);
    within(open).await.unwrap().unwrap_err();
    assert!(begun.elapsed() >= DRAIN && begun.elapsed() < DRAIN + END);
    let handle = server.handle.clone();
    let report = server.report().await;
    assert_eq!(report.aborted(), 1);
    handle.drain();
    handle.abort();
    assert_eq!(within(handle.drained()).await, report);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn an_in_process_server_that_was_terminated_stays_so() {
    let lab = Lab::default();
    let client = Client::in_process(lab.clone());
    let open = start(&client, &WAIT, "open");
    lab.logged("open began").await;
    let terminates = [terminate(&client), terminate(&client)];
    tokio::task::yield_now().await;
    lab.release();
    within(open).await.unwrap().unwrap();
    for terminate in terminates {
        let report = within(terminate).await.unwrap().unwrap();
        assert_eq!((report.completed(), report.is_clean()), (1, true), "{report}");
    }
    let late = within(client.call().timeout(DRAIN).terminate())
        .await
        .unwrap_err();
    assert_eq!((late.code(), late.executed()), (Code::Unavailable, Executed::No));
    let late = client
        .call()
        .timeout(DRAIN)
        .send_recv::<_, String>(&ECHO, String::new());
    assert_eq!(within(late).await.unwrap_err().executed(), Executed::No);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_handler_that_watches_for_the_drain_can_end_early() {
    let lab = Lab::default();
    let server = lab.serve("mem:drain-watch").await;
    let client = server.client().await;
    let open = start(&client, &DRAINING, "open");
    lab.logged("open began, draining=false").await;
    let begun = Instant::now();
    server.handle.drain();
    assert_eq!(within(open).await.unwrap().unwrap(), "open ended, draining=true");
    assert!(server.report().await.is_clean());
    assert!(begun.elapsed() < END, "took {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_handler_that_panics_when_it_is_dropped_frees_its_place() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:drain-panic", |server| short(server).max_waiting_handlers(1))
        .await;
    let client = server.client().await;
    let call = start(&client, &PANIC_DROPPED, "first");
    lab.logged("first began").await;
    call.abort();
    // Turns and not time: a paused clock would not move.
    let mut turns = 0;
    while let Err(error) = text(&client, &ECHO, "").await {
        turns += 1;
        assert!(turns < 10_000, "{error}");
    }
    let _second = start(&client, &PANIC_DROPPED, "second");
    lab.logged("second began").await;
    server.handle.drain();
    let report = server.report().await;
    assert_eq!(report.stuck(), 0, "{report}");
}
