//! Servers that are stopped at random moments of a load, as processes: 20 by SIGTERM, 20 by SIGINT, 20 by a terminate.
//!
//! A binary of its own, because eight processes run at once: tests beside it would be late.
//!
//! `cargo run --release -p history --bin random-stops -- --count 1000` does as many as one likes, and looks at the time,
//! too.

use std::{path::Path, sync::Arc};

use history::stops::{Plan, stop};
use tokio::{sync::Semaphore, task::JoinSet};

const SEED: u64 = 7;
const STOPS: u64 = 60;
/// How many at once: they wait more than they work.
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
