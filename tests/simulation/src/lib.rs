//! A toy service with a disk, right or with a bug that only a crash at the wrong moment shows, and the simulation that
//! finds it: tests/planted_bug.rs.

rpc_runtime::include_protos!();

/// The Rust blocks of the document are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to/simulation.md")]
mod document {}

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rpc_runtime::{Context, Result, Stream, stream};

use crate::toy::v1::{Counter, TotalReply};

/// What survives a crash of the process: a simulation drops its tasks, and keeps what it holds itself.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Contents>>);

#[derive(Clone, Debug, Default)]
struct Contents {
    total: u64,
    tickets: HashSet<String>,
}

/// Where a counter keeps the tickets that it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tickets {
    /// Beside the total, as it should be.
    OnDisk,
    /// In the process: the bug. Who asks again behind a crash is counted twice.
    InMemory,
}

/// The service.
#[derive(Debug)]
pub struct Toy {
    disk: Disk,
    tickets: Tickets,
    memory: Mutex<HashSet<String>>,
}

impl Toy {
    /// A counter that goes on from what is on the disk.
    pub fn new(disk: Disk, tickets: Tickets) -> Self {
        Self {
            disk,
            tickets,
            memory: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counter for Toy {
    async fn rpc_add(&self, _: &Context, ticket: String, amount: u64) -> Result<()> {
        let mut contents = lock(&self.disk.0);
        let is_new = match self.tickets {
            Tickets::OnDisk => contents.tickets.insert(ticket),
            Tickets::InMemory => lock(&self.memory).insert(ticket),
        };
        if is_new {
            contents.total += amount;
        }
        Ok(())
    }

    async fn rpc_total(&self, _: &Context) -> Result<u64> {
        Ok(lock(&self.disk.0).total)
    }

    async fn rpc_sleep(&self, _: &Context, millis: u64) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(())
    }

    async fn rpc_watch(
        &self,
        _: &Context,
        millis: u64,
    ) -> Result<impl Stream<Item = Result<TotalReply>> + Send> {
        Ok(stream(async move |out| {
            for total in 0.. {
                out.send(TotalReply { total }).await;
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
            Ok(())
        }))
    }
}
