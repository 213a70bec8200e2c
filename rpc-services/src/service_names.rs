//! The names of a service: its own, and those of the older versions that it stands in for.

use std::collections::BTreeSet;

use rpc_runtime::server::Service;

/// Returns all names under which callers know `service`.
pub(crate) fn service_names(service: &dyn Service) -> BTreeSet<&'static str> {
    let of_procedures = service.procedures().iter().map(|procedure| procedure.service());
    of_procedures.chain([service.name()]).collect()
}
