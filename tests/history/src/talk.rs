//! Talk: one call with streams to be made, and whether its answers are the right ones.

use std::time::Duration;

use rpc_runtime::{Code, Error, Reply, Sender, Streaming, status::Phase};
use tokio::time::sleep;

use crate::{
    api::v1::{Ending, Item, ProbeClient},
    history::{Moving, Outcome},
    probe,
    script::{Script, is_of, item},
};

/// One call with streams to be made.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) way: Way,
    /// What the handler does, but for the token.
    pub(crate) script: Script,
    /// How many messages the caller sends, if it sends any, and how long each is.
    pub(crate) messages: u32,
    pub(crate) len: u32,
    /// Whether it drops its sender instead of saying that these are all.
    pub(crate) abandons: bool,
    /// After how many messages it drops what it reads.
    pub(crate) leaves: Option<u32>,
    /// How long it waits before it reads each, in microseconds.
    pub(crate) micros: u32,
    /// How long the call may take; the client's own timeout if none.
    pub(crate) timeout: Option<Duration>,
    /// How long nothing may move.
    pub(crate) idle: Option<Duration>,
}

/// Which sides are streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    List,
    Gather,
    Relay,
}

/// How a call was left without an error.
pub(crate) enum End {
    Well,
    /// Its caller went away.
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
    /// How many messages the handler reads at most.
    pub(crate) fn limit(&self) -> u32 {
        match self.way {
            Way::List => 0,
            Way::Gather | Way::Relay => self.script.count,
        }
    }

    /// Whether the call may end because of the time.
    pub(crate) fn is_hurried(&self) -> bool {
        self.timeout.is_some() || self.idle.is_some()
    }

    /// Makes the call: how it ended, and what is strange about that.
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

    /// Makes the call, and tells how it was left.
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

    /// Sends the messages; what ends that ends the call, and is heard of there.
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
            // A relay sends back what it was sent.
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

    /// What is wrong with an error, even if the server comes and goes.
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
        // One of which a message was read, or sent, has begun to stream.
        let has_moved = flow.read > 0 || flow.sent > 0;
        if has_moved && error.phase() != Some(Phase::Stream) {
            return Some("a phase that cannot be");
        }
        None
    }
}
