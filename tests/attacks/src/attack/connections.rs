//! Attacks with connections: too many, or silent.

use std::time::Duration;

use tokio::time::sleep;

use super::{Answer, Failure, Outcome, Scene, answer, attacks, connect, outcome};
use crate::probe::once;

attacks! {
    mute_handshakes "connections that send nothing" usual Served
    too_many_connections "more connections than the server takes" few_connections Unconnected
    out_of_files "more connections than the process may have files" few_files Unconnected
    stopped_process "the process is stopped and continued" usual Served
}

async fn mute_handshakes(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let count = scene.count(600, 5000);
    let mut held = Vec::new();
    for number in 0..count {
        held.push(scene.door().socket().await?);
        if number % 100 == 99 {
            // A legitimate connect succeeds meanwhile.
            once(scene.door()).await?;
        }
    }
    outcome(
        count as u64,
        "connections",
        "their places go to other connections",
    )
}

async fn too_many_connections(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(scene.door().socket().await?);
    }
    sleep(Duration::from_millis(500)).await;
    drop(held);
    once(scene.door()).await?;
    outcome(
        100,
        "connections",
        "the rest waits to be accepted; a new one is served when the others are gone",
    )
}

async fn out_of_files(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(scene.door().socket().await?);
    }
    let before = scene.target.usage()?.cpu;
    let time = Duration::from_secs(scene.count(2, 10) as u64);
    sleep(time).await;
    let share = 100.0 * (scene.target.usage()?.cpu - before).as_secs_f64() / time.as_secs_f64();
    drop(held);
    once(scene.door()).await?;
    outcome(
        100,
        "connections",
        format!("{share:.0} % of a core; a new one is served when files are free again"),
    )
}

async fn stopped_process(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut waits = connect(scene).await?;
    let time = Duration::from_secs(scene.count(2, 60) as u64);
    scene.target.signal("STOP").await?;
    sleep(time.min(Duration::from_secs(20))).await;
    scene.target.signal("CONT").await?;
    once(scene.door()).await?;
    if answer(&mut waits, Duration::from_secs(1)).await != Answer::Open {
        return Err(Failure("the server cut an innocent connection".to_owned()));
    }
    outcome(1, "stops", "the connection stays open")
}
