//! The options of services, most of them by path.

use super::Config;
use crate::choices::Parts;

/// # Services
///
/// Paths are as for messages: `.shop.v1.Orders`, `.shop.v1`, `Orders`, or `.` for all.
impl Config {
    /// Generates clients only, without traits and servers.
    ///
    /// These clients have no `in_process`, because it takes a server.
    pub fn client_only(&mut self) -> &mut Self {
        self.choices.parts.push(".", Parts::Client);
        self
    }

    /// Generates traits and servers only, without clients.
    pub fn server_only(&mut self) -> &mut Self {
        self.choices.parts.push(".", Parts::Server);
        self
    }
}
