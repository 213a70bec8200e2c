//! Etcd: the members of a cluster, one of which is asked at a time, with the token of a user.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rpc_runtime::{Client, Code, Error, Status, auth::Secret};

use crate::{
    EtcdBuilder, EtcdResolver, Registration,
    proto::{
        AuthClient, AuthenticateRequest, KvClient, LeaseClient, LeaseGrantResponse, LeaseKeepAliveRequest,
        PutRequest, RangeRequest, RangeResponse,
    },
};

/// A cluster of etcd, in which servers are found and registered. Cheap to clone; clones share connections.
///
/// ```no_run
/// use rpc_etcd::Etcd;
///
/// let etcd = Etcd::builder().endpoint("grpc://127.0.0.1:2379").build()?;
/// let (resolver, registration) = (etcd.resolver("orders"), etcd.registration("orders"));
/// # Ok::<(), rpc_runtime::Error>(())
/// ```
#[derive(Clone)]
pub struct Etcd(Arc<Cluster>);

struct Cluster {
    members: Vec<Client>,
    endpoints: Vec<String>,
    /// The member that is asked.
    current: AtomicUsize,
    user: Option<User>,
    token: Mutex<Option<Secret>>,
    /// Held while a token is asked for, so that others wait for the same one.
    asking: tokio::sync::Mutex<()>,
}

/// Who asks.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: Secret,
}

/// One try of a call: whom it asks, and with what.
#[derive(Clone)]
pub(crate) struct Try {
    pub(crate) member: Client,
    pub(crate) token: Option<Secret>,
    /// Whether another member can be asked if this one is away.
    pub(crate) fails_fast: bool,
    at: usize,
}

/// Gives a stub what each call of etcd has.
macro_rules! prepared {
    ($stub:expr, $one:expr) => {{
        // A member that is cut off from the leader refuses, and does not wait.
        let mut stub = $stub.detached().metadata("hasleader", "true");
        if let Some(token) = &$one.token {
            stub = stub.metadata("token", token.expose().to_owned());
        }
        match $one.fails_fast {
            true => stub.fail_fast(),
            false => stub,
        }
    }};
}
pub(crate) use prepared;

impl Etcd {
    /// Makes a builder, to which the endpoints are given.
    pub fn builder() -> EtcdBuilder {
        EtcdBuilder::new()
    }

    /// Returns a resolver of the servers of `service`: their keys begin with `service/`.
    ///
    /// Give it to a client, or to a [`Following`](rpc_runtime::discover::Following).
    pub fn resolver(&self, service: impl Into<String>) -> EtcdResolver {
        EtcdResolver::new(self.clone(), service.into())
    }

    /// Returns a registration of a server of `service`, for
    /// [`ServerBuilder::register`](rpc_runtime::server::ServerBuilder::register).
    pub fn registration(&self, service: impl Into<String>) -> Registration {
        Registration::new(self.clone(), service.into())
    }

    pub(crate) fn new(members: Vec<Client>, endpoints: Vec<String>, user: Option<User>) -> Self {
        Self(Arc::new(Cluster {
            members,
            endpoints,
            current: AtomicUsize::new(0),
            user,
            token: Mutex::new(None),
            asking: tokio::sync::Mutex::new(()),
        }))
    }

    /// Reads the keys from `key` up to `range_end`.
    pub(crate) async fn range(
        &self,
        key: &[u8],
        range_end: &[u8],
        limit: i64,
    ) -> Result<RangeResponse, Error> {
        let request = RangeRequest {
            key: key.to_vec().into(),
            range_end: range_end.to_vec().into(),
            limit,
        };
        self.call(|one| {
            let request = request.clone();
            async move {
                let kv = KvClient::from(one.member.clone());
                prepared!(kv.send_recv(), one).range(request).await
            }
        })
        .await
    }

