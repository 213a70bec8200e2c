//! Sessions with the largest and the smallest limits: they work, or their calls fail with a clear code.

use std::{cell::Cell, panic, time::Duration};

use rpc_runtime::{Client, Code, Error, Limits, Reply, Sender, Server, Streaming};
use test_support::{gate, lab::*, within};

thread_local! {
    /// The panics of this thread, and so of all tasks of its runtime: tokio catches them.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Counts panics of each thread from now on, and reports them as before.
fn count_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.set(PANICS.get() + 1);
        report(info);
    }));
}

/// All limits at once.
fn all(number: u64, time: Duration) -> Limits {
    let small = u32::try_from(number).unwrap_or(u32::MAX);
    let size = usize::try_from(number).unwrap_or(usize::MAX);
    Limits::default()
        .max_message(number)
        .max_frame(small)
        .max_calls(small)
        .call_bytes(number)
        .send_bytes(number)
        .inbox_bytes(number)
        .high_water(size)
        .max_waiting(size)
        .metadata_bytes(number)
        .stream_window(number)
        .max_stream_window(number)
        .decode_bytes(number)
        .max_faults(small)
        .one_way_timeout(time)
        .handshake_timeout(time)
        .keep_alive(time)
        .dead_after(time)
        .ping_floor(time)
        .slow_frame(time)
        .write_stall(time)
        .linger(time)
        .max_age(time)
        .max_age_grace(time)
        .max_idle(time)
}

/// A bit of everything; the errors of what failed.
async fn session(name: &str, server: Limits, client: Limits, timeout: Duration) -> Vec<Error> {
    let address = format!("mem:extreme-{name}");
    let builder = Server::builder()
        .service(Lab::default())
        .max_connections(usize::MAX)
        .max_waiting_handlers(usize::MAX)
        .max_handshakes(usize::MAX)
        .drain_timeout(Duration::MAX)
        .max_buffered_bytes(u64::MAX)
        .listener(&address)
        .limits(server)
        .signals(false);
    gate::serve(builder.bind().await.unwrap());
    let builder = Client::builder(&address).limits(client);
    let builder = builder.timeout(timeout).connect_timeout(timeout);
    let client: Client = builder.connect_lazy();
    let mut errors = Vec::new();
    for text_len in [1, 300_000] {
        errors.extend(text(&client, &ECHO, &"x".repeat(text_len)).await.err());
    }
    errors.extend(within(client.call().send(&NOTE, "note".to_owned())).await.err());
    errors.extend(within(client.barrier()).await.err());
    match within(client.call().reply_stream::<_, u64>(&COUNT, 100_u64)).await {
        Ok(numbers) => errors.extend(read(numbers).await.err()),
        Err(error) => errors.push(error),
    }
    let sum: Result<(Sender<u64>, Reply<u64>), Error> = within(client.call().request_stream(&SUM, Ok)).await;
    match sum {
        Ok((mut numbers, sum)) => {
            for number in 0..100 {
                if within(numbers.send(number)).await.is_err() {
                    break;
                }
            }
            numbers.finish();
            errors.extend(within(sum).await.err());
        }
        Err(error) => errors.push(error),
    }
    errors.extend(within(client.close()).await.err());
    errors
}

async fn read(mut numbers: Streaming<u64>) -> Result<(), Error> {
    while within(numbers.message()).await?.is_some() {}
    Ok(())
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_largest_limits_limit_nothing() {
    let most = || all(u64::MAX, Duration::MAX);
    for (name, server, client) in [
        ("both", most(), most()),
        ("server", most(), Limits::default()),
        ("client", Limits::default(), most()),
    ] {
        let errors = session(&format!("largest-{name}"), server, client, Duration::MAX).await;
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_smallest_limits_fail_calls_and_nothing_else() {
    count_panics();
    for number in [0, 1, 1000] {
        for time in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(1)] {
            let least = || all(number, time);
            for (name, server, client) in [
                ("both", least(), least()),
                ("server", least(), Limits::default()),
                ("client", Limits::default(), least()),
            ] {
                let name = format!("least-{number}-{time:?}-{name}");
                let errors = session(&name, server, client, Duration::from_secs(10)).await;
                assert_eq!(PANICS.get(), 0, "{name}");
                for error in &errors {
                    // A panic of a handler would be UNKNOWN, a mistake of either side INTERNAL.
                    let expected = [
                        Code::Unavailable,
                        Code::DeadlineExceeded,
                        Code::ResourceExhausted,
                        Code::InvalidArgument,
                    ];
                    assert!(expected.contains(&error.code()), "{name}: {error}");
                }
                // A limit of 1000 bytes refuses the long message at least.
                assert!(!errors.is_empty(), "{name}: no call fails");
            }
        }
    }
}
