//! Streams: the calls with streams that these clients make.

use std::sync::Arc;

use super::{SHOUT_LEN, User};
use crate::{
    api::v1::Ending,
    history::Outcome,
    script::Script,
    talk::{End, Talk, Way},
};

impl User {
    /// Makes a call with streams; whether it makes sense to call on.
    pub(super) fn talk(&self, talk: Talk) -> impl Future<Output = bool> + Send + use<> {
        let ticket = self.log.stream(self.number, talk.way.name(), false, talk.limit());
        let (probe, shared) = (self.probe.clone(), Arc::clone(&self.shared));
        async move {
            let moving = ticket.moving();
            match talk.talk(&probe, ticket.token(), &moving).await {
                Ok(End::Left) => {
                    ticket.end(Outcome::Cancelled);
                    shared.ended.send_modify(|ended| *ended += 1);
                    true
                }
                Ok(End::Well) => shared.note(ticket, Ok(())),
                Err(error) => shared.note(ticket, Err::<(), _>(error)),
            }
        }
    }

    /// Streams that end soon: most of them well.
    pub(super) fn quick_talk(&mut self) -> Talk {
        let way = [Way::List, Way::Gather, Way::Relay][self.random.usize(..3)];
        let messages = self.random.u32(..20);
        let (mut talk, len) = (self.endless(way), self.short_len());
        talk.messages = messages;
        talk.len = len;
        if way == Way::List {
            talk.script.count = messages;
            talk.script.len = len;
        }
        if self.random.u32(..8) == 0 {
            talk.script.ending = Ending::Refuse;
        }
        if self.random.u32(..20) == 0 {
            talk.leaves = Some(self.random.u32(..=messages));
        }
        talk
    }

    /// Streams that go on, and perhaps end within the drain.
    pub(super) fn slow_talk(&mut self) -> Talk {
        let micros = self.random.u32(500..4000);
        match self.random.u32(..4) {
            // Without an end.
            0 => {
                let mut talk = self.endless(Way::List);
                talk.script.micros = micros;
                talk
            }
            // For some time.
            1 | 2 => {
                let way = [Way::List, Way::Gather, Way::Relay][self.random.usize(..3)];
                let mut talk = self.endless(way);
                talk.messages = self.random.u32(1..200);
                talk.script.micros = micros;
                if way == Way::List {
                    talk.script.count = talk.messages;
                }
                talk
            }
            // Without a message from either side.
            _ => {
                let mut talk = self.endless(Way::Relay);
                talk.messages = 1;
                talk.script.count = 1;
                talk.script.ending = Ending::Hang;
                talk
            }
        }
    }

    /// A stream of long messages.
    pub(super) fn long_talk(&mut self) -> Talk {
        let mut talk = self.endless(Way::List);
        talk.script.count = 10;
        talk.script.len = SHOUT_LEN as u32;
        talk
    }

    fn endless(&mut self, way: Way) -> Talk {
        let len = self.short_len();
        Talk {
            way,
            script: Script {
                token: 0,
                count: u32::MAX,
                len,
                micros: 0,
                ending: Ending::Ok,
                apart: false,
            },
            messages: 0,
            len,
            abandons: false,
            leaves: None,
            micros: 0,
            timeout: None,
            idle: None,
        }
    }

    /// Draws the length of a stream's messages; some have several fragments.
    fn short_len(&mut self) -> u32 {
        match self.random.u32(..20) {
            0 => self.random.u32(..100_000),
            _ => self.random.u32(..300),
        }
    }
}
