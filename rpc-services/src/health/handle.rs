//! HealthHandle: sets the status of a server and of its services.

use std::sync::Arc;

use super::statuses::{ServingStatus, Statuses};

/// Sets the status of a server and of its services.
///
/// Cheap to clone; a handle does not keep the server running. [`Health::handle`](crate::Health::handle) makes one.
///
/// ```
/// use rpc_services::{Health, ServingStatus};
///
/// let handle = Health::new().handle();
/// assert_eq!(handle.get(""), Some(ServingStatus::Serving));
/// handle.set("shop.v1.Orders", ServingStatus::NotServing);
/// assert_eq!(handle.get("shop.v1.Orders"), Some(ServingStatus::NotServing));
/// handle.remove("shop.v1.Orders");
/// assert_eq!(handle.get("shop.v1.Orders"), None);
/// ```
#[derive(Clone, Debug)]
pub struct HealthHandle(Arc<Statuses>);

impl HealthHandle {
    pub(super) fn new(statuses: Arc<Statuses>) -> Self {
        Self(statuses)
    }

    /// Sets the status of a service, by its full name: `package.Service`. The name "" is that of the server itself.
    ///
    /// The name may be any text that callers ask for. The server's status does not follow from those of its services, nor the other way
    /// round. Once a drain is asked for, everything is NOT_SERVING, whatever is set.
    pub fn set(&self, service: impl Into<String>, status: ServingStatus) {
        self.0.set(service.into(), status);
    }

    /// Makes a service unknown: `Check` fails with NOT_FOUND, and watchers are told SERVICE_UNKNOWN.
    pub fn remove(&self, service: &str) {
        self.0.remove(service);
    }

    /// Returns the status of a service, as callers see it; none if it is not known.
    pub fn get(&self, service: &str) -> Option<ServingStatus> {
        self.0.lock().of(service)
    }

    /// Returns true once a drain of the server is asked for: everything is NOT_SERVING from then on.
    pub fn is_draining(&self) -> bool {
        self.0.lock().is_ending()
    }
}
