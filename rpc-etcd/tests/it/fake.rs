//! A fake etcd: keys, leases that end when the test says so, watches, and tokens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use rpc_etcd::{Etcd, EtcdBuilder};
use rpc_http::Http;
use rpc_runtime::{Bytes, Client, Code, Context, Requests, Result, Server, Status, Stream, stream};
use test_support::{Running, serve, within};
use tokio::sync::watch;

use crate::proto::{
    Auth, AuthServer, AuthenticateRequest, AuthenticateResponse, Event, KeyValue, Kv, KvServer, Lease,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseServer, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader,
    Watch, WatchRequest, WatchResponse, WatchServer, event::EventType, watch_request::RequestUnion,
};

/// A fake etcd. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) revision: i64,
    pub(crate) keys: BTreeMap<Bytes, KeyValue>,
    pub(crate) leases: BTreeSet<i64>,
    next_lease: i64,
    history: Vec<(i64, Event)>,
    /// Changes up to this one cannot be watched.
    compacted: i64,
    /// Watches that began at an older count have ended.
    cuts: u64,
    /// How many watches have begun.
    pub(crate) watches: usize,
    /// How many leases have been renewed, and how often.
    pub(crate) renewals: usize,
    /// How often a lease was to be renewed that had ended.
    pub(crate) late_renewals: usize,
    /// What each change of a key was.
    pub(crate) log: Vec<String>,
    /// The token that calls need; none if they need none.
    token: Option<String>,
    tokens: usize,
    /// A change to be made after the next range, before the watch that follows.
    after_range: Option<(String, String)>,
    /// A server that has to take calls when its lease is revoked.
    pub(crate) has_to_serve: Option<String>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let state = State {
            revision: 1,
            ..State::default()
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changes: watch::Sender::default(),
        }))
    }

    /// Serves it on a port of this machine.
    pub(crate) async fn start(&self) -> Running {
        self.start_at("tcp://127.0.0.1:0").await
    }

    pub(crate) async fn start_at(&self, address: &str) -> Running {
        let server = Server::builder()
            .service(KvServer::new(self.clone()))
            .service(WatchServer::new(self.clone()))
            .service(LeaseServer::new(self.clone()))
            .service(AuthServer::new(self.clone()))
            .guest(Http::new().grpc())
            .listener(address)
            .signals(false);
        serve(server).await
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Sets a key without a lease.
    pub(crate) fn put(&self, key: &str, value: &str) {
        self.state()
            .put(key.to_owned().into(), value.to_owned().into(), 0);
        self.0.changes.send_replace(());
    }

    pub(crate) fn delete(&self, key: &str) {
        self.state().delete(&key.to_owned().into());
        self.0.changes.send_replace(());
    }

    /// Ends all leases, as etcd does when they are not renewed.
    pub(crate) fn expire_leases(&self) {
        self.state().end_leases(|_| true);
        self.0.changes.send_replace(());
    }

    /// Sets a key after the next range and compacts up to that change, so that the watch which follows comes too late.
    pub(crate) fn compact_after_next_range(&self, key: &str, value: &str) {
        self.state().after_range = Some((key.to_owned(), value.to_owned()));
    }

    /// Ends all watches.
    pub(crate) fn cut_watches(&self) {
        self.state().cuts += 1;
        self.0.changes.send_replace(());
    }

    /// Loses all data, as an etcd does that starts anew, and ends all watches.
    pub(crate) fn lose_data(&self) {
        let mut state = self.state();
        *state = State {
            revision: 1,
            cuts: state.cuts + 1,
            next_lease: state.next_lease,
            ..State::default()
        };
        drop(state);
        self.0.changes.send_replace(());
    }

    /// Needs a new token for each call from now on, and ends all watches.
    pub(crate) fn expire_token(&self) {
        let mut state = self.state();
        state.token = Some("none yet".to_owned());
        drop(state);
        self.0.changes.send_replace(());
    }

    fn check(&self, cx: &Context) -> Result<()> {
        assert_eq!(
            cx.metadata().get("hasleader").map(|value| &value[..]),
            Some(&b"true"[..])
        );
        match self.is_allowed(cx) {
            true => Ok(()),
            false => Err(Status::new(
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
            )),
        }
    }

    fn is_allowed(&self, cx: &Context) -> bool {
        let state = self.state();
        let token = state.token.as_deref().map(str::as_bytes);
        token.is_none() || cx.metadata().get("token").map(|value| &value[..]) == token
    }
}

