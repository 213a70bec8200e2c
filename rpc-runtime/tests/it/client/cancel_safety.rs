//! Every future of a client may be dropped after any number of polls: other calls go on, and nothing is left behind.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
    time::Duration,
};

use rpc_runtime::{Client, Reply, Sender, Server, Streaming, server::Load};
use test_support::{gate, lab::*, within};
use tokio::time::sleep;

/// Polls a future each time that it is woken, at most `polls` times, and drops it. True if it has ended.
async fn dropped_after(polls: usize, future: impl Future<Output = ()>) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            // The future wakes this one. After the last poll no wake is needed.
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A server on a fresh `mem:` address.
async fn served() -> (Lab, String, rpc_runtime::server::ServerHandle) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let lab = Lab::default();
    let address = format!("mem:cancel-{}", NEXT.fetch_add(1, Ordering::SeqCst));
    let server = Server::builder()
        .service(lab.clone())
        .listener(&address)
        .signals(false)
        .bind()
        .await
        .unwrap();
    let handle = server.handle();
    gate::serve(server);
    (lab, address, handle)
}

/// Drops what `operation` does after each number of polls that it may take; a client goes on with other things before and after.
///
/// Returns how many polls the whole of it takes.
async fn at_every_poll(operation: impl AsyncFn(Client)) -> usize {
    for polls in 1..MOST {
        let (lab, address, server) = served().await;
        let client: Client = Client::connect(&*address).await.unwrap();
        send(&client, &NOTE, "before").await;
        let other = start(&client, &SLEEP, "other");
        let is_over = dropped_after(polls, operation(client.clone())).await;
        send(&client, &NOTE, "after").await;
        for number in 0..200 {
            let hello = number.to_string();
            assert_eq!(
                text(&client, &ECHO, &hello).await.unwrap(),
                hello,
                "after {polls} polls"
            );
        }
        assert_eq!(
            within(other).await.unwrap().unwrap(),
            "other",
            "after {polls} polls"
        );
        within(client.barrier()).await.unwrap();
        let notes: Vec<_> = lab
            .log()
            .into_iter()
            .filter(|line| line == "before" || line == "after")
            .collect();
        assert_eq!(notes, ["before", "after"], "after {polls} polls");
        let is_idle = |load: Load| load.is_idle() && load.connections() == 1;
        within(async {
            // Handlers of what was dropped are gone at their next await, which may be a while.
            while !is_idle(client.load()) || !is_idle(server.load()) || lab.hanging() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        if is_over {
            return polls;
        }
    }
    panic!("{MOST} polls, and no end");
}

/// More than anything here takes.
const MOST: usize = 2000;

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_may_be_dropped_at_any_poll() {
    let polls = at_every_poll(async |client| {
        text(&client, &SLEEP, "slow").await.unwrap();
    });
    assert!(polls.await > 1);
    at_every_poll(async |client| {
        // In many frames, with a wait for room.
        let long = "long".repeat(500_000);
        assert_eq!(text(&client, &ECHO, &long).await.unwrap(), long);
    })
    .await;
    at_every_poll(async |client| {
        text(&client, &PANIC_LATER, "").await.unwrap_err();
    })
    .await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn one_ways_may_be_dropped_at_any_poll() {
    at_every_poll(async |client| {
        for number in 0..5 {
            send(&client, &NOTE, &number.to_string().repeat(300_000)).await;
        }
        client.flush().await.unwrap();
        client.barrier().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn streams_of_replies_may_be_dropped_at_any_poll() {
    at_every_poll(async |client| {
        let mut numbers: Streaming<u64> = client.call().reply_stream(&COUNT, 50_u64).await.unwrap();
        for number in 0..50 {
            assert_eq!(numbers.message().await.unwrap(), Some(number));
        }
        assert_eq!(numbers.message().await.unwrap(), None);
    })
    .await;
    at_every_poll(async |client| {
        let mut watch: Streaming<String> = client.call().reply_stream(&WATCH, ()).await.unwrap();
        watch.message().await.unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(5), watch.message()).await;
    })
    .await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn streams_of_requests_may_be_dropped_at_any_poll() {
    at_every_poll(async |client| {
        let (mut numbers, sum): (Sender<u64>, Reply<u64>) =
            client.call().request_stream(&SUM, Ok).await.unwrap();
        for number in 0..50 {
            numbers.send(number).await.unwrap();
        }
        numbers.finish();
        assert_eq!(sum.await.unwrap(), 49 * 50 / 2);
    })
    .await;
    at_every_poll(async |client| {
        let (mut texts, mut echo): (Sender<String>, Streaming<String>) =
            client.call().both_streams(&ECHO_STREAM).await.unwrap();
        for text in ["short".to_owned(), "long".repeat(100_000), "short".to_owned()] {
            texts.send(text.clone()).await.unwrap();
            assert_eq!(echo.message().await.unwrap(), Some(text));
        }
        texts.finish();
        assert_eq!(echo.message().await.unwrap(), None);
    })
    .await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_connect_may_be_dropped_at_any_poll() {
    for polls in 1..MOST {
        let (_lab, address, server) = served().await;
        let connect = async {
            Client::connect(&*address).await.unwrap();
        };
        let is_over = dropped_after(polls, connect).await;
        let client: Client = Client::connect(&*address).await.unwrap();
        assert_eq!(text(&client, &ECHO, "hello").await.unwrap(), "hello");
        within(async {
            while server.load().connections() > 1 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        if is_over {
            return;
        }
    }
    panic!("it has no end");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_close_or_a_terminate_may_be_dropped_at_any_poll() {
    for terminates in [false, true] {
        for polls in 1..MOST {
            let (_lab, address, server) = served().await;
            let client: Client = Client::connect(&*address).await.unwrap();
            let open = start(&client, &SLEEP, "open");
            sleep(Duration::from_millis(1)).await;
            let end = async {
                match terminates {
                    true => {
                        client.terminate().await.unwrap();
                    }
                    false => {
                        client.close().await.unwrap();
                    }
                }
            };
            let is_over = dropped_after(polls, end).await;
            if is_over || polls > 1 {
                // An open call ends well, and a late one fails.
                assert_eq!(
                    within(open).await.unwrap().unwrap(),
                    "open",
                    "after {polls} polls"
                );
                let late = text(&client, &ECHO, "late").await;
                assert!(late.is_err() || polls == 1, "after {polls} polls");
            } else {
                open.abort();
            }
            if terminates && is_over {
                within(server.drained()).await;
            }
            if is_over {
                break;
            }
        }
    }
}
