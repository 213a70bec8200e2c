//! Nodes of a cluster: each is a server, and a client of all the others.

use std::{
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::Duration,
};

use demo_api::demo::kv::v1::{Kv, KvClient, KvServer};
use demo_server::Store;
use rpc_runtime::{
    Bytes, Context, DrainReport, Error, Result, Server, Status,
    server::{ServerHandle, TerminatePolicy},
};
use test_support::{LONG, gate, own_host};
use tokio::{
    sync::{Barrier, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::streams::streams_of_the_store;

/// How many nodes a cluster has.
pub(crate) const NODES: usize = 5;
/// The key whose update terminates the whole cluster.
pub(crate) const TERMINATE: &str = "terminate all";

/// Five nodes of this process.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) peers: Vec<Peers>,
}

impl Cluster {
    /// Starts all nodes, over `mem` or `tcp`.
    pub(crate) async fn start(transport: &str, name: &str) -> Self {
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let address = match transport {
                "mem" => format!("mem:cluster-{name}-{number}"),
                _ => format!("tcp://{}:0", own_host(2)),
            };
            nodes.push(Node::start(&address).await);
        }
        let addresses: Vec<_> = nodes.iter().map(|node| node.address.clone()).collect();
        let peers = Peers::of(&addresses);
        for (node, peers) in nodes.iter().zip(&peers) {
            assert!(node.member.peers.set(peers.clone()).is_ok());
        }
        Self { nodes, peers }
    }

    /// Waits for the end of all servers.
    pub(crate) async fn reports(self) -> Vec<DrainReport> {
        let mut reports = Vec::new();
        for node in self.nodes {
            reports.push(node.report().await);
        }
        reports
    }
}

/// One node's server.
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) member: Arc<Member>,
    pub(crate) handle: ServerHandle,
    pub(crate) serving: JoinHandle<Result<DrainReport, Error>>,
}

impl Node {
    pub(crate) async fn start(address: &str) -> Self {
        let member = Arc::new(Member::default());
        let server = Server::builder()
            .service(KvServer::new(Arc::clone(&member)))
            .listener(address)
            .terminate_policy(TerminatePolicy::loopback())
            .signals(false)
            .bind()
            .await
            .unwrap();
        Self {
            address: server.addresses()[0].clone(),
            member,
            handle: server.handle(),
            serving: gate::serve_peer(server),
        }
    }

    /// Waits for the end of the server.
    pub(crate) async fn report(self) -> DrainReport {
        let served = timeout(LONG, self.serving).await;
        served.expect("serve() returns").unwrap().unwrap()
    }
}

/// A node's clients.
#[derive(Clone)]
pub(crate) struct Peers {
    own: usize,
    clients: Vec<KvClient>,
}

impl Peers {
    /// The clients of every node of a cluster; they connect when they are needed.
    pub(crate) fn of(addresses: &[String]) -> Vec<Self> {
        let clients = || addresses.iter().map(KvClient::connect_lazy).collect();
        let peers = |own| Self {
            own,
            clients: clients(),
        };
        (0..addresses.len()).map(peers).collect()
    }

    /// The number of the node that calls by these.
    pub(crate) fn own(&self) -> usize {
        self.own
    }

    /// The client of one node; of the own one, too.
    pub(crate) fn to(&self, node: usize) -> &KvClient {
        &self.clients[node]
    }

    /// The clients of all other nodes, with the nodes' numbers.
    pub(crate) fn others(&self) -> impl Iterator<Item = (usize, &KvClient)> {
        let others = move |(node, _): &(usize, _)| *node != self.own;
        self.clients.iter().enumerate().filter(others)
    }

    /// Terminates all other nodes at once, then the own one; what each of them reported, by its number.
    pub(crate) async fn terminate_all(&self) -> Result<Vec<DrainReport>, Error> {
        self.terminate_all_within(None).await
    }

    /// As [`Peers::terminate_all`], with a limit for each; tries all, and fails if one fails.
    pub(crate) async fn terminate_all_within(
        &self,
        limit: impl Into<Option<Duration>>,
    ) -> Result<Vec<DrainReport>, Error> {
        let limit = limit.into();
        let mut terminates = JoinSet::new();
        for (node, kv) in self.others() {
            let kv = kv.clone();
            terminates.spawn(async move { (node, kv.send_recv().timeout(limit).terminate().await) });
        }
        let mut reports = terminates.join_all().await;
        let own = self.to(self.own).send_recv().timeout(limit);
        reports.push((self.own, own.terminate().await));
        reports.sort_by_key(|(node, _)| *node);
        reports.into_iter().map(|(_, report)| report).collect()
    }
}

/// Lets every node ping every other, all at once.
pub(crate) async fn ping_all(peers: &[Peers]) {
    ping_among(peers, |_| true).await;
}