impl State {
    fn put(&mut self, key: Bytes, value: Bytes, lease: i64) {
        self.revision += 1;
        self.log.push(format!("put {}", String::from_utf8_lossy(&key)));
        let kv = KeyValue {
            key: key.clone(),
            mod_revision: self.revision,
            value,
            lease,
        };
        self.keys.insert(key, kv.clone());
        let event = Event {
            r#type: EventType::Put.into(),
            kv: Some(kv),
        };
        self.history.push((self.revision, event));
    }

    fn delete(&mut self, key: &Bytes) {
        self.keys.remove(key);
        self.revision += 1;
        self.log.push(format!("delete {}", String::from_utf8_lossy(key)));
        let kv = KeyValue {
            key: key.clone(),
            mod_revision: self.revision,
            ..KeyValue::default()
        };
        let event = Event {
            r#type: EventType::Delete.into(),
            kv: Some(kv),
        };
        self.history.push((self.revision, event));
    }

    fn end_leases(&mut self, ends: impl Fn(i64) -> bool) {
        self.leases.retain(|lease| !ends(*lease));
        let gone: Vec<_> = self
            .keys
            .values()
            .filter(|kv| kv.lease != 0 && ends(kv.lease))
            .map(|kv| kv.key.clone())
            .collect();
        for key in gone {
            self.delete(&key);
        }
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: 7,
            revision: self.revision,
        })
    }

    /// The only key, and its value as text.
    pub(crate) fn only(&self) -> (String, String, i64) {
        assert_eq!(self.keys.len(), 1, "{:?}", self.keys);
        let kv = self.keys.values().next().unwrap();
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&kv.key), text(&kv.value), kv.lease)
    }
}

impl Kv for Fake {
    async fn rpc_range(&self, cx: &Context, request: RangeRequest) -> Result<RangeResponse> {
        self.check(cx)?;
        let mut state = self.state();
        let is_asked_for = |key: &Bytes| match request.range_end.is_empty() {
            true => *key == request.key,
            false => *key >= request.key && *key < request.range_end,
        };
        let kvs = state
            .keys
            .values()
            .filter(|kv| is_asked_for(&kv.key))
            .cloned()
            .collect();
        let reply = RangeResponse {
            header: state.header(),
            kvs,
        };
        if let Some((key, value)) = state.after_range.take() {
            state.put(key.into(), value.into(), 0);
            state.compacted = state.revision;
        }
        Ok(reply)
    }

