//! The control service, which every server answers beside its own services: terminate, ping and settle.

#[allow(unreachable_pub, reason = "generated for a module that users see")]
// Its layout is the generator's: rpc-codegen's tests compare it.
#[rustfmt::skip]
mod control;

use std::sync::Arc;

use prost::Message;

use self::control::{Control, ControlServer};
use crate::{
    Code, Context, DrainReport, Handler, Incoming, Result, Service, Status,
    auth::Caller,
    client::inherited::InstanceId,
    conn::RefusalReason,
    layer::{Answer, Middleware, Next},
    message::control::{SettleReply, TERMINATE, TerminateReply, TerminateRequest, messages},
    server::{
        drain,
        router::CONTROL_PROCEDURES,
        state::ServerState,
        terminate::{Asker, Decision, TerminateKind},
    },
    session::{Layered, ServerCall, ServiceLayer},
};

/// Makes the handler of a call of the control service. A terminate that is refused never starts, and its caller learns that
/// it was not executed.
pub(crate) fn call(server: &Arc<ServerState>, index: usize, call: Incoming) -> Handler {
    let server = Arc::clone(server);
    if CONTROL_PROCEDURES.get(index) == Some(&TERMINATE) {
        return Box::pin(admit(server, index, call));
    }
    ControlServer::new(ControlOf { server, uid: None }).call(index, call)
}

/// Runs a terminate of a server with a policy: the policy decides, within the middleware that finds out who calls. Only those that may
/// terminate the server learn whether they mean it.
fn guarded(server: Arc<ServerState>, index: usize, call: Incoming) -> Handler {
    let uid = call.preview().peer().uid();
    let mut layers = server.terminate_layers().to_vec();
    layers.push(ServiceLayer::new(None, MeansInstance(server.view().instance())));
    let control = ControlServer::new(ControlOf { server, uid });
    Layered::with_layers(Arc::new(control), layers).call(index, call)
}

/// Accepts a terminate, or refuses it.
async fn admit(server: Arc<ServerState>, index: usize, call: Incoming) {
    if !server.terminate_layers().is_empty() {
        return guarded(server, index, call).await;
    }
    let cx = call.preview();
    // A request that cannot be read proves nothing. If it passes all the same, the procedure itself refuses it.
    let payload = call.payload().unwrap_or_default();
    let request = TerminateRequest::decode(payload).unwrap_or_default();
    let is_meant = is_meant(&request, server.view().instance());
    let verdict = server.policy().judge(&cx, &request.proof, server.key()).await;
    let uid = verdict.uid;
    let asker = Asker::Peer {
        peer: cx.peer(),
        uid,
        caller: None,
    };
    // First, because a proof for another instance is wrong here.
    let refusal = if !is_meant {
        Some(("instance", Code::FailedPrecondition, NOT_MEANT.into()))
    } else {
        verdict
            .refusal
            .map(|text| ("policy", Code::PermissionDenied, text))
    };
    match refusal {
        Some((reason, code, text)) => {
            server.audit(&asker, TerminateKind::Drain, Decision::Denied(reason));
            // The account of a one-way terminate says that its arguments were refused.
            call.refused(&Status::new(code, text), RefusalReason::BadPayload);
        }
        None => {
            ControlServer::new(ControlOf { server, uid })
                .call(index, call)
                .await
        }
    }
}

/// Refuses a terminate of another instance.
struct MeansInstance(InstanceId);

impl Middleware<ServerCall> for MeansInstance {
    async fn handle(&self, call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        match is_meant(&call.message::<TerminateRequest>()?, self.0) {
            true => next.run(call).await,
            false => Err(Status::new(Code::FailedPrecondition, NOT_MEANT)),
        }
    }
}

const NOT_MEANT: &str = "the server is not the instance to terminate";

/// Returns whether the request means `instance`.
fn is_meant(request: &TerminateRequest, instance: InstanceId) -> bool {
    request.instance_id.is_empty() || request.instance_id == instance[..]
}

/// The control service of a server, for one call.
struct ControlOf {
    server: Arc<ServerState>,
    /// The caller's user, if the terminate policy knows it.
    uid: Option<u32>,
}

impl Control for ControlOf {
    async fn rpc_terminate(&self, cx: &Context, request: TerminateRequest) -> Result<TerminateReply> {
        let asker = Asker::Peer {
            peer: cx.peer(),
            uid: self.uid,
            caller: cx.get::<Caller>().map(Caller::name),
        };
        drain::begin(&self.server, &asker);
        let lifecycle = self.server.lifecycle();
        if lifecycle.is_preparing() {
            // Services may prepare for longer than a caller waits for the GOAWAY that tells it how long the drain may take.
            cx.announce_drain(
                self.server
                    .lame_duck()
                    .saturating_add(self.server.drain_timeout()),
            );
        }
        if request.origin == self.server.view().instance()[..] {
            // Its handler counts as completed only if it ends after its connection has begun to count.
            lifecycle.announced().await;
            return Ok(TerminateReply::from(DrainReport::default()));
        }
        Ok(lifecycle.drained().await.into())
    }

    async fn rpc_ping(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    async fn rpc_settle(&self, cx: &Context) -> Result<SettleReply> {
        Ok(cx.sends_settled().await.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Procedure, message::control::SERVICE, server::state::ServerOptions};

    #[tokio::test]
    async fn the_generated_service_has_the_procedures_that_we_call() {
        let server = ServerState::of_nothing(ServerOptions::default());
        let generated = ControlServer::new(ControlOf { server, uid: None });
        assert_eq!(generated.name(), SERVICE);
        let ids = |procedures: &[Procedure]| {
            let all = procedures.iter();
            all.map(|one| (one.path(), one.id())).collect::<Vec<_>>()
        };
        assert_eq!(ids(generated.procedures()), ids(&CONTROL_PROCEDURES));
    }
}
