//! Probe: a legitimate client, and what it notices of an attack.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rpc_runtime::{Client, Error};
use tokio::{task::JoinHandle, time::sleep};

use crate::{door::Door, target::v1::TargetClient};

/// A client that calls repeatedly, on an open connection and on new ones.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// The results of a probe's calls.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The duration of each successful call.
    pub took: Vec<Duration>,
    /// For each new connection, the time to connect and call.
    pub connected: Vec<Duration>,
    /// The errors of failed calls.
    pub failed: Vec<String>,
}

impl Seen {
    /// Returns the time that `percent` percent of the calls did not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let index = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(index).copied().unwrap_or_default()
    }
}

impl Probe {
    /// Starts the calls.
    ///
    /// # Errors
    ///
    /// If the first connection cannot be made.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn start(door: &Door) -> Result<Self, Error> {
        let client: Client = door.client().connect().await?;
        let client = TargetClient::new(client);
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let task = tokio::spawn(run(door.clone(), client, Arc::clone(&stop), Arc::clone(&seen)));
        Ok(Self { stop, seen, task })
    }

    /// Stops the calls, and returns their results.
    ///
    /// # Cancel safety
    ///
    /// After a drop, the calls stop in the background.
    pub async fn finish(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        // After a panic, calls are missing in the results.
        let _ = self.task.await;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn run(door: Door, client: TargetClient, stop: Arc<AtomicBool>, seen: Arc<Mutex<Seen>>) {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut round = 0_u64;
    // At least one call, however short the attack is.
    loop {
        let begun = Instant::now();
        match client.send_recv().echo("hello").await {
            Ok(reply) if &reply[..] == b"hello" => lock().took.push(begun.elapsed()),
            Ok(_) => lock().failed.push("a wrong reply".to_owned()),
            Err(error) => lock().failed.push(error.to_string()),
        }
        round += 1;
        if round % 50 == 0 {
            let begun = Instant::now();
            match once(&door).await {
                Ok(()) => lock().connected.push(begun.elapsed()),
                Err(error) => lock().failed.push(format!("a new connection: {error}")),
            }
        }
        if stop.load(Ordering::SeqCst) {
            return;
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// Connects, makes one call, and closes.
///
/// # Errors
///
/// If one of them fails.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub async fn once(door: &Door) -> Result<(), Error> {
    // Connections may be scarce for a moment; the call waits for one until its deadline.
    let client: Client = door.client().connect_lazy();
    let client = TargetClient::new(client);
    client.send_recv().echo("hello").await?;
    client.close().await.map(drop)
}
