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

    /// Generates clients only for the services that `path` matches.
    ///
    /// Of several calls that match a service, the last decides. Default: both halves.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// rpc_codegen::Config::new()
    ///     .server_only()
    ///     .client_only_for(".bank.v1.Accounts")
    ///     .compile_dir("proto")
    /// # }
    /// ```
    pub fn client_only_for(&mut self, path: impl Into<String>) -> &mut Self {
        self.choices.parts.push(path, Parts::Client);
        self
    }

    /// Generates traits and servers only for the services that `path` matches; see [`client_only_for`](Self::client_only_for).
    pub fn server_only_for(&mut self, path: impl Into<String>) -> &mut Self {
        self.choices.parts.push(path, Parts::Server);
        self
    }

    /// Adds `attribute` to the client type, such as `OrdersClient`, of every service that `path` matches.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// rpc_codegen::Config::new()
    ///     .client_attribute("Orders", "#[doc(alias = \"shop\")]")
    ///     .trait_attribute(".", "#[diagnostic::on_unimplemented(note = \"see the handbook\")]")
    ///     .compile_dir("proto")
    /// # }
    /// ```
    pub fn client_attribute(&mut self, path: impl Into<String>, attribute: impl Into<String>) -> &mut Self {
        self.choices.client_attributes.push(path, attribute.into());
        self
    }

    /// Adds `attribute` to the server type, such as `OrdersServer`, of every service that `path` matches.
    pub fn server_attribute(&mut self, path: impl Into<String>, attribute: impl Into<String>) -> &mut Self {
        self.choices.server_attributes.push(path, attribute.into());
        self
    }

    /// Adds `attribute` to the trait, such as `Orders`, of every service that `path` matches.
    pub fn trait_attribute(&mut self, path: impl Into<String>, attribute: impl Into<String>) -> &mut Self {
        self.choices.trait_attributes.push(path, attribute.into());
        self
    }

    /// Generates a second trait, such as `OrdersDyn`, for every service that `path` matches: one that `dyn` can be made of.
    ///
    /// Every implementation of `Orders` implements `OrdersDyn`, and `Arc<dyn OrdersDyn>` implements `Orders`. So a program can
    /// choose an implementation while it runs, and serve it. Each call makes one allocation more, and a stream of replies four.
    /// Default: none.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// rpc_codegen::Config::new()
    ///     .dyn_trait(".shop.v1.Orders")
    ///     .compile_dir("proto")
    /// # }
    /// ```
    ///
    /// ```ignore (needs generated code)
    /// let orders: Arc<dyn OrdersDyn> = if args.fake { Arc::new(Fake) } else { Arc::new(Database::open()?) };
    /// Server::builder().service(OrdersServer::new(orders)).listener(address).serve().await
    /// ```
    pub fn dyn_trait(&mut self, path: impl Into<String>) -> &mut Self {
        self.choices.dyn_traits.push(path, ());
        self
    }
}
