//! The names of the items generated for a service.

use super::naming::{camel, camel_with, procedures_of};
use crate::target::Target;

/// The identifiers of the items generated for one service, in the module of its package.
///
/// A name that a message has gets a `_` at its end.
#[derive(Clone, Debug)]
pub(crate) struct ServiceNames {
    pub(crate) service: String,
    pub(crate) list: String,
    pub(crate) server: String,
    /// The companion trait for `dyn`.
    pub(crate) dyn_trait: String,
    pub(crate) client: String,
    pub(crate) send: String,
    pub(crate) send_recv: String,
}

impl ServiceNames {
    /// The names for the service `name` if nothing else has them.
    pub(super) fn new(name: &str) -> Self {
        Self {
            service: camel(name),
            list: procedures_of(name),
            server: camel_with(name, "Server"),
            dyn_trait: camel_with(name, "Dyn"),
            client: camel_with(name, "Client"),
            send: camel_with(name, "Send"),
            send_recv: camel_with(name, "SendRecv"),
        }
    }

    /// The names of what is generated for the service `full_name` besides its trait, each with what it names.
    pub(super) fn beside_the_trait(
        &mut self,
        full_name: &str,
        target: &Target<'_>,
    ) -> Vec<(&'static str, &mut String)> {
        let parts = target.parts(full_name);
        let mut names = vec![("the list of procedures", &mut self.list)];
        if parts.server() {
            names.push(("the server type", &mut self.server));
            if target.choices.dyn_traits.contains(full_name) {
                names.push(("the trait for `dyn`", &mut self.dyn_trait));
            }
        }
        if parts.client() {
            names.push(("the client type", &mut self.client));
            names.push(("the type behind `send()`", &mut self.send));
            names.push(("the type behind `send_recv()`", &mut self.send_recv));
        }
        names
    }
}
