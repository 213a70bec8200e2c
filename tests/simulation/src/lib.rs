//! A toy service with a disk, with and without a bug that only a crash at the wrong moment shows. The simulation
//! in tests/it/planted_bug.rs finds the bug.

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

/// The disk. It survives a crash, which drops the tasks of a node but not the values of the test.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Contents>>);

#[derive(Clone, Debug, Default)]
struct Contents {
    total: u64,
    tickets: HashSet<String>,
}

/// The place where a counter keeps the tickets that it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tickets {
    /// On the disk, beside the total.
    OnDisk,
    /// In the process. This is the bug: a caller that repeats its call after a crash is counted twice.
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
    /// Makes a counter that continues from the disk.
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
