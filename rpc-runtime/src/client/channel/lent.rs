//! A channel over a connection that a server lends: by which its handlers call their caller.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{Channel, Ours, Stage, State};
use crate::{
    Compression,
    client::{
        backoff::Backoff,
        connected::Connected,
        keeper::Target,
        route::{Place, Route},
        standing::Standing,
        state::Shown,
    },
    conn::Settings,
    driver::Link,
};

/// A connection of a server, by which it calls its peer.
impl Channel {
    /// A channel over one connection that somebody else keeps, and has to tell of its end by [`Channel::ended`]. It makes
    /// no other, and closes nothing but itself.
    pub(crate) fn over_connection(
        link: &Arc<Link>,
        peer: Arc<str>,
        settings: Arc<Settings>,
        compression: Option<Compression>,
    ) -> Arc<Self> {
        let place = Place::new(Target::Lent, Arc::clone(&peer));
        let (hold, _) = oneshot::channel();
        let connected = Arc::new(Connected {
            link: Arc::clone(link),
            peer: Arc::clone(&peer),
            baton: None,
            place: 0,
            _hold: hold,
        });
        let stage = Stage::Open {
            connected,
            early: true,
            ready: Some(Instant::now()),
            beside: None,
        };
        let mut state = State::new(Route::new(vec![place]), Backoff::new(fastrand::Rng::new()));
        state.stage = stage;
        let channel = Arc::new(Self {
            address: peer,
            addresses: 1,
            bad: None,
            ours: Ours::No,
            services: None,
            settings,
            compression,
            connect_timeout: Duration::ZERO,
            standing: Standing::new(),
            state: Mutex::new(state),
            changed: Arc::default(),
            shown: watch::Sender::new(Shown::NEW),
            settling: tokio::sync::Mutex::new(()),
        });
        channel.publish(channel.lock());
        channel
    }
}
