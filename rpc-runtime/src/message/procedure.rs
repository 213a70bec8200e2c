//! Procedure: the facts about one procedure that generated code states.

use crate::{
    api::priority::Priority,
    message::{
        growth::{Grows, Growth},
        nesting::Nesting,
    },
};

/// One procedure of a service, as generated code describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Procedure {
    path: &'static str,
    id: u64,
    run: Run,
    request_stream: bool,
    reply_stream: bool,
    priority: Priority,
    request_growth: Option<Grows>,
    reply_growth: Option<Grows>,
    request_nesting: Option<Nesting>,
    reply_nesting: Option<Nesting>,
    allowed_roles: &'static [&'static str],
    hash_field: Option<u32>,
    is_idempotent: bool,
}

/// Where the handler of a procedure runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Run {
    /// First polled in the order of arrival; moved to its own task when it has to wait.
    #[default]
    InOrder,
    /// In its own task from the start, for handlers that compute for a long time.
    Spawn,
    /// On the blocking pool, for handlers that block their thread.
    Blocking,
}

impl Procedure {
    /// Creates the procedure `path`, such as `package.Service/Name`, with the wire id `id`.
    pub const fn new(path: &'static str, id: u64) -> Self {
        Self {
            path,
            id,
            run: Run::InOrder,
            request_stream: false,
            reply_stream: false,
            priority: Priority::Normal,
            request_growth: None,
            reply_growth: None,
            request_nesting: None,
            reply_nesting: None,
            allowed_roles: &[],
            hash_field: None,
            is_idempotent: false,
        }
    }

    /// Runs the handlers in their own tasks from the start.
    #[must_use]
    pub const fn spawn(mut self) -> Self {
        self.run = Run::Spawn;
        self
    }

    /// Runs the handlers where they may block their thread.
    #[must_use]
    pub const fn blocking(mut self) -> Self {
        self.run = Run::Blocking;
        self
    }

    /// States that callers send a stream of requests.
    #[must_use]
    pub const fn with_request_stream(mut self) -> Self {
        self.request_stream = true;
        self
    }

    /// States that the handler answers with a stream of replies.
    #[must_use]
    pub const fn with_reply_stream(mut self) -> Self {
        self.reply_stream = true;
        self
    }

    /// Sets a priority other than [`Priority::Normal`].
    #[must_use]
    pub const fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the row of `growth` that describes the requests.
    #[must_use]
    pub const fn with_request_growth(mut self, growth: &'static Growth, row: usize) -> Self {
        self.request_growth = Some(growth.row(row));
        self
    }

    /// Sets the row of `growth` that describes the replies.
    #[must_use]
    pub const fn with_reply_growth(mut self, growth: &'static Growth, row: usize) -> Self {
        self.reply_growth = Some(growth.row(row));
        self
    }

    /// States that requests may nest without end.
    #[must_use]
    pub const fn with_request_nesting(mut self, nesting: Nesting) -> Self {
        self.request_nesting = Some(nesting);
        self
    }

    /// States that replies may nest without end.
    #[must_use]
    pub const fn with_reply_nesting(mut self, nesting: Nesting) -> Self {
        self.reply_nesting = Some(nesting);
        self
    }

    /// Sets the rule: the roles that may call it.
    #[must_use]
    pub const fn with_allowed_roles(mut self, roles: &'static [&'static str]) -> Self {
        self.allowed_roles = roles;
        self
    }

    /// Sets the number of the request's field that is the key of a call, by which a [balancer](crate::balance) may pick its server.
    #[must_use]
    pub const fn with_hash_field(mut self, number: u32) -> Self {
        self.hash_field = Some(number);
        self
    }

    /// States that a call may run twice without harm.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }

    /// The number of the request's field that is the key of a call; none if it has none.
    pub const fn hash_field(&self) -> Option<u32> {
        self.hash_field
    }

    /// Returns true if a call may run twice without harm: the .proto gives it an `idempotency_level`.
    pub const fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// The path, `package.Service/Name`, as the .proto spells it.
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// Returns the part of the path before the slash: `package.Service`.
    pub fn service(&self) -> &'static str {
        self.path
            .split_once('/')
            .map_or(self.path, |(service, _)| service)
    }

    /// Returns whether `path` is that of the procedure, or of its service.
    pub(crate) fn is_at(&self, path: &str) -> bool {
        path == self.path || path == self.service()
    }

    /// The id on the wire: the first 8 bytes, little-endian, of the path's SHA-256.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Returns true if callers send a stream of requests.
    pub const fn has_request_stream(&self) -> bool {
        self.request_stream
    }

    /// Returns true if the handler answers with a stream of replies.
    pub const fn has_reply_stream(&self) -> bool {
        self.reply_stream
    }

    /// The priority that the .proto declares.
    pub const fn priority(&self) -> Priority {
        self.priority
    }

    /// The roles that may call it, as `allow` in the .proto lists them; empty without a rule.
    ///
    /// `anyone` stands for every caller, and `authenticated` for every caller that is known. A [`Policy`](crate::auth::Policy)
    /// decides by them.
    pub const fn allowed_roles(&self) -> &'static [&'static str] {
        self.allowed_roles
    }

    /// How requests grow when they are decoded.
    pub(crate) const fn request_growth(&self) -> Option<Grows> {
        self.request_growth
    }

    /// How replies grow when they are decoded.
    pub(crate) const fn reply_growth(&self) -> Option<Grows> {
        self.reply_growth
    }

    /// The check of a request before it is encoded.
    pub(crate) const fn request_nesting(&self) -> Option<Nesting> {
        self.request_nesting
    }

    /// The check of a reply before it is encoded.
    pub(crate) const fn reply_nesting(&self) -> Option<Nesting> {
        self.reply_nesting
    }

    pub(crate) const fn run(&self) -> Run {
        self.run
    }
}
