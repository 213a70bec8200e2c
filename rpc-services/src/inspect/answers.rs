//! Answers: the procedures of `rpc.inspect.v1.Inspect`.

use std::time::Duration;

use rpc_runtime::{
    Context, Result, Status,
    inspect::{CallQuery, ConnectionQuery, limits},
    prost_types,
};

use super::{
    on_the_wire::{call, connection, limit},
    procedures::{MOST_WINDOW, Measured},
};
use crate::rpc::inspect::v1::{
    CallsReply, CallsRequest, ConnectionsReply, ConnectionsRequest, Inspect, LimitsReply, LimitsRequest,
    ProceduresReply, ProceduresRequest,
};

/// The procedures of the service.
#[derive(Debug)]
pub(super) struct Answers;

impl Inspect for Answers {
    async fn rpc_connections(&self, _: &Context, request: ConnectionsRequest) -> Result<ConnectionsReply> {
        let found = ConnectionQuery::new()
            .after(request.after)
            .most(most(request.most))
            .run();
        Ok(ConnectionsReply {
            left_out: found.left_out() as u64,
            connections: found.iter().map(connection).collect(),
        })
    }

    async fn rpc_calls(&self, _: &Context, request: CallsRequest) -> Result<CallsReply> {
        let mut query = CallQuery::new()
            .procedure(request.procedure)
            .most(most(request.most));
        if let Some(age) = request.slower_than {
            let age = Duration::try_from(age).map_err(|_| {
                Status::invalid_argument("slower_than is negative or too long: give a time from 0 s on")
            })?;
            query = query.slower_than(age);
        }
        if request.connection != 0 {
            query = query.connection(request.connection);
        }
        let found = query.run();
        Ok(CallsReply {
            left_out: found.left_out() as u64,
            calls: found.iter().map(call).collect(),
        })
    }

    async fn rpc_procedures(&self, _: &Context, request: ProceduresRequest) -> Result<ProceduresReply> {
        let ProceduresRequest {
            procedure,
            window,
            most: asked,
        } = request;
        let measured = match self::window(window)? {
            Duration::ZERO => Measured::since_the_beginning(),
            window => Measured::within(window).await,
        };
        Ok(measured.reply(&procedure, most(asked)))
    }

    async fn rpc_limits(&self, _: &Context, _: LimitsRequest) -> Result<LimitsReply> {
        let found = limits();
        let more = found.entries().len().saturating_sub(MOST_LIMITS);
        Ok(LimitsReply {
            left_out: (found.left_out() + more) as u64,
            limits: found.iter().take(MOST_LIMITS).map(limit).collect(),
        })
    }
}

/// The window that is asked for; zero for none.
///
/// # Errors
///
/// INVALID_ARGUMENT for one that is negative or too long.
fn window(asked: Option<prost_types::Duration>) -> Result<Duration> {
    let window = asked.map_or(Ok(Duration::ZERO), Duration::try_from).ok();
    let window = window.filter(|window| *window <= MOST_WINDOW);
    window.ok_or_else(|| {
        let text = format!("the window is negative or too long: give a time from 0 s to {MOST_WINDOW:?}");
        Status::invalid_argument(text)
    })
}

/// How many entries a reply has if its caller asks for `asked`.
fn most(asked: u32) -> usize {
    match asked {
        0 => DEFAULT_MOST,
        asked => (asked as usize).min(MOST),
    }
}

/// How many connections or calls a reply has if its caller does not say, as the .proto says.
const DEFAULT_MOST: usize = 100;
/// How many it has at most, as the .proto says.
const MOST: usize = 1000;
/// How many limits a reply has at most.
const MOST_LIMITS: usize = 5000;