    /// Sets `key`, which goes with `lease`.
    pub(crate) async fn put(&self, key: &str, value: &str, lease: i64) -> Result<(), Error> {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease,
        };
        self.call(|one| {
            let request = request.clone();
            async move {
                let kv = KvClient::from(one.member.clone());
                prepared!(kv.send_recv(), one).put(request).await.map(drop)
            }
        })
        .await
    }

    /// Begins a lease of `ttl` seconds.
    pub(crate) async fn grant(&self, ttl: i64) -> Result<LeaseGrantResponse, Error> {
        self.call(|one| async move {
            let leases = LeaseClient::from(one.member.clone());
            prepared!(leases.send_recv(), one).lease_grant(ttl).await
        })
        .await
    }

    /// Gives `lease` its whole time again. Returns that time in seconds; 0 if the lease has ended.
    pub(crate) async fn renew(&self, lease: i64) -> Result<i64, Error> {
        // A call for each time, so that it may go to another member.
        let renewed = self.call(|one| async move {
            let leases = LeaseClient::from(one.member.clone());
            let (mut requests, mut replies) = prepared!(leases.send_recv(), one).lease_keep_alive().await?;
            requests.send(LeaseKeepAliveRequest { id: lease }).await?;
            let reply = replies.message().await?;
            requests.finish();
            let gone = || Status::unavailable("etcd has not answered whether the lease goes on");
            Ok(reply.ok_or_else(gone)?.ttl)
        });
        match renewed.await {
            Err(error) if error.code() == Code::NotFound => Ok(0),
            other => other,
        }
    }

    /// Ends `lease`, and with it its keys.
    pub(crate) async fn revoke(&self, lease: i64) -> Result<(), Error> {
        let revoked = self.call(|one| async move {
            let leases = LeaseClient::from(one.member.clone());
            prepared!(leases.send_recv(), one)
                .lease_revoke(lease)
                .await
                .map(drop)
        });
        match revoked.await {
            Err(error) if error.code() == Code::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes a call, at one member after the other while they are away.
    async fn call<T, F>(&self, work: impl Fn(Try) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut left = self.0.members.len();
        loop {
            left -= 1;
            match self.attempt(left > 0, &work).await {
                Err(error) if left > 0 && is_away(&error) => {}
                other => return other,
            }
        }
    }

    /// Makes a call at one member. With a user, a call that is denied gets a new token and is made again, once.
    async fn attempt<T, F>(&self, fails_fast: bool, work: impl Fn(Try) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let one = self.next_try(fails_fast).await?;
        let mut result = work(one.clone()).await;
        if result.as_ref().is_err_and(is_denied) && self.forget_token(&one) {
            result = work(self.next_try(fails_fast).await?).await;
        }
        if result.as_ref().is_err_and(is_away) {
            self.move_on(&one);
        }
        result
    }

    /// Returns whom to ask now, with a token.
    pub(crate) async fn next_try(&self, fails_fast: bool) -> Result<Try, Error> {
        let members = &self.0.members;
        let at = self.0.current.load(Relaxed) % members.len();
        let mut one = Try {
            member: members[at].clone(),
            token: None,
            fails_fast,
            at,
        };
        let Some(user) = &self.0.user else {
            return Ok(one);
        };
        let _asking = self.0.asking.lock().await;
        let token = self.token().clone();
        one.token = token;
        if one.token.is_none() {
            let auth = AuthClient::from(one.member.clone());
            let request = AuthenticateRequest {
                name: user.name.clone(),
                password: user.password.expose().to_owned(),
            };
            let mut stub = auth.send_recv().detached();
            if fails_fast {
                stub = stub.fail_fast();
            }
            match stub.authenticate(request).await {
                Ok(reply) => one.token = Some(reply.token.into()),
                Err(error) => {
                    if is_away(&error) {
                        self.move_on(&one);
                    }
                    return Err(error);
                }
            }
        }
        self.token().clone_from(&one.token);
        Ok(one)
    }

    fn token(&self) -> MutexGuard<'_, Option<Secret>> {
        self.0.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets other calls ask the member behind that of `one`, unless one of them has moved on already.
    pub(crate) fn move_on(&self, one: &Try) {
        let next = (one.at + 1) % self.0.members.len();
        let current = &self.0.current;
        if next != one.at && current.compare_exchange(one.at, next, Relaxed, Relaxed).is_ok() {
            tracing::debug!(
                from = self.0.endpoints[one.at],
                to = self.0.endpoints[next],
                "asking another member of etcd"
            );
        }
    }

    /// Forgets the token with which `one` was denied; false if there was none.
    pub(crate) fn forget_token(&self, one: &Try) -> bool {
        if one.token.is_none() {
            return false;
        }
        let mut token = self.token();
        if *token == one.token {
            *token = None;
        }
        true
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("endpoints", &self.0.endpoints)
            .field("user", &self.0.user.as_ref().map(|user| &user.name))
            .finish_non_exhaustive()
    }
}

/// Whether another member may do better.
fn is_away(error: &Error) -> bool {
    matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded)
}

/// Whether a new token may help.
fn is_denied(error: &Error) -> bool {
    matches!(error.code(), Code::Unauthenticated | Code::PermissionDenied)
        || is_about_a_token(error.message())
}

/// Whether a text of etcd says that a new token may help: a watch is told so after its token has expired, too.
pub(crate) fn is_about_a_token(text: &str) -> bool {
    [
        "invalid auth token",
        "permission denied",
        "revision of auth store is old",
    ]
    .iter()
    .any(|known| text.contains(known))
}
