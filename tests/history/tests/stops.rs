//! Server processes that are stopped at random moments of a load: 20 by SIGTERM, 20 by SIGINT, 20 by a terminate.
//!
//! A test binary of its own, because its eight processes would delay other tests.
//!
//! `cargo run --release -p history --bin random-stops -- --count 1000` makes any number of stops, and checks the time,
//! too.

use std::{path::Path, sync::Arc};

use history::stops::{Plan, stop};
use tokio::{sync::Semaphore, task::JoinSet};

const SEED: u64 = 7;
const STOPS: u64 = 60;
/// The number of stops at once; they mostly wait.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_at_any_moment_is_reported_truly_and_loses_no_reply() {
    println!("seed {SEED}");
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut stops = JoinSet::new();
    for index in 0..STOPS {
        let places = Arc::clone(&places);
        stops.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let program = Path::new(env!("CARGO_BIN_EXE_random-stops"));
            stop(program, &Plan::new(SEED, index)).await
        });
    }
    let mut broken = Vec::new();
    while let Some(stopped) = stops.join_next().await {
        if let Err(story) = stopped.unwrap() {
            broken.push(story.to_string());
        }
    }
    assert!(
        broken.is_empty(),
        "seed {SEED}, {} broken:\n{}",
        broken.len(),
        broken.join("\n\n")
    );
}
