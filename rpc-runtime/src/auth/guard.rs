//! Guard: the middleware that asks a policy.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use super::{
    Asked, Caller, Decision, Policy, Rule, audit,
    denial::{check_denials, deny},
    policy::DynPolicy,
};
use crate::{
    Code, Result, Status,
    base::{
        bounded::{Unanswered, bounded},
        panic::Panic,
    },
    layer::{Answer, Middleware, Next},
    message::control,
    session::{Denied, Layered, ServerCall, ServiceLayer},
};

/// The middleware that asks a policy about each call, and refuses those that the policy does not allow.
#[derive(Clone)]
pub(crate) struct Guard {
    policy: Arc<dyn DynPolicy>,
    /// The rules that the program has set in place of those of the .proto, by the path of the procedure.
    rules: Arc<HashMap<String, Rule>>,
}

impl Guard {
    pub(crate) fn new(policy: impl Policy) -> Self {
        Self {
            policy: Arc::new(policy),
            rules: Arc::default(),
        }
    }

    /// Sets rules in place of those of the .proto, by the path of the procedure.
    pub(crate) fn with_rules(self, rules: HashMap<String, Rule>) -> Self {
        Self {
            rules: Arc::new(rules),
            ..self
        }
    }

    /// The rule of the procedure that is called: that of the program, or else that of the .proto.
    fn rule(&self, call: &ServerCall) -> Rule {
        let set = self.rules.get(call.procedure());
        set.cloned()
            .unwrap_or_else(|| Rule::declared(call.allowed_roles()))
    }

    /// Who calls: by middleware, or else by the policy, which then stands beside the call, too.
    fn caller(&self, call: &mut ServerCall) -> Option<Caller> {
        if let Some(caller) = call.get::<Caller>() {
            return Some(caller.clone());
        }
        let caller = Panic::catch(|| self.policy.caller(call.peer()));
        let caller = caller.ok().flatten()?;
        call.insert(caller.clone());
        Some(caller)
    }

    /// Asks the policy. The flag is false if it gave no answer, which denies the call.
    async fn decide(&self, asked: Asked) -> (Decision, bool) {
        match bounded(TIME, async { self.policy.decide(asked).await }).await {
            Ok(decision) => (decision, true),
            Err(Unanswered::Panicked) => (Decision::denied("the policy panicked"), false),
            Err(Unanswered::Late) => {
                let reason = format!("the policy took longer than {TIME:?}");
                (Decision::denied(reason), false)
            }
        }
    }
}

impl Middleware<ServerCall> for Guard {
    async fn handle(&self, mut call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        let caller = self.caller(&mut call);
        let asked = Asked::new(call.context().clone(), caller, self.rule(&call));
        let hash = asked.caller().map(Caller::hash);
        if let Some(hash) = hash {
            check_denials(asked.context(), || hash)?;
        }
        let (decision, is_answer) = self.decide(asked.clone()).await;
        let path = call.procedure();
        let status = match &decision {
            Decision::Allowed => {
                if path != control::TERMINATE.path() {
                    audit::allowed(&asked);
                }
                // Anybody can make calls of callers that are not known. So they do not show that the connection carries calls of others.
                if let Some(caller) = asked.caller() {
                    asked.context().note_allowed(caller.hash());
                    asked.context().note_caller(caller.name_arc());
                }
                drop(asked);
                return next.run(call).await;
            }
            Decision::Unauthenticated(_) => {
                let text =
                    format!("the caller of {path} is not known: send credentials that this server accepts");
                Status::new(Code::Unauthenticated, text)
            }
            Decision::Denied(_) => {
                Status::new(Code::PermissionDenied, format!("this caller may not call {path}"))
            }
        };
        let denied = match hash {
            _ if !is_answer => Denied::Nobody,
            None => Denied::Connection,
            Some(caller) => Denied::Caller(caller),
        };
        deny(&asked, &decision, denied);
        Err(status)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Layered {
    /// Adds a policy, inside of the middleware that was added before: it decides which calls go on.
    ///
    /// It is for a service that a client serves, or that is served in process: there is no
    /// [`ServerBuilder::policy`](crate::server::ServerBuilder::policy). If the .proto has rules, such a service needs one.
    ///
    /// ```
    /// # struct Hello;
    /// # impl rpc_runtime::server::Service for Hello {
    /// #     fn name(&self) -> &'static str { "doc.v1.Hello" }
    /// #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
    /// #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
    /// # }
    /// use rpc_runtime::{Client, auth::{Caller, Roles}, middleware::Layered};
    ///
    /// // A test as an admin.
    /// let roles = Roles::new().callers(|_| Some(Caller::new("test").with_role("admin")));
    /// let client = Client::in_process(Layered::new(Hello).policy(roles));
    /// ```
    pub fn policy(self, policy: impl Policy) -> Self {
        self.add(ServiceLayer::policy(Guard::new(policy)))
    }
}

/// How long a policy may take.
const TIME: Duration = Duration::from_secs(5);
