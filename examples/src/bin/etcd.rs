//! An election in etcd, which speaks gRPC: two candidates, a leader, and a successor.
//!
//! `cargo run -p examples --bin etcd -- grpc://127.0.0.1:2379`
//!
//! The stubs come from proto/etcd.proto, a part of etcd's own API. The leader holds a key. etcd deletes the key when the leader's lease ends.

use std::{error::Error, process::ExitCode};

use examples::etcdserverpb::{
    Compare, KvClient, LeaseClient, LeaseKeepAliveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchClient, WatchCreateRequest, WatchRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    event::EventType,
    request_op::Request,
    response_op::Response,
    watch_request::RequestUnion,
};
use rpc_http::Grpc;
use rpc_runtime::Client;

/// How long a candidate leads after its last sign of life, in seconds.
const TTL: i64 = 10;

struct Candidate {
    name: &'static str,
    lease: i64,
    // All share one connection.
    leases: LeaseClient,
    kv: KvClient,
    watch: WatchClient,
}

/// Another candidate that leads.
struct Leader {
    name: String,
    /// The number of etcd's last change when this was true.
    revision: i64,
}

impl Candidate {
    async fn new(etcd: &Client, name: &'static str) -> Result<Self, rpc_runtime::Error> {
        let leases = LeaseClient::from(etcd.clone());
        // A request of one field: the stub takes its value.
        let lease = leases.send_recv().lease_grant(TTL).await?.id;
        let (kv, watch) = (etcd.clone().into(), etcd.clone().into());
        Ok(Self {
            name,
            lease,
            leases,
            kv,
            watch,
        })
    }

    /// Takes `key` if nobody has it. Returns who has it otherwise.
    async fn stand(&self, key: &str) -> Result<Option<Leader>, Box<dyn Error>> {
        let key = || key.to_owned().into();
        let nobody_leads = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: key(),
            target_union: Some(TargetUnion::CreateRevision(0)),
        };
        let lead = Request::RequestPut(PutRequest {
            key: key(),
            value: self.name.into(),
            lease: self.lease,
        });
        let look = Request::RequestRange(RangeRequest { key: key() });
        let request = TxnRequest {
            compare: vec![nobody_leads],
            success: vec![RequestOp { request: Some(lead) }],
            failure: vec![RequestOp { request: Some(look) }],
        };
        let reply = self.kv.send_recv().txn(request).await?;
        if reply.succeeded {
            return Ok(None);
        }
        let Some(Response::ResponseRange(found)) = reply.responses.into_iter().find_map(|step| step.response)
        else {
            return Err("etcd did not look the key up".into());
        };
        let leader = found.kvs.first().ok_or("the key is there and not there")?;
        Ok(Some(Leader {
            name: String::from_utf8_lossy(&leader.value).into_owned(),
            revision: reply.header.unwrap_or_default().revision,
        }))
    }

    /// Waits until `leader` no longer has `key`.
    async fn outwait(&self, leader: Leader, key: &str) -> Result<(), Box<dyn Error>> {
        // It may take for ever. Other calls have 30 s.
        let (mut requests, mut replies) = self.watch.send_recv().timeout(None).watch().await?;
        let create = WatchCreateRequest {
            key: key.to_owned().into(),
            // So nothing is missed that has happened meanwhile.
            start_revision: leader.revision + 1,
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        requests.send(WatchRequest { request_union }).await?;
        while let Some(reply) = replies.message().await? {
            if reply
                .events
                .iter()
                .any(|event| event.r#type() == EventType::Delete)
            {
                return Ok(()); // Dropping the two ends cancels the call.
            }
        }
        Err("etcd has ended the watch".into())
    }

    /// Gives the lease its whole time again. A program that leads for long does so every few seconds, on one stream.
    async fn keep_alive(&self) -> Result<i64, Box<dyn Error>> {
        let (mut requests, mut replies) = self.leases.send_recv().lease_keep_alive().await?;
        requests.send(LeaseKeepAliveRequest { id: self.lease }).await?;
        let alive = replies.message().await?.ok_or("etcd has ended the stream")?;
        requests.finish();
        Ok(alive.ttl)
    }

    /// Ends the lease, and with it the key.
    async fn resign(&self) -> Result<(), rpc_runtime::Error> {
        self.leases.send_recv().lease_revoke(self.lease).await.map(drop)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "grpc://127.0.0.1:2379".to_owned());
    let etcd: Client = match Client::builder(&address).protocol(Grpc::new()).connect().await {
        Ok(etcd) => etcd,
        Err(error) => {
            eprintln!(
                "cannot reach etcd: {error}; start one by `etcd`, of Debian's package etcd-server, or pass its address"
            );
            return Ok(ExitCode::FAILURE);
        }
    };
    let (anna, ben) = (
        Candidate::new(&etcd, "anna").await?,
        Candidate::new(&etcd, "ben").await?,
    );
    // A key of this run.
    let key = format!("rpc-examples/leader/{}", anna.lease);

    if anna.stand(&key).await?.is_none() {
        println!("anna: leads");
    }
    println!("anna: leads for {} s more", anna.keep_alive().await?);
    let leader = ben.stand(&key).await?.ok_or("two lead")?;
    println!("ben: waits, because {} leads", leader.name);
    anna.resign().await?;
    println!("anna: resigns");
    ben.outwait(leader, &key).await?;
    if ben.stand(&key).await?.is_none() {
        println!("ben: leads");
    }
    if let Err(error) = anna.resign().await {
        println!("anna: {}, executed: {:?}", error.message(), error.executed());
    }
    ben.resign().await?;
    etcd.close().await?;
    Ok(ExitCode::SUCCESS)
}
