//! The options of a call, and the checks before it begins.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    Error, Metadata, Phase, Priority,
    api::trace_context::TraceContext,
    client::{deadline::Deadline, errors, inherited::InstanceId},
    conn::Shape,
    message::depth,
};

/// Options that every call carries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallOptions {
    pub(super) shape: Shape,
    pub(super) priority: Priority,
    /// How many calls it is nested in.
    pub(super) depth: u8,
    /// True: it fails while its server is away. False: it waits.
    pub(super) fails_fast: bool,
    /// True: it comes back when a server that refused it says so.
    pub(super) takes_hints: bool,
    /// True: it is a try of a balanced call. It takes a connection that is there, and never comes back by itself.
    pub(super) is_balanced: bool,
    /// True: it may run twice.
    pub(super) may_repeat: bool,
}

/// Options that few calls have. They are boxed, because calls are moved often.
#[derive(Clone, Debug, Default)]
pub(super) struct ExtraOptions {
    pub(super) metadata: Metadata,
    /// How many of the first entries are the client's, which an entry of the call replaces.
    defaults: usize,
    pub(super) within: Option<Instant>,
    /// The server of the handler that makes the call, from a task that it spawned.
    pub(super) origin: Option<InstanceId>,
    /// The idle timeout of its streams.
    pub(super) idle: Option<Duration>,
    /// The trace that the call belongs to.
    pub(super) trace: Option<TraceContext>,
    /// True if the program has said which trace that is.
    pub(super) is_trace_given: bool,
    /// The hash of the call's key, for balancers.
    pub(super) hash: Option<u64>,
    /// How long one try may take on one of several servers.
    pub(super) attempt_timeout: Option<Duration>,
}

impl ExtraOptions {
    /// The options of a call that has no other entries than those of its client.
    #[cold]
    pub(super) fn with_defaults(metadata: &Metadata) -> Box<Self> {
        Box::new(Self {
            metadata: metadata.clone(),
            defaults: metadata.len(),
            ..Self::default()
        })
    }

    /// Adds an entry of the call, in place of those of its client with this key.
    pub(super) fn add_metadata(&mut self, key: impl Into<String>, value: impl Into<Bytes>) {
        let key = key.into();
        if self.defaults > 0 {
            self.defaults = self.metadata.remove_among_first(self.defaults, &key);
        }
        self.metadata.append(key, value);
    }

    /// Adds entries of the call, as [`ExtraOptions::add_metadata`] does.
    pub(super) fn add_all_metadata(&mut self, metadata: Metadata) {
        if self.metadata.is_empty() {
            self.metadata = metadata;
            return;
        }
        for (key, value) in metadata {
            self.add_metadata(key, value);
        }
    }
}

/// Returns why a call cannot be made; none if it can.
#[inline]
pub(super) fn refusal(deadline: &Deadline, depth: u8, more: Option<&ExtraOptions>) -> Option<Error> {
    let keys = more.map_or(Ok(()), |more| more.metadata.check_keys());
    let fits = more.is_none_or(|more| more.metadata.fits());
    if fits && keys.is_ok() && depth <= depth::MAX && !deadline.has_passed() {
        return None;
    }
    Some(if deadline.has_passed() {
        errors::expired(deadline)
    } else if depth > depth::MAX {
        depth::too_deep()
    } else if let Err(text) = keys {
        errors::bad_metadata_key(text).with_phase(Phase::Queue)
    } else {
        errors::too_much_metadata().with_phase(Phase::Queue)
    })
}

pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
