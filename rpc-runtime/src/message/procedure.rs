//! Procedure: what the generator writes down of one procedure.

use crate::{
    api::priority::Priority,
    message::{
        growth::{Grows, Growth},
        nesting::Nesting,
    },
};

/// One procedure of a service, as the generator wrote it down.
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
}

/// Where the handler of a procedure runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Run {
    /// First polled in the order of arrival, moved to a task of its own when it has to wait.
    #[default]
    InOrder,
    /// In a task of its own from the start: for handlers that compute for long.
    Spawn,
    /// On the blocking pool: for handlers that block their thread.
    Blocking,
}

impl Procedure {
    /// The procedure `path`, `package.Service/Name`, whose wire id is `id`.
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
        }
    }

    /// The same procedure, whose handlers run in tasks of their own.
    #[must_use]
    pub const fn spawn(mut self) -> Self {
        self.run = Run::Spawn;
        self
    }

    /// The same procedure, whose handlers may block their thread.
    #[must_use]
    pub const fn blocking(mut self) -> Self {
        self.run = Run::Blocking;
        self
    }

    /// The same procedure, whose callers send a stream of requests.
    #[must_use]
    pub const fn with_request_stream(mut self) -> Self {
        self.request_stream = true;
        self
    }

    /// The same procedure, which answers with a stream of replies.
    #[must_use]
    pub const fn with_reply_stream(mut self) -> Self {
        self.reply_stream = true;
        self
    }

    /// The same procedure, with another priority than [`Priority::Normal`].
    #[must_use]
    pub const fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The same procedure, in whose requests that multiplies what `growth` says in `row`.
    #[must_use]
    pub const fn with_request_growth(mut self, growth: &'static Growth, row: usize) -> Self {
        self.request_growth = Some(growth.row(row));
        self
    }

    /// The same procedure, in whose replies that multiplies what `growth` says in `row`.
    #[must_use]
    pub const fn with_reply_growth(mut self, growth: &'static Growth, row: usize) -> Self {
        self.reply_growth = Some(growth.row(row));
        self
    }

    /// The same procedure, whose requests can be nested without end.
    #[must_use]
    pub const fn with_request_nesting(mut self, nesting: Nesting) -> Self {
        self.request_nesting = Some(nesting);
        self
    }

    /// The same procedure, whose replies can be nested without end.
    #[must_use]
    pub const fn with_reply_nesting(mut self, nesting: Nesting) -> Self {
        self.reply_nesting = Some(nesting);
        self
    }

    /// `package.Service/Name`, as the .proto spells it.
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// The first 8 bytes, little-endian, of the path's SHA-256.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Whether its callers send a stream of requests.
    pub const fn has_request_stream(&self) -> bool {
        self.request_stream
    }

    /// Whether it answers with a stream of replies.
    pub const fn has_reply_stream(&self) -> bool {
        self.reply_stream
    }

    /// What goes first, as the .proto says.
    pub const fn priority(&self) -> Priority {
        self.priority
    }

    /// What multiplies in a request.
    pub(crate) const fn request_growth(&self) -> Option<Grows> {
        self.request_growth
    }

    /// What multiplies in a reply.
    pub(crate) const fn reply_growth(&self) -> Option<Grows> {
        self.reply_growth
    }

    /// What is asked of a request before it is encoded.
    pub(crate) const fn request_nesting(&self) -> Option<Nesting> {
        self.request_nesting
    }

    /// What is asked of a reply before it is encoded.
    pub(crate) const fn reply_nesting(&self) -> Option<Nesting> {
        self.reply_nesting
    }

    pub(crate) const fn run(&self) -> Run {
        self.run
    }
}
