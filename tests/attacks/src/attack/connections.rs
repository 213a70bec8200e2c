//! Connections that are too many, or stand still.

use std::time::Duration;

use tokio::time::sleep;

use super::{Failure, Scene, Told, attacks, told};
use crate::{
    probe::once,
    raw::{Answer, Raw},
};

attacks! {
    mute_handshakes "connections that say nothing" usual Served
    too_many_connections "more connections than the server takes" few_connections Unconnected
    out_of_files "more connections than the process may have files" few_files Unconnected
    stopped_process "the process is stopped, and goes on" usual Served
}

async fn mute_handshakes(scene: &Scene<'_>) -> Result<Told, Failure> {
    let count = scene.count(600, 5000);
    let mut held = Vec::new();
    for number in 0..count {
        held.push(Raw::mute(scene.address()).await?);
        if number % 100 == 99 {
            // A legitimate connect succeeds meanwhile.
            once(scene.address()).await?;
        }
    }
    told(count as u64, "connections", "they lose their places to others")
}

async fn too_many_connections(scene: &Scene<'_>) -> Result<Told, Failure> {
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(Raw::mute(scene.address()).await?);
    }
    sleep(Duration::from_millis(500)).await;
    drop(held);
    once(scene.address()).await?;
    told(
        100,
        "connections",
        "the rest waits to be accepted; a new one is served when they are gone",
    )
}

async fn out_of_files(scene: &Scene<'_>) -> Result<Told, Failure> {
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(Raw::mute(scene.address()).await?);
    }
    let before = scene.target.usage()?.cpu;
    let time = Duration::from_secs(scene.count(2, 10) as u64);
    sleep(time).await;
    let share = 100.0 * (scene.target.usage()?.cpu - before).as_secs_f64() / time.as_secs_f64();
    drop(held);
    once(scene.address()).await?;
    told(
        100,
        "connections",
        format!("{share:.0} % of a core meanwhile; a new one is served when files are back"),
    )
}

async fn stopped_process(scene: &Scene<'_>) -> Result<Told, Failure> {
    let mut waits = Raw::connect(scene.address()).await?;
    let time = Duration::from_secs(scene.count(2, 60) as u64);
    scene.target.signal("STOP").await?;
    sleep(time.min(Duration::from_secs(20))).await;
    scene.target.signal("CONT").await?;
    once(scene.address()).await?;
    if waits.answer(Duration::from_secs(1)).await != Answer::Open {
        return Err(Failure(
            "a connection was cut that had done nothing wrong".to_owned(),
        ));
    }
    told(1, "stops", "all goes on")
}
