//! Health: `grpc.health.v1`, which says whether a server and its services can take calls.

mod answers;
mod handle;
mod statuses;
mod watcher;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use rpc_runtime::{
    Result,
    server::{Handler, Incoming, Procedure, Service},
};
use tokio::time::timeout;

use self::{answers::Answers, statuses::Statuses};
pub use self::{handle::HealthHandle, statuses::ServingStatus};
use crate::{grpc::health::v1::HealthServer, service_names::service_names};

/// The service `grpc.health.v1.Health`: says whether a server and its services can take calls.
///
/// All services of the server are SERVING from the start, and so is the server itself, whose name is "". A [`HealthHandle`] changes that.
///
/// When a drain is asked for, by a terminate, by a signal or by the program, everything is NOT_SERVING before anything else happens, and stays so:
/// listeners still accept, and calls still start. The drain goes on when those who watch have been told, at most a second later. Those who ask now and
/// then need more time to learn of it: [`ServerBuilder::lame_duck`](rpc_runtime::server::ServerBuilder::lame_duck) gives it.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// use rpc_runtime::Server;
/// use rpc_services::{Health, ServingStatus, grpc::health::v1::{HealthClient, health_check_response}};
///
/// let health = Health::new();
/// let handle = health.handle();
/// let server = Server::builder().service(health).listener("mem:health").signals(false).bind().await?;
/// let serving = tokio::spawn(server.serve());
///
/// let client = HealthClient::connect("mem:health").await?;
/// handle.set("kv.v1.Kv", ServingStatus::NotServing);
/// let reply = client.send_recv().check("kv.v1.Kv").await?;
/// assert_eq!(reply.status(), health_check_response::ServingStatus::NotServing);
/// # client.terminate().await?;
/// # serving.await.unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until a server serves it"]
pub struct Health {
    statuses: Arc<Statuses>,
    server: HealthServer<Answers>,
}

impl Health {
    /// Makes the service. Everything is SERVING.
    pub fn new() -> Self {
        let statuses = Arc::<Statuses>::default();
        Self {
            statuses: Arc::clone(&statuses),
            server: HealthServer::new(Answers(statuses)),
        }
    }

    /// Returns a handle, which sets the status of the server and of its services.
    pub fn handle(&self) -> HealthHandle {
        HealthHandle::new(Arc::clone(&self.statuses))
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for Health {
    fn name(&self) -> &'static str {
        self.server.name()
    }

    fn procedures(&self) -> &'static [Procedure] {
        self.server.procedures()
    }

    fn descriptors(&self) -> &'static [u8] {
        self.server.descriptors()
    }

    fn served_with(&self, services: &[&dyn Service]) -> Result<()> {
        let names = services.iter().flat_map(|service| service_names(*service));
        self.statuses.add_all(names);
        Ok(())
    }

    fn before_drain(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let has_watchers = self.statuses.end();
        if !has_watchers {
            return None;
        }
        let statuses = Arc::clone(&self.statuses);
        Some(Box::pin(async move {
            // A watcher that does not read is not waited for.
            let _ = timeout(TELLING, statuses.all_told()).await;
        }))
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        self.server.call(index, call)
    }
}

/// How long a drain waits for watchers to be told.
const TELLING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::{watcher::Watcher, *};

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_until_a_watcher_has_sent_the_news() {
        let health = Health::new();
        let mut watcher = Watcher::new(&health.statuses, String::new());
        assert_eq!(watcher.next().await, Some(ServingStatus::Serving));
        assert!(!health.handle().is_draining());
        let mut before = health.before_drain().expect("somebody watches");
        assert!(health.handle().is_draining());
        assert!(timeout(TELLING / 2, &mut before).await.is_err());
        assert_eq!(watcher.next().await, Some(ServingStatus::NotServing));
        // It asks for more when that is sent.
        assert!(timeout(Duration::ZERO, watcher.next()).await.is_err());
        timeout(TELLING / 4, before).await.expect("it is told");
        drop(watcher);
        assert!(health.before_drain().is_none(), "nobody watches");
    }
}