/// Lets the nodes that `takes_part` picks ping one another, all at once.
pub(crate) async fn ping_among(peers: &[Peers], takes_part: impl Fn(usize) -> bool) {
    let mut pings = JoinSet::new();
    for from in peers.iter().filter(|peers| takes_part(peers.own)) {
        for (to, kv) in from.others().filter(|(to, _)| takes_part(*to)) {
            let (kv, text) = (kv.clone(), format!("from {} to {to}", from.own));
            pings.spawn(async move {
                let answer = kv.send_recv().ping(&text).await;
                assert_eq!(answer.unwrap_or_else(|error| panic!("{text}: {error}")), text);
            });
        }
    }
    let all = timeout(LONG, pings.join_all()).await;
    all.expect("every ping is answered");
}

/// Lets every node send an update to all others, and fetch it back from each.
pub(crate) async fn update_all(peers: &[Peers]) {
    let mut updates = JoinSet::new();
    for from in peers {
        for (to, kv) in from.others() {
            let (from, kv) = (from.own, kv.clone());
            updates.spawn(async move {
                let key = |round| format!("from {from}, {round}");
                for round in 0..UPDATES {
                    kv.send().update(key(round), format!("for {to}")).await.unwrap();
                }
                let account = loop {
                    let account = kv.barrier().await.unwrap();
                    assert_eq!(account.received(), UPDATES, "{account}");
                    if account.pending() == 0 {
                        break account;
                    }
                    tokio::task::yield_now().await;
                };
                assert_eq!(account.handled(), UPDATES, "{account}");
                for round in 0..UPDATES {
                    let value = kv.send_recv().fetch(key(round)).await.unwrap();
                    assert_eq!(value, Some(Bytes::from(format!("for {to}"))));
                }
            });
        }
    }
    let all = timeout(LONG, updates.join_all()).await;
    all.expect("every update arrives");
    for peers in peers {
        let own = peers
            .to(peers.own)
            .send_recv()
            .fetch(format!("from {}, 0", peers.own));
        assert_eq!(
            own.await.unwrap(),
            None,
            "a node sends its update to the others only"
        );
    }
}

/// What a node serves: the demo's store, with handlers that a test can hold back.
#[derive(Default)]
pub(crate) struct Member {
    store: Store,
    peers: OnceLock<Peers>,
    /// Where pings wait for one another.
    pub(crate) meeting: OnceLock<Arc<Barrier>>,
    pub(crate) gate: Gate,
}

impl Kv for Member {
    /// Blocks its thread without having said so in the .proto.
    async fn rpc_noop(&self, _: &Context) -> Result<()> {
        self.gate.block();
        Ok(())
    }

    async fn rpc_update(&self, cx: &Context, key: String, value: Bytes) -> Result<()> {
        if key == TERMINATE {
            let peers = self.peers.get().expect("the cluster has set them");
            let reports = peers.terminate_all().await;
            let reports = reports.map_err(|error| Status::new(error.code(), error.to_string()))?;
            assert!(reports.iter().all(DrainReport::is_clean), "{reports:?}");
        }
        self.store.rpc_update(cx, key, value).await
    }

    async fn rpc_fetch(&self, cx: &Context, key: String) -> Result<Option<Bytes>> {
        self.store.rpc_fetch(cx, key).await
    }

    async fn rpc_ping(&self, cx: &Context, text: String) -> Result<String> {
        if let Some(meeting) = self.meeting.get() {
            meeting.wait().await;
        }
        self.store.rpc_ping(cx, text).await
    }

    async fn rpc_sleep(&self, _: &Context, _: u32) -> Result<()> {
        self.gate.wait().await;
        Ok(())
    }

    async fn rpc_block(&self, _: &Context, _: u32) -> Result<()> {
        self.gate.block();
        Ok(())
    }

    streams_of_the_store!();
}

/// Where handlers wait until a test lets them go on.
#[derive(Default)]
pub(crate) struct Gate {
    entered: watch::Sender<usize>,
    open: watch::Sender<bool>,
    blocked: Mutex<()>,
    unblock: Condvar,
}

impl Gate {
    /// Waits until `count` handlers have come here.
    pub(crate) async fn entered(&self, count: usize) {
        let mut entered = self.entered.subscribe();
        let entered = timeout(LONG, entered.wait_for(|entered| *entered >= count)).await;
        entered.expect("the handlers begin").unwrap();
    }

    /// Lets everybody go on when the guard is dropped: a blocked worker would keep a failed test from ending.
    pub(crate) fn opened_by(&self) -> Opener<'_> {
        Opener(self)
    }

    fn enter(&self) {
        self.entered.send_modify(|entered| *entered += 1);
    }

    async fn wait(&self) {
        self.enter();
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
    }

    fn block(&self) {
        self.enter();
        let mut blocked = self.blocked.lock().unwrap();
        while !*self.open.borrow() {
            blocked = self.unblock.wait(blocked).unwrap();
        }
    }
}

/// Opens a gate when it is dropped.
pub(crate) struct Opener<'a>(&'a Gate);

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        let _blocked = self.0.blocked.lock().unwrap();
        self.0.open.send_replace(true);
        self.0.unblock.notify_all();
    }
}

/// How many updates each node sends to each other one.
const UPDATES: u64 = 100;
