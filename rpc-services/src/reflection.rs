//! Reflection: `grpc.reflection.v1` and `v1alpha`, which say what a server serves.

mod answers;
mod files;
mod raw_fields;
mod served_files;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use rpc_runtime::{
    Result,
    server::{Handler, Incoming, Procedure, Service},
};

use self::{answers::Answers, served_files::ServedFiles};
use crate::grpc::reflection::{v1, v1alpha};

/// The services `grpc.reflection.v1.ServerReflection` and `grpc.reflection.v1alpha.ServerReflection`: say what a server serves.
///
/// Tools such as grpcurl learn from it the services of the server, their procedures and messages, and need no .proto files. The
/// descriptors are those that generated servers carry. A service without descriptors is known by its name only.
///
/// Calls of it pass the middleware and the policy of the server, as calls of any service do. A rule or middleware for
/// `grpc.reflection.v1.ServerReflection` is for both versions. It does not look at what its caller may call: whoever may call it sees all
/// services, but for those that are [left out](Reflection::leave_out).
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// use rpc_runtime::Server;
/// use rpc_services::{Health, Reflection};
///
/// let server = Server::builder()
///     .service(Health::new())
///     .service(Reflection::new().leave_out("grpc.health.v1.Health"))
///     .listener("mem:reflection")
///     .bind()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until a server serves it"]
pub struct Reflection {
    left_out: BTreeSet<String>,
    /// What it shows, once its server is known.
    served: Arc<OnceLock<ServedFiles>>,
    v1: v1::ServerReflectionServer<Answers>,
    v1alpha: v1alpha::ServerReflectionServer<Answers>,
}

impl Reflection {
    /// Makes the service. It shows all services of its server.
    pub fn new() -> Self {
        let served = Arc::new(OnceLock::new());
        Self {
            left_out: BTreeSet::new(),
            served: Arc::clone(&served),
            v1: v1::ServerReflectionServer::new(Answers(Arc::clone(&served))),
            v1alpha: v1alpha::ServerReflectionServer::new(Answers(served)),
        }
    }

    /// Leaves a service out, by its full name: `package.Service`. Default: no service.
    ///
    /// It is not listed, and its procedures are not found. Its .proto file is shown without it, if another service needs that, and otherwise not
    /// at all. The server does not start if it has no service of that name.
    pub fn leave_out(mut self, service: impl Into<String>) -> Self {
        self.left_out.insert(service.into());
        self
    }
}

impl Default for Reflection {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for Reflection {
    fn name(&self) -> &'static str {
        self.v1.name()
    }

    fn procedures(&self) -> &'static [Procedure] {
        static BOTH: OnceLock<Vec<Procedure>> = OnceLock::new();
        BOTH.get_or_init(|| [self.v1.procedures(), self.v1alpha.procedures()].concat())
    }

    fn descriptors(&self) -> &'static [u8] {
        static BOTH: OnceLock<Vec<u8>> = OnceLock::new();
        // The files of two sets are one set.
        BOTH.get_or_init(|| [self.v1.descriptors(), self.v1alpha.descriptors()].concat())
    }

    fn served_with(&self, services: &[&dyn Service]) -> Result<()> {
        let served = ServedFiles::new(services, &self.left_out)?;
        // It is called again with the same services only.
        let _ = self.served.set(served);
        Ok(())
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match index.checked_sub(self.v1.procedures().len()) {
            None => self.v1.call(index, call),
            Some(index) => self.v1alpha.call(index, call),
        }
    }
}
