//! A channel on a connection of a server: handlers call their caller by it.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    Channel, ChannelStage, ChannelState, Ownership,
    addresses::{AddressEntry, Addresses, ConnectTarget},
    backoff::Backoff,
    connection::ClientConnection,
    retry_budget::RetryBudget,
    state::PublishedState,
};
use crate::{
    Compression, Transport,
    conn::Settings,
    driver::SharedConnection,
    metrics::{CalledMeter, Protocol},
};

/// Construction on the connection of a server.
impl Channel {
    /// A channel on one connection that belongs to a server. The server has to report its end by [`Channel::ended`].
    /// The channel makes no other connection, and does not close this one.
    pub(crate) fn over_connection(
        shared: &Arc<SharedConnection>,
        peer: Arc<str>,
        settings: Arc<Settings>,
        compression: Option<Compression>,
    ) -> Arc<Self> {
        let place = AddressEntry::new(ConnectTarget::Lent, Arc::clone(&peer));
        let (guard, _) = oneshot::channel();
        let connected = Arc::new(ClientConnection {
            shared: Arc::clone(shared),
            peer: Arc::clone(&peer),
            is_loopback: false,
            transport: Transport::Custom,
            protocol: Protocol::Native,
            breaker: None,
            place: 0,
            _guard: guard,
        });
        let stage = ChannelStage::Open {
            connected,
            early: true,
            ready: Some(Instant::now()),
            beside: None,
        };
        let meter = settings.is_metered.then(|| CalledMeter::new(Protocol::Native));
        let mut state = ChannelState::new(Addresses::new(vec![place]), Backoff::new(fastrand::Rng::new()));
        state.stage = stage;
        state.had_connection = true;
        let channel = Arc::new(Self {
            address: peer,
            addresses: 1,
            bad: None,
            ownership: Ownership::Borrowed,
            callbacks: None,
            procedures: None,
            settings,
            compression,
            connect_timeout: Duration::ZERO,
            retry_budget: RetryBudget::new(),
            meter,
            state: Mutex::new(state),
            changed: Arc::default(),
            published: watch::Sender::new(PublishedState::NEW),
            settling: tokio::sync::Mutex::new(()),
            // The server lists the connection.
            listed: OnceLock::new(),
        });
        channel.publish(channel.lock());
        channel
    }
}