    async fn rpc_put(&self, cx: &Context, request: PutRequest) -> Result<PutResponse> {
        self.check(cx)?;
        let mut state = self.state();
        if request.lease != 0 && !state.leases.contains(&request.lease) {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        state.put(request.key, request.value, request.lease);
        self.0.changes.send_replace(());
        Ok(PutResponse {
            header: state.header(),
        })
    }
}

impl Watch for Fake {
    async fn rpc_watch(
        &self,
        cx: &Context,
        mut requests: Requests<WatchRequest>,
    ) -> Result<impl Stream<Item = Result<WatchResponse>> + Send> {
        assert_eq!(
            cx.metadata().get("hasleader").map(|value| &value[..]),
            Some(&b"true"[..])
        );
        let (fake, cx) = (self.clone(), cx.clone());
        Ok(stream(async move |out| {
            let Some(request) = requests.message().await? else {
                return Ok(());
            };
            let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
                return Err(Status::invalid_argument("no watch"));
            };
            let mut changes = fake.0.changes.subscribe();
            let (cuts, compacted) = {
                let mut state = fake.state();
                state.watches += 1;
                (state.cuts, state.compacted)
            };
            let created = WatchResponse {
                header: fake.state().header(),
                created: true,
                ..WatchResponse::default()
            };
            out.send(created).await;
            if create.start_revision <= compacted {
                let canceled = WatchResponse {
                    canceled: true,
                    compact_revision: compacted,
                    cancel_reason: "etcdserver: mvcc: required revision has been compacted".to_owned(),
                    ..WatchResponse::default()
                };
                out.send(canceled).await;
                return Ok(());
            }
            let mut next = create.start_revision;
            loop {
                if !fake.is_allowed(&cx) {
                    let canceled = WatchResponse {
                        canceled: true,
                        cancel_reason:
                            "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
                                .to_owned(),
                        ..WatchResponse::default()
                    };
                    out.send(canceled).await;
                    return Ok(());
                }
                let reply = {
                    let state = fake.state();
                    if state.cuts > cuts {
                        return Err(Status::unavailable("the watch was cut"));
                    }
                    let new = state.history.iter().filter(|(revision, _)| *revision >= next);
                    let events: Vec<_> = new.map(|(_, event)| event.clone()).collect();
                    let is_asked_for = |event: &Event| {
                        let key = &event.kv.as_ref().unwrap().key;
                        *key >= create.key && *key < create.range_end
                    };
                    next = state.revision + 1;
                    WatchResponse {
                        header: state.header(),
                        events: events.into_iter().filter(is_asked_for).collect(),
                        ..WatchResponse::default()
                    }
                };
                if !reply.events.is_empty() {
                    out.send(reply).await;
                }
                if changes.changed().await.is_err() {
                    return Ok(());
                }
            }
        }))
    }
}

impl Lease for Fake {
    async fn rpc_lease_grant(&self, cx: &Context, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        self.check(cx)?;
        let mut state = self.state();
        state.next_lease += 1;
        let id = state.next_lease;
        state.leases.insert(id);
        Ok(LeaseGrantResponse { id, ttl: request.ttl })
    }

    async fn rpc_lease_revoke(
        &self,
        cx: &Context,
        request: LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse> {
        self.check(cx)?;
        let server = self.state().has_to_serve.clone();
        if let Some(server) = server {
            let client = within(Client::connect(&server)).await.unwrap();
            within(client.ping()).await.unwrap();
            self.state().log.push("pinged".to_owned());
        }
        let mut state = self.state();
        if !state.leases.contains(&request.id) {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        state.end_leases(|lease| lease == request.id);
        self.0.changes.send_replace(());
        Ok(LeaseRevokeResponse {})
    }

    async fn rpc_lease_keep_alive(
        &self,
        cx: &Context,
        mut requests: Requests<LeaseKeepAliveRequest>,
    ) -> Result<impl Stream<Item = Result<LeaseKeepAliveResponse>> + Send> {
        self.check(cx)?;
        let fake = self.clone();
        Ok(stream(async move |out| {
            while let Some(request) = requests.message().await? {
                let ttl = {
                    let mut state = fake.state();
                    state.renewals += 1;
                    let goes_on = state.leases.contains(&request.id);
                    state.late_renewals += usize::from(!goes_on);
                    i64::from(goes_on)
                };
                out.send(LeaseKeepAliveResponse { ttl }).await;
            }
            Ok(())
        }))
    }
}

impl Auth for Fake {
    async fn rpc_authenticate(
        &self,
        _: &Context,
        request: AuthenticateRequest,
    ) -> Result<AuthenticateResponse> {
        if (request.name.as_str(), request.password.as_str()) != ("me", "secret") {
            let text = "etcdserver: authentication failed, invalid user ID or password";
            return Err(Status::invalid_argument(text));
        }
        let mut state = self.state();
        state.tokens += 1;
        let token = format!("token {}", state.tokens);
        state.token = Some(token.clone());
        Ok(AuthenticateResponse { token })
    }
}

/// The address by which `rpc-etcd` reaches a fake etcd.
pub(crate) fn endpoint(server: &Running) -> String {
    server.address.replace("tcp://", "grpc://")
}

pub(crate) fn builder(server: &Running) -> EtcdBuilder {
    Etcd::builder().endpoint(endpoint(server))
}
