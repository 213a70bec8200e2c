//! What those who look into the process see of a server.

use std::sync::{Arc, Weak};

use super::{listen::admission::AdmissionLimits, state::ServerState};
use crate::{
    Procedure,
    api::{limit_value::LimitValue, limits::SERVER_KEEP_ALIVE},
    driver::SharedConnection,
    inspect::{
        self, BlockedHandler, ConnectionFacts, InspectedConnection, LimitSource, Owner, OwnerLimit, Side,
    },
    metrics::Protocol,
    session::Session,
};

/// Shows a server to those who look into the process, as long as it is there.
///
/// `unset` are the limits that the program has not set, and whose defaults depend on something.
pub(super) fn list_server(
    server: &Arc<ServerState>,
    admission: Option<&Arc<AdmissionLimits>>,
    unset: UnsetLimits,
) {
    list(server, Side::Server, admission, unset);
}

/// Shows the services of a client, on one of its connections.
pub(super) fn list_callbacks(server: &Arc<ServerState>) {
    list(server, Side::Client, None, UnsetLimits::default());
}

fn list(server: &Arc<ServerState>, side: Side, admission: Option<&Arc<AdmissionLimits>>, unset: UnsetLimits) {
    let inspected = InspectedServer {
        server: Arc::downgrade(server),
        side,
        admission: admission.cloned(),
        unset,
    };
    server.set_listed(inspect::list(Arc::new(inspected)));
}

/// Which limits the program has not set, of those whose defaults depend on something: on the machine, or `drain_timeout` on `lame_duck`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UnsetLimits {
    pub(super) connections: bool,
    pub(super) buffered_bytes: bool,
    pub(super) drain_timeout: bool,
}

struct InspectedServer {
    server: Weak<ServerState>,
    side: Side,
    /// None for a server that does not listen.
    admission: Option<Arc<AdmissionLimits>>,
    unset: UnsetLimits,
}

impl InspectedServer {
    /// The limits of all connections together.
    fn own_limits(&self, server: &ServerState) -> Vec<OwnerLimit> {
        let source = |is_default| match is_default {
            true => LimitSource::Default,
            false => LimitSource::Program,
        };
        let of_machine = |is_of_machine| match is_of_machine {
            true => LimitSource::Machine,
            false => LimitSource::Program,
        };
        let (handlers, most) = server.handler_tasks();
        let memory = server.memory();
        let mut limits = vec![
            OwnerLimit {
                name: "max_buffered_bytes",
                value: match memory.max() {
                    u64::MAX => LimitValue::Unlimited,
                    max => LimitValue::Bytes(max),
                },
                source: match memory.max() {
                    u64::MAX => LimitSource::Default,
                    _ => of_machine(self.unset.buffered_bytes),
                },
                used: Some(memory.held()),
            },
            OwnerLimit {
                name: "max_waiting_handlers",
                value: LimitValue::Count(most as u64),
                source: source(most == ServerState::MAX_WAITING_HANDLERS),
                used: Some(handlers as u64),
            },
            OwnerLimit {
                name: "drain_timeout",
                value: LimitValue::Time(server.drain_timeout()),
                source: source(self.unset.drain_timeout),
                used: None,
            },
            OwnerLimit {
                name: "lame_duck",
                value: LimitValue::Time(server.lame_duck()),
                source: source(server.lame_duck().is_zero()),
                used: None,
            },
        ];
        if let Some(admission) = &self.admission {
            let (connections, handshakes) = admission.used();
            limits.push(OwnerLimit {
                name: "max_connections",
                value: LimitValue::Count(connections.max as u64),
                source: of_machine(self.unset.connections),
                used: Some(connections.used as u64),
            });
            limits.push(OwnerLimit {
                name: "max_handshakes",
                value: LimitValue::Count(handshakes.max as u64),
                source: source(handshakes.max == AdmissionLimits::MAX_HANDSHAKES),
                used: Some(handshakes.used as u64),
            });
        }
        limits
    }
}

impl Owner for InspectedServer {
    fn side(&self) -> Side {
        self.side
    }

    fn name(&self) -> Arc<str> {
        let server = self.server.upgrade();
        match server.as_ref().map(|server| server.addresses()) {
            Some(addresses) if !addresses.is_empty() => addresses.join(",").into(),
            _ if self.side == Side::Client => "callbacks".into(),
            _ => "in-process".into(),
        }
    }

    fn connections(&self) -> Vec<Box<dyn InspectedConnection>> {
        let Some(server) = self.server.upgrade() else {
            return Vec::new();
        };
        let boxed = |session| {
            Box::new(InspectedSession {
                session,
                server: Arc::clone(&server),
            }) as Box<dyn InspectedConnection>
        };
        server.connections().all().into_iter().map(boxed).collect()
    }

    fn limits(&self) -> Vec<OwnerLimit> {
        let Some(server) = self.server.upgrade() else {
            return Vec::new();
        };
        // Those of a client's services are listed with the client. A handle may keep a server that has ended.
        if self.side == Side::Client || server.lifecycle().is_closed() {
            return Vec::new();
        }
        let of_each = server.view().settings().limits().list(SERVER_KEEP_ALIVE);
        let of_guest = server.guest().map(|guest| guest.limits()).unwrap_or_default();
        let of_each = of_each.into_iter().chain(of_guest).map(OwnerLimit::from);
        self.own_limits(&server).into_iter().chain(of_each).collect()
    }
}

struct InspectedSession {
    session: Arc<Session>,
    server: Arc<ServerState>,
}

impl InspectedConnection for InspectedSession {
    fn shared(&self) -> &SharedConnection {
        self.session.shared()
    }

    fn facts(&self) -> ConnectionFacts {
        let peer = self.session.peer();
        let (caller, has_several_callers) = self.session.caller_name();
        ConnectionFacts {
            peer: peer.address_arc(),
            transport: peer.transport(),
            protocol: match self.session.traffic() {
                Some(_) => Protocol::Grpc.name(),
                None => Protocol::Native.name(),
            },
            caller,
            has_several_callers,
            traffic: self.session.traffic().cloned(),
        }
    }

    fn procedure(&self, id: u64) -> Option<&'static Procedure> {
        let router = self.server.router();
        Some(router.route(router.find(id)?).procedure())
    }

    fn blocked(&self) -> Vec<BlockedHandler> {
        let blocked = self.session.stalls().blocked().into_iter();
        blocked
            .map(|poll| BlockedHandler {
                call: poll.call,
                time: poll.since.elapsed(),
            })
            .collect()
    }
}
