//! The options of services, most of them by path.

use super::Config;
use crate::choices::Parts;

/// # Services
///
/// Paths are as for messages: `.shop.v1.Orders`, `.shop.v1`, `Orders`, or `.` for all.
impl Config {
    /// Lets implementations of the services that `path` matches leave procedures out.
    ///
    /// The trait then has a default for each handler. It answers UNIMPLEMENTED with the name of the procedure. So a new
    /// procedure in the .proto file does not break implementations. Default: the compiler asks for every handler.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// rpc_codegen::Config::new()
    ///     .default_handlers(".shop.v1.Orders")
    ///     .compile_dir("proto")
    /// # }
    /// ```
    pub fn default_handlers(&mut self, path: impl Into<String>) -> &mut Self {
        self.choices.default_handlers.push(path, ());
        self
    }

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
