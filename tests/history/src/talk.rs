//! Talk: one call with streams, and the check of its replies.

use std::time::Duration;

use rpc_runtime::{Code, Error, Reply, Sender, Streaming, status::Phase};
use tokio::time::sleep;

use crate::{
    api::v1::{Ending, Item, ProbeClient},
    history::{Moving, Outcome},
    probe,
    script::{Script, is_of, item},
};

/// A call with streams.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) way: Way,
    /// The script of the handler, without the token.
    pub(crate) script: Script,
    /// The number and the length of the messages that the caller sends.
    pub(crate) messages: u32,
    pub(crate) len: u32,
    /// True if the caller drops its sender instead of finishing the stream.
    pub(crate) abandons: bool,
    /// The number of messages after which the caller drops the replies.
    pub(crate) leaves: Option<u32>,
    /// The pause before each read, in microseconds.
    pub(crate) micros: u32,
    /// The timeout of the call; without one, that of the client.
    pub(crate) timeout: Option<Duration>,
    /// The idle timeout.
    pub(crate) idle: Option<Duration>,
}

/// The shape of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    List,
    Gather,
    Relay,
}

/// The end of a call without an error.
pub(crate) enum End {
    Well,
    /// The caller dropped it.
    Left,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Gather => "gather",
            Self::Relay => "relay",
        }
    }
}

impl Talk {
    /// Returns the maximum number of messages that the handler reads.
    pub(crate) fn limit(&self) -> u32 {
        match self.way {
            Way::List => 0,
            Way::Gather | Way::Relay => self.script.count,
        }
    }

    /// True if the call may end by a timeout.
    pub(crate) fn is_hurried(&self) -> bool {
        self.timeout.is_some() || self.idle.is_some()
    }

    /// Makes the call, and returns its outcome and what is wrong with it.
    pub(crate) async fn call(
        &self,
        probe: &ProbeClient,
        token: u64,
        moving: &Moving,
    ) -> (Outcome, Option<String>) {
        match self.talk(probe, token, moving).await {
            Ok(End::Well) => (Outcome::Ok, None),
            Ok(End::Left) => (Outcome::Cancelled, None),
            Err(error) => {
                let strange = self.is_strange(&error, moving);
                let strange = strange.map(|what| format!("token {token}, {what}: {error}; {self:?}"));
                (Outcome::of(&error), strange)
            }
        }
    }

    /// Makes the call, and returns its end.
    pub(crate) async fn talk(&self, probe: &ProbeClient, token: u64, moving: &Moving) -> Result<End, Error> {
        let script = Script { token, ..self.script };
        let mut call = probe.send_recv();
        if let Some(timeout) = self.timeout {
            call = call.timeout(timeout);
        }
        if let Some(idle) = self.idle {
            call = call.idle_timeout(idle);
        }
        if self.way == Way::List {
            let Script {
                token,
                count,
                len,
                micros,
                ending,
                ..
            } = script;
            let items = call.list(token, count, len, micros, ending).await?;
            return self.read(items, script, moving).await;
        }
        let call = call.metadata(Script::KEY, script.to_string());
        if self.way == Way::Gather {
            let (sender, reply) = call.gather().await?;
            let (_, end) = tokio::join!(self.send(sender, script, moving), self.hear(reply, moving));
            return end;
        }
        let (sender, items) = call.relay().await?;
        let (_, end) = tokio::join!(
            self.send(sender, script, moving),
            self.read(items, script, moving)
        );
        end
    }

    /// Sends the messages. An error ends the call, which reports it.
    async fn send(&self, mut sender: Sender<Item>, script: Script, moving: &Moving) {
        for number in 0..self.messages {
            moving.offer();
            if sender.send(item(script.token, number, self.len)).await.is_err() {
                return;
            }
            moving.sent();
        }
        if !self.abandons {
            moving.finish();
            sender.finish();
        }
    }

    async fn hear(&self, reply: Reply<u32>, moving: &Moving) -> Result<End, Error> {
        if self.leaves.is_some() {
            sleep(Duration::from_micros(self.micros.into())).await;
            return Ok(End::Left);
        }
        moving.counted(reply.await?);
        Ok(End::Well)
    }

    async fn read(&self, mut items: Streaming<Item>, script: Script, moving: &Moving) -> Result<End, Error> {
        while self.leaves.is_none_or(|leaves| moving.flow().read < leaves) {
            if self.micros > 0 {
                sleep(Duration::from_micros(self.micros.into())).await;
            }
            let Some(item) = items.message().await? else {
                return Ok(End::Well);
            };
            // The handler echoes the messages.
            let len = if self.way == Way::List {
                script.len
            } else {
                self.len
            };
            if is_of(&item, script.token) && item.payload.len() == len as usize {
                moving.read(item.number);
            } else {
                moving.read_nonsense();
            }
        }
        Ok(End::Left)
    }

    /// Returns what is wrong with an error, for a server that restarts.
    fn is_strange(&self, error: &Error, moving: &Moving) -> Option<&'static str> {
        let flow = moving.flow();
        let is_possible = match error.code() {
            Code::Unavailable | Code::DeadlineExceeded => true,
            Code::NotFound => {
                let refuses = self.script.ending == Ending::Refuse;
                refuses && error.message() == probe::refusal().message()
            }
            Code::Unknown => self.script.ending == Ending::Crash && error.message() == "handler panicked",
            Code::Cancelled => self.abandons && error.status().is_none(),
            _ => false,
        };
        if !is_possible {
            return Some("an error that cannot be");
        }
        // After a message was read or sent, the phase is that of a stream.
        let has_moved = flow.read > 0 || flow.sent > 0;
        if has_moved && error.phase() != Some(Phase::Stream) {
            return Some("a phase that cannot be");
        }
        None
    }
}
