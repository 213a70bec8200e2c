//! ServerView: what connections and handlers see of their server.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{denials::DenialLines, lifecycle::Lifecycle, refusal_log::RefusalLog, threads::Threads};
use crate::{
    Compression,
    base::log_limit::Seldom,
    client::inherited::InstanceId,
    conn::Settings,
    message::growth::{Budget, Grows},
};

/// What connections and handlers see of their server.
#[derive(Debug)]
pub(crate) struct ServerView {
    instance: InstanceId,
    /// The settings of each connection.
    settings: Arc<Settings>,
    compression: Option<Compression>,
    threads: Threads,
    lifecycle: Lifecycle,
    /// When the server was made.
    epoch: Instant,
    left_out: Seldom,
    refusals: RefusalLog,
    denial_lines: DenialLines,
    /// True if it only hands calls on, to a server of another protocol.
    is_bridge: bool,
}

impl ServerView {
    pub(crate) fn new(
        instance: InstanceId,
        settings: Arc<Settings>,
        compression: Option<Compression>,
        threads: Threads,
    ) -> Self {
        Self {
            instance,
            settings,
            compression,
            threads,
            lifecycle: Lifecycle::default(),
            epoch: Instant::now(),
            left_out: Seldom::new(LEFT_OUT),
            refusals: RefusalLog::default(),
            denial_lines: DenialLines::default(),
            is_bridge: false,
        }
    }

    /// Notes whether the server only hands calls on, to a server of another protocol.
    pub(crate) fn bridging(self, is_bridge: bool) -> Self {
        Self { is_bridge, ..self }
    }

    /// True if the server only hands calls on, to a server of another protocol.
    pub(crate) fn is_bridge(&self) -> bool {
        self.is_bridge
    }

    /// The id of the server, as it announces it to its peers.
    pub(crate) fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The settings of each connection.
    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// How messages are compressed for peers that accept it.
    pub(crate) fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// Whether the server may use threads of its own.
    pub(crate) fn threads(&self) -> Threads {
        self.threads
    }

    /// How far the server has come between serving and closed.
    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Returns how much memory a message of that type may take once it is decoded.
    #[inline]
    pub(crate) fn budget(&self, grows: Option<Grows>) -> Budget {
        Budget::new(grows, self.settings.decode_bytes)
    }

    /// The time since the server was made.
    pub(crate) fn age(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The log lines about denials of all its connections.
    pub(super) fn denial_lines(&self) -> &DenialLines {
        &self.denial_lines
    }

    /// The log lines about requests that a limit has refused.
    pub(crate) fn refusals(&self) -> &RefusalLog {
        &self.refusals
    }

    /// Logs that a part of a handler's status did not reach its caller.
    pub(crate) fn note_left_out(&self, procedure: &str, call: u64, text: &str) {
        if let Some(unsaid) = self.left_out.turn(self.age()) {
            tracing::warn!(
                procedure,
                call,
                text,
                unsaid,
                "a part of a handler's status was not sent"
            );
        }
    }
}

/// The shortest time between two log lines about parts of statuses that were not sent.
const LEFT_OUT: Duration = Duration::from_secs(60);
