//! What those who look into the process see of a channel.

use std::sync::{Arc, Weak};

use super::{Channel, ChannelStage, connection::ClientConnection};
use crate::{
    Procedure,
    api::{
        limit_value::LimitValue,
        limits::{CLIENT_KEEP_ALIVE, CONNECT_TIMEOUT, LimitInForce},
    },
    driver::SharedConnection,
    inspect::{self, BlockedHandler, ConnectionFacts, InspectedConnection, Owner, OwnerLimit, Side},
};

impl Channel {
    /// Shows the channel to those who look into the process, as long as it is there.
    pub(in crate::client) fn list(self: &Arc<Self>) {
        let _ = self
            .listed
            .get_or_init(|| inspect::list(Arc::new(InspectedChannel(Arc::downgrade(self)))));
    }

    /// All connections of which something is left.
    fn connections(&self) -> Vec<Arc<ClientConnection>> {
        let state = self.lock();
        let current = match &state.stage {
            ChannelStage::Open { connected, .. } => Some(connected),
            ChannelStage::Closed(connected) => connected.as_ref(),
            ChannelStage::Idle | ChannelStage::Connecting(_) | ChannelStage::Gone => None,
        };
        current.into_iter().chain(&state.retired).cloned().collect()
    }
}

struct InspectedChannel(Weak<Channel>);

impl Owner for InspectedChannel {
    fn side(&self) -> Side {
        Side::Client
    }

    fn name(&self) -> Arc<str> {
        self.0
            .upgrade()
            .map_or_else(|| "".into(), |channel| Arc::clone(channel.address()))
    }

    fn connections(&self) -> Vec<Box<dyn InspectedConnection>> {
        let channel = self.0.upgrade();
        let connections = channel.map(|channel| channel.connections());
        let boxed =
            |connection| Box::new(InspectedClientConnection(connection)) as Box<dyn InspectedConnection>;
        connections.into_iter().flatten().map(boxed).collect()
    }

    fn limits(&self) -> Vec<OwnerLimit> {
        let Some(channel) = self.0.upgrade() else {
            return Vec::new();
        };
        let time = LimitInForce::new(
            "connect_timeout",
            LimitValue::Time(channel.connect_timeout),
            channel.connect_timeout == CONNECT_TIMEOUT,
        );
        let of_each = channel.settings.limits().list(CLIENT_KEEP_ALIVE);
        [time].into_iter().chain(of_each).map(OwnerLimit::from).collect()
    }
}

struct InspectedClientConnection(Arc<ClientConnection>);

impl InspectedConnection for InspectedClientConnection {
    fn shared(&self) -> &SharedConnection {
        &self.0.shared
    }

    fn facts(&self) -> ConnectionFacts {
        ConnectionFacts {
            peer: Arc::clone(&self.0.peer),
            transport: self.0.transport,
            protocol: self.0.protocol.name(),
            caller: None,
            has_several_callers: false,
            traffic: None,
        }
    }

    fn procedure(&self, _: u64) -> Option<&'static Procedure> {
        None
    }

    fn blocked(&self) -> Vec<BlockedHandler> {
        Vec::new()
    }
}
