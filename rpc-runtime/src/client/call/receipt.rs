//! Receipt: what comes back beside a reply.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Metadata, Status, conn::Reply};

/// What comes back beside a reply: the handler's metadata, and how long the call waited and ran on the server.
///
/// A handle: the call fills the receipt that it was given a clone of.
///
/// ```no_run
/// # use rpc_runtime::{Client, Error, Procedure, Receipt};
/// # static FETCH: Procedure = Procedure::new("kv.v1.Kv/rpc_fetch", 1);
/// # async fn example(client: Client) -> Result<(), Error> {
/// let receipt = Receipt::new();
/// // With a stub: kv.send_recv().receipt(&receipt).fetch("dog").await?;
/// let value: String = client.call().receipt(&receipt).send_recv(&FETCH, "dog".to_owned()).await?;
/// println!("{value}, after {:?} in the handler", receipt.ran());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Receipt(Arc<Mutex<Filled>>);

#[derive(Debug, Default)]
struct Filled {
    metadata: Metadata,
    times: Option<(Duration, Duration)>,
}

impl Receipt {
    /// A receipt that no call has filled.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entries that the handler sent beside its reply, or beside its refusal; none before that.
    pub fn metadata(&self) -> Metadata {
        self.lock().metadata.clone()
    }

    /// How long the call waited on the server before its handler began; none before a reply, and if it was refused.
    pub fn queued(&self) -> Option<Duration> {
        self.lock().times.map(|(queued, _)| queued)
    }

    /// How long the handler ran; none before a reply, and if the call was refused.
    pub fn ran(&self) -> Option<Duration> {
        self.lock().times.map(|(_, ran)| ran)
    }

    pub(super) fn clear(&self) {
        *self.lock() = Filled::default();
    }

    pub(super) fn fill(&self, reply: &Reply) {
        *self.lock() = Filled {
            metadata: reply.metadata.clone(),
            times: Some((
                Duration::from_micros(reply.queue_us),
                Duration::from_micros(reply.run_us),
            )),
        };
    }

    pub(super) fn fill_refused(&self, status: &Status) {
        *self.lock() = Filled {
            metadata: status.metadata().clone(),
            times: None,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Filled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
