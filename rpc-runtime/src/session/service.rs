//! Service: what a generated server implements.

use std::sync::Arc;

use super::{Incoming, handler::Handler};
use crate::{Procedure, api::priority::Priorities};

/// What a generated server implements: a list of procedures, and how to run one of them.
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
    fn procedures(&self) -> &'static [Procedure];

    /// Makes the handler of `call`, a call of the procedure at `index`.
    fn call(&self, index: usize, call: Incoming) -> Handler;
}

/// Returns the priorities of the replies of `services`.
pub(crate) fn priorities(services: &[Arc<dyn Service>]) -> Priorities {
    let procedures = services.iter().flat_map(|service| service.procedures());
    Priorities::new(procedures.map(|procedure| (procedure.id(), procedure.priority())))
}
