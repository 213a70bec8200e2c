//! Queries: which connections and calls are listed, and how many.

use std::time::Duration;

/// Which connections are listed, and how many: see [`ConnectionQuery::run`].
///
/// ```
/// use rpc_runtime::inspect::ConnectionQuery;
///
/// // Pages of 100.
/// let mut after = 0;
/// loop {
///     let page = ConnectionQuery::new().after(after).most(100).run();
///     for connection in &page {
///         println!("{connection}");
///         after = connection.id();
///     }
///     if page.left_out() == 0 {
///         break;
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a query lists nothing until it runs"]
pub struct ConnectionQuery {
    pub(super) after: u64,
    pub(super) most: usize,
}

impl ConnectionQuery {
    /// Selects all connections, of which at most 1,000 are listed.
    pub fn new() -> Self {
        Self {
            after: 0,
            most: DEFAULT_MOST,
        }
    }

    /// Lists only connections with a higher number than `id`: the page behind the one that ended with it.
    pub fn after(mut self, id: u64) -> Self {
        self.after = id;
        self
    }

    /// Sets how many connections are listed, at most 10,000. Default: 1,000.
    pub fn most(mut self, connections: usize) -> Self {
        self.most = connections.min(MOST);
        self
    }
}

impl Default for ConnectionQuery {
    fn default() -> Self {
        Self::new()
    }
}

/// Which calls are listed, and how many: see [`CallQuery::run`].
///
/// ```
/// use std::time::Duration;
/// use rpc_runtime::inspect::CallQuery;
///
/// for call in CallQuery::new().procedure("kv.v1.Kv").slower_than(Duration::from_secs(1)).run() {
///     println!("{call}");
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a query lists nothing until it runs"]
pub struct CallQuery {
    pub(super) procedure: String,
    pub(super) slower_than: Duration,
    pub(super) connection: Option<u64>,
    pub(super) most: usize,
}

impl CallQuery {
    /// Selects all calls, of which at most 1,000 are listed.
    pub fn new() -> Self {
        Self {
            procedure: String::new(),
            slower_than: Duration::ZERO,
            connection: None,
            most: DEFAULT_MOST,
        }
    }

    /// Lists only calls of procedures whose path begins with `prefix`, such as `kv.v1.Kv/rpc_fetch` or `kv.v1`.
    pub fn procedure(mut self, prefix: impl Into<String>) -> Self {
        self.procedure = prefix.into();
        self
    }

    /// Lists only calls that are older than `age`.
    pub fn slower_than(mut self, age: Duration) -> Self {
        self.slower_than = age;
        self
    }

    /// Lists only calls of the connection with this number.
    pub fn connection(mut self, id: u64) -> Self {
        self.connection = Some(id);
        self
    }

    /// Sets how many calls are listed, at most 10,000. Default: 1,000.
    pub fn most(mut self, calls: usize) -> Self {
        self.most = calls.min(MOST);
        self
    }
}

impl Default for CallQuery {
    fn default() -> Self {
        Self::new()
    }
}

/// How many entries are listed if the query says nothing.
const DEFAULT_MOST: usize = 1000;
/// How many entries are listed at most.
const MOST: usize = 10_000;
