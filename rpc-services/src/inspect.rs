//! Inspect: `rpc.inspect.v1`, which shows what a process does now.

mod answers;
mod on_the_wire;
mod procedures;

use rpc_runtime::server::{Handler, Incoming, Procedure, Service};

use self::answers::Answers;
#[doc(hidden)]
pub use self::procedures::Measured;
use crate::rpc::inspect::v1::InspectServer;

/// The service `rpc.inspect.v1.Inspect`: shows what the servers and clients of the process do now.
///
/// It lists connections, calls in flight, and limits with their use, as [`rpc_runtime::inspect`] does within the process, and procedures with
/// their rates, errors and latencies, as [`rpc_runtime::metrics`] counts them.
///
/// Only callers that may terminate the server may call it. Without [`policy`](rpc_runtime::server::ServerBuilder::policy) that is what
/// [`TerminatePolicy`](rpc_runtime::server::TerminatePolicy) allows: by default the server's own user by a Unix socket, and this process. Over
/// loopback TCP a client proves its user by [`with_user_proof`](rpc_runtime::Client::with_user_proof); a gRPC caller cannot, and needs
/// [`TerminatePolicy::loopback`](rpc_runtime::server::TerminatePolicy::loopback) or another policy. With a policy the rule of
/// [`TERMINATE`](rpc_runtime::auth::TERMINATE) holds, unless `rpc.inspect.v1.Inspect` has one of its own.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// use rpc_runtime::Server;
/// use rpc_services::{
///     Inspect,
///     rpc::inspect::v1::{ConnectionsRequest, InspectClient},
/// };
///
/// let server = Server::builder().service(Inspect::new()).listener("mem:inspect").signals(false).bind().await?;
/// let serving = tokio::spawn(server.serve());
///
/// let client = InspectClient::connect("mem:inspect").await?;
/// for one in client.send_recv().connections(ConnectionsRequest::default()).await?.connections {
///     println!("{} {} calls={}", one.peer, one.stage, one.calls_served);
/// }
/// # client.terminate().await?;
/// # serving.await.unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until a server serves it"]
pub struct Inspect {
    server: InspectServer<Answers>,
}

impl Inspect {
    /// Makes the service.
    pub fn new() -> Self {
        Self {
            server: InspectServer::new(Answers),
        }
    }
}

impl Default for Inspect {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for Inspect {
    fn name(&self) -> &'static str {
        self.server.name()
    }

    fn procedures(&self) -> &'static [Procedure] {
        self.server.procedures()
    }

    fn descriptors(&self) -> &'static [u8] {
        self.server.descriptors()
    }

    fn is_for_operators(&self) -> bool {
        true
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        self.server.call(index, call)
    }
}
