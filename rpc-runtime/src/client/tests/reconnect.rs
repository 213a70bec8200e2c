//! How soon clients reconnect, and how many at once.

use std::sync::Mutex;

use tokio::time::{Instant, sleep};

use super::*;
use crate::Executed;

#[tokio::test(start_paused = true)]
async fn a_server_that_always_sends_goaway_is_tried_ever_less_often() {
    let hand = Hand::new("mem:reconnect-goaway").await;
    let client = Client::builder("mem:reconnect-goaway")
        .timeout(LONG)
        .connect_lazy();
    let pending = call(&client);
    let attempts = Arc::new(Mutex::new(0));
    let going = tokio::spawn({
        let attempts = Arc::clone(&attempts);
        async move {
            loop {
                let far = hand.accept().await;
                *attempts.lock().unwrap() += 1;
                far.go();
            }
        }
    });
    let error = done(pending).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::DeadlineExceeded, Executed::No),
        "{error}"
    );
    // The intervals of a minute, and one more attempt because of the deadline.
    let attempts = *attempts.lock().unwrap();
    assert!((8..=16).contains(&attempts), "{attempts}");
    going.abort();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_is_found_again_soon() {
    let hand = Hand::new("mem:reconnect-soon").await;
    let (client, mut far) = connected(&hand, "mem:reconnect-soon").await;
    for _ in 0..50 {
        far.die();
        settle().await;
        let start = Instant::now();
        let pending = call(&client);
        far = hand.accept().await;
        assert!(start.elapsed() <= FIRST, "{:?}", start.elapsed());
        far.serve(1).await;
        done(pending).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_lived_counts_as_well_as_one_that_answered() {
    let hand = Hand::new("mem:reconnect-lived").await;
    let client = Client::builder("mem:reconnect-lived")
        .timeout(LONG)
        .connect_lazy();
    for _ in 0..20 {
        let pending = call(&client);
        let start = Instant::now();
        let far = hand.accept().await;
        assert!(start.elapsed() <= FIRST, "{:?}", start.elapsed());
        far.started().await;
        sleep(Duration::from_secs(1)).await;
        far.die();
        done(pending).await.unwrap_err();
        // Without a reply all this time.
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_long_pause_a_call_connects_at_once() {
    let hand = Hand::new("mem:reconnect-idle").await;
    let (client, far) = connected(&hand, "mem:reconnect-idle").await;
    far.die();
    sleep(FIRST).await;
    let start = Instant::now();
    let pending = call(&client);
    let far = hand.accept().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    far.serve(1).await;
    done(pending).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_call_after_a_loss_waits_for_a_pause() {
    let hand = Hand::new("mem:reconnect-pause").await;
    let (client, mut far) = connected(&hand, "mem:reconnect-pause").await;
    let mut pauses = Vec::new();
    for _ in 0..20 {
        far.die();
        settle().await;
        let start = Instant::now();
        let pending = call(&client);
        far = hand.accept().await;
        pauses.push(start.elapsed().as_millis());
        far.serve(1).await;
        done(pending).await.unwrap();
    }
    pauses.sort_unstable();
    pauses.dedup();
    assert!(pauses.len() > 5, "they are not random: {pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_miss_a_server_that_is_back() {
    for i in 0..20 {
        let name = format!("mem:reconnect-hurry-{i}");
        let client = Client::builder(&name).timeout(LONG * 3).connect_lazy();
        // Until the pauses are half a minute long.
        let waiting = call(&client);
        sleep(LONG * 2).await;
        waiting.abort();
        let _hand = Hand::new(&name).await;
        let serving = tokio::spawn(async move {
            let far = _hand.accept().await;
            far.serve(1).await;
            sleep(LONG).await;
        });
        let call = client.call().timeout(Duration::from_secs(5));
        within(call.send_recv::<_, ()>(&ECHO, Bytes::new()))
            .await
            .unwrap();
        serving.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn short_deadlines_do_not_shorten_the_pause_between_attempts() {
    let client = Client::builder("mem:reconnect-nobody").connect_lazy();
    let mut failures = 0;
    let mut last = None;
    let start = Instant::now();
    while start.elapsed() < LONG * 2 {
        let call = client.call().timeout(Duration::from_millis(50));
        within(call.send_recv::<_, ()>(&ECHO, Bytes::new()))
            .await
            .unwrap_err();
        let failed_at = client.channel().failed_at();
        failures += usize::from(failed_at != last);
        last = failed_at;
    }
    assert!(
        (20..=2 * 60 + 10).contains(&failures),
        "{failures} attempts in two minutes"
    );
}

#[tokio::test(start_paused = true)]
async fn there_is_no_pause_as_long_as_there_is_another_address() {
    let hand = Hand::new("mem:reconnect-third").await;
    let client = Client::builder("mem:reconnect-first")
        .fallback("mem:reconnect-second")
        .fallback("mem:reconnect-third")
        .connect_lazy();
    let start = Instant::now();
    let pending = call(&client);
    let far = hand.accept().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    far.serve(1).await;
    done(pending).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_no_call_goes_out_before_the_handshake() {
    let hand = Hand::new("mem:reconnect-proxy").await;
    let (client, far) = connected(&hand, "mem:reconnect-proxy").await;
    far.die();
    settle().await;
    let pending = call(&client);
    // A proxy accepts connections and ends them, because its server is away.
    for _ in 0..3 {
        let (stream, _) = within(hand.0.accept()).await.unwrap();
        settle().await;
        drop(stream);
    }
    hand.accept().await.serve(1).await;
    done(pending).await.unwrap();
}

/// What a server that comes back sees of a thousand waiting clients.
#[tokio::test(start_paused = true)]
async fn a_thousand_clients_come_back_evenly() {
    const NAME: &str = "mem:reconnect-thousand";
    const CLIENTS: usize = 1000;
    let hand = Hand::new(NAME).await;
    let clients: Vec<_> = (0..CLIENTS as u64)
        .map(|seed| {
            let client = Client::builder(NAME).timeout(LONG).connect_lazy();
            client.channel().seed(seed);
            client
        })
        .collect();
    let mut fars = Vec::new();
    for client in &clients {
        let first = call(client);
        let far = hand.accept().await;
        far.serve(1).await;
        done(first).await.unwrap();
        fars.push(far);
    }
    // All at once: the connections, and the name.
    drop(hand);
    fars.into_iter().for_each(Far::die);
    let calls: Vec<_> = clients.iter().map(call).collect();
    sleep(Duration::from_secs(3)).await;

    let hand = Hand::new(NAME).await;
    let start = Instant::now();
    let mut arrivals = Vec::new();
    let mut serving = Vec::new();
    for _ in 0..CLIENTS {
        let far = hand.accept().await;
        arrivals.push(start.elapsed());
        serving.push(tokio::spawn(async move {
            far.serve(1).await;
            far
        }));
    }
    for call in calls {
        done(call).await.unwrap();
    }
    let last = arrivals.last().unwrap().as_millis();
    assert!(last < 10_000, "the last came after {last} ms");
    let mut windows = vec![0_usize; last as usize / 100 + 1];
    for arrival in &arrivals {
        windows[arrival.as_millis() as usize / 100] += 1;
    }
    let peak = *windows.iter().max().unwrap();
    assert!(
        peak * windows.len() <= 3 * CLIENTS,
        "a peak of {peak} in one of {} windows: {windows:?}",
        windows.len()
    );
}

/// The longest first pause, and the precision of the clock.
const FIRST: Duration = Duration::from_millis(101);
