//! Service: what a generated server implements.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{Incoming, handler::Handler};
use crate::{Procedure, Result, api::priority::Priorities, metrics::ServedProcedures};

/// What a generated server implements: a list of procedures, and how to run one of them.
///
/// Programs implement the generated trait of their service instead, and wrap it: `.service(KvServer::new(kv))`. This is what
/// generated code does:
///
/// ```
/// use rpc_runtime::{Context, server::{Handler, Incoming, Procedure, Service}};
///
/// static PROCEDURES: [Procedure; 1] = [Procedure::new("doc.v1.Echo/rpc_echo", 0x5a1c_66d0_17b5_11ee)];
///
/// struct EchoServer;
///
/// impl Service for EchoServer {
///     fn name(&self) -> &'static str {
///         "doc.v1.Echo"
///     }
///
///     fn procedures(&self) -> &'static [Procedure] {
///         &PROCEDURES
///     }
///
///     fn call(&self, index: usize, call: Incoming) -> Handler {
///         match index {
///             0 => call.handle(|_: Context, text: String| async move { Ok(text) }),
///             _ => call.unknown(),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a generated server",
    label = "this may implement the trait of a service, but only its server can be served",
    note = "wrap it in the server that was generated beside that trait: for a service `Kv`, \
            `.service(KvServer::new({Self}))`"
)]
pub trait Service: Send + Sync + 'static {
    /// Returns the full name of the service: `package.Service`.
    fn name(&self) -> &'static str;

    /// Returns all procedures; [`Service::call`] names one by its index here.
    ///
    /// Some may have paths of another service: of an older version that this one stands in for. Rules and middleware for the name of
    /// this service are for them, too.
    fn procedures(&self) -> &'static [Procedure];

    /// Returns the .proto file of the service and all that it imports: an encoded `google.protobuf.FileDescriptorSet`.
    ///
    /// Reflection shows it to callers. Generated servers have it, unless the build script says
    /// `Config::without_descriptors`. Default: empty.
    fn descriptors(&self) -> &'static [u8] {
        &[]
    }

    /// Returns whether a [`call`](Service::call) may stand for several one-way calls that came together.
    ///
    /// [`Incoming::handle`] then runs its closure for each, and the handler that `call` makes ends with all of them. So a service that
    /// does something around the handler of each call must return false. Default: false.
    fn takes_rows(&self) -> bool {
        false
    }

    /// Returns whether a policy decides about its calls: true for a [`Layered`](crate::middleware::Layered) service with one.
    ///
    /// A service whose procedures have [rules](Procedure::allowed_roles) is served only if it returns true, or if its server has a
    /// policy. Default: false.
    fn has_policy(&self) -> bool {
        false
    }

    /// Returns whether it is for operators: only callers that may terminate the server may call it.
    ///
    /// Without [`ServerBuilder::policy`](crate::server::ServerBuilder::policy) the [`TerminatePolicy`](crate::server::TerminatePolicy) of the
    /// server decides about each call. With one, the rule of [`TERMINATE`](crate::auth::TERMINATE) is that of each procedure that has no rule of
    /// its own. A call that is denied ends with PERMISSION_DENIED, not executed. Default: false.
    fn is_for_operators(&self) -> bool {
        false
    }

    /// Learns all services of its server, this one included, before the first call.
    ///
    /// It may be called again with the same services. Default: does nothing.
    ///
    /// # Errors
    ///
    /// The service cannot be served beside them: the server does not start, and says why.
    fn served_with(&self, services: &[&dyn Service]) -> Result<()> {
        let _ = services;
        Ok(())
    }

    /// Begins what has to be done before the server drains, and returns the rest of it; none if there is nothing to do.
    ///
    /// It is called once, when a drain is asked for and before anything else: the listeners still accept, and calls still start. The
    /// drain goes on when the future has ended, when the drain timeout is over, or when the server is aborted. The time counts as part of the
    /// drain timeout. A peer that asks for the drain by `terminate` gets its GOAWAY at once, so it makes its further calls by another
    /// connection. At SIGTERM the time of a [lame duck](crate::server::ServerBuilder::lame_duck) begins at the same moment, and is no part of the drain timeout.
    /// Default: none.
    fn before_drain(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }

    /// Makes the handler of `call`, a call of the procedure at `index`.
    fn call(&self, index: usize, call: Incoming) -> Handler;
}

/// Returns the priorities of the replies of `services`.
pub(crate) fn priorities(services: &[Arc<dyn Service>]) -> Priorities {
    let procedures = services.iter().flat_map(|service| service.procedures());
    Priorities::new(procedures.map(|procedure| (procedure.id(), procedure.priority())))
}

/// Returns the counters of the procedures of `services`.
pub(crate) fn served(services: &[Arc<dyn Service>]) -> ServedProcedures {
    let procedures = services.iter().flat_map(|service| service.procedures());
    ServedProcedures::new(procedures.map(|procedure| (procedure.id(), procedure.path())))
}
