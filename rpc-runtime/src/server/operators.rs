//! Operators: services that only callers may call that may terminate the server.

use std::sync::Arc;

use super::state::ServerState;
use crate::{
    Code, Context, Handler, Incoming, Service, Status, auth::deny_operator, client::user_proof::proof_of,
    conn::RefusalReason,
};

/// Makes the handler of a call of a service for operators. A call that is denied never starts.
pub(crate) fn call(
    server: &Arc<ServerState>,
    service: &Arc<dyn Service>,
    index: usize,
    call: Incoming,
) -> Handler {
    if server.policy().is_server_policy() {
        // It wraps the service.
        return service.call(index, call);
    }
    Box::pin(admit(Arc::clone(server), Arc::clone(service), index, call))
}

/// Lets the call go on if the terminate policy allows its caller.
async fn admit(server: Arc<ServerState>, service: Arc<dyn Service>, index: usize, call: Incoming) {
    let cx = call.preview();
    let proof = proof_of(cx.metadata());
    let verdict = server.policy().judge(&cx, proof, server.key()).await;
    let Some(why) = verdict.refusal else {
        return service.call(index, call).await;
    };
    deny_operator(&cx, &why);
    call.refused(&refusal(&cx, &why), RefusalReason::Rule);
}

fn refusal(cx: &Context, why: &str) -> Status {
    let text = format!(
        "{} is for operators, and {why}; call as the server's user by a Unix socket or with Client::with_user_proof, or let the server set \
         .terminate_policy(..), or .policy(..) with a rule of auth::TERMINATE",
        cx.procedure()
    );
    Status::new(Code::PermissionDenied, text)
}
