//! What etcd must answer. Each check has keys of its own.

use std::{error::Error, time::Duration};

use rpc_runtime::{Client, Code, Executed, Sender, Streaming};

use super::{
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, KvClient, LeaseClient, LeaseGrantRequest,
        LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MaintenanceClient, PutRequest,
        RangeRequest, RequestOp, SnapshotRequest, StatusRequest, TxnRequest, TxnResponse, WatchCancelRequest,
        WatchClient, WatchCreateRequest, WatchRequest, WatchResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
        watch_request::RequestUnion,
    },
    mvccpb::{Event, KeyValue, event::EventType},
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// A net against hanging: a stream that says nothing for this long has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// Makes all checks. Returns etcd's version.
pub(crate) async fn all(etcd: &Client, api: &str) -> Result<String> {
    put_and_range(etcd, &format!("{api}/range/")).await?;
    transaction(etcd, &format!("{api}/transaction")).await?;
    watch(etcd, &format!("{api}/watch/")).await?;
    lease(etcd, &format!("{api}/lease/")).await?;
    compaction(etcd, &format!("{api}/compaction")).await?;
    refusals(etcd).await?;
    long_messages(etcd, &format!("{api}/long/")).await?;
    snapshot(etcd).await?;
    restart(etcd, &format!("{api}/restart")).await?;
    let maintenance = MaintenanceClient::from(etcd.clone());
    Ok(maintenance.send_recv().status(StatusRequest {}).await?.version)
}

async fn put_and_range(etcd: &Client, prefix: &str) -> Result {
    let kv = KvClient::from(etcd.clone());
    let mut revisions = Vec::new();
    for (key, value) in [("cat", "meow"), ("dog", "woof"), ("dog", "arf")] {
        let request = PutRequest {
            prev_kv: true,
            ..put(format!("{prefix}{key}"), value)
        };
        let reply = kv.send_recv().put(request).await?;
        let is_second = value == "arf";
        assert_eq!(
            reply.prev_kv.map(|previous| previous.value),
            is_second.then(|| "woof".into())
        );
        revisions.push(reply.header.ok_or("a header")?.revision);
    }
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");

    let found = kv.send_recv().range(all_below(prefix)).await?;
    assert_eq!((found.count, found.more), (2, false));
    assert_eq!(
        pairs(&found.kvs),
        [(format!("{prefix}cat"), "meow"), (format!("{prefix}dog"), "arf")]
    );
    assert_eq!(found.kvs[1].version, 2);
    // As it was before the last put.
    let past = RangeRequest {
        revision: revisions[1],
        ..all_below(prefix)
    };
    let past = kv.send_recv().range(past).await?;
    assert_eq!(past.kvs[1].value, "woof");
    let first = RangeRequest {
        limit: 1,
        ..all_below(prefix)
    };
    let first = kv.send_recv().range(first).await?;
    assert_eq!((first.kvs.len(), first.count, first.more), (1, 2, true));
    Ok(())
}

/// Creates a key if it is not there, twice.
async fn transaction(etcd: &Client, key: &str) -> Result {
    let kv = KvClient::from(etcd.clone());
    let create = |value: &'static str| TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: key.to_owned().into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        }],
        success: vec![RequestOp {
            request: Some(Request::RequestPut(put(key.to_owned(), value))),
        }],
        failure: vec![RequestOp {
            request: Some(Request::RequestRange(RangeRequest {
                key: key.to_owned().into(),
                ..RangeRequest::default()
            })),
        }],
    };
    let response = |reply: TxnResponse| reply.responses.into_iter().next()?.response;

    let first = kv.send_recv().txn(create("mine")).await?;
    assert!(first.succeeded);
    assert!(matches!(response(first), Some(Response::ResponsePut(_))));
    let second = kv.send_recv().txn(create("theirs")).await?;
    assert!(!second.succeeded);
    let Some(Response::ResponseRange(found)) = response(second) else {
        return Err("the other branch did not run".into());
    };
    assert_eq!(pairs(&found.kvs), [(key.to_owned(), "mine")]);
    Ok(())
}

async fn watch(etcd: &Client, prefix: &str) -> Result {
    let kv = KvClient::from(etcd.clone());
    let mut watcher = Watcher::start(etcd, prefix, 0).await?;
    let key = format!("{prefix}dog");
    let reply = kv.send_recv().put(put(key.clone(), "woof")).await?;
    let revision = reply.header.ok_or("a header")?.revision;
    let delete = DeleteRangeRequest {
        key: key.clone().into(),
        ..DeleteRangeRequest::default()
    };
    assert_eq!(kv.send_recv().delete_range(delete).await?.deleted, 1);
    let expected = [
        (EventType::Put, key.clone(), "woof".into()),
        (EventType::Delete, key.clone(), String::new()),
    ];
    assert_eq!(watcher.events(2).await?, expected);
    let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: watcher.id });
    watcher.send(cancel).await?;
    assert!(watcher.reply().await?.canceled);
    drop(watcher);

    // What has been is told to one who asks for it.
    let mut late = Watcher::start(etcd, prefix, revision).await?;
    assert_eq!(late.events(2).await?, expected);

    // An endless stream ends by its deadline.
    let quiet = WatchClient::from(etcd.clone());
    let end = async {
        let (mut requests, mut replies) = quiet.send_recv().timeout(Duration::from_secs(1)).watch().await?;
        requests.send(create("nobody/", 0)).await?;
        while let Some(reply) = replies.message().await? {
            assert!(reply.events.is_empty(), "it tells what nobody did");
        }
        Ok::<_, rpc_runtime::Error>(())
    };
    assert_eq!(
        end.await.map_err(|error| error.code()),
        Err(Code::DeadlineExceeded)
    );
    Ok(())
}

/// Keeps a lease alive, and sees its key go when it is revoked.
async fn lease(etcd: &Client, prefix: &str) -> Result {
    const TTL: i64 = 600;
    let kv = KvClient::from(etcd.clone());
    let leases = LeaseClient::from(etcd.clone());
    let granted = leases
        .send_recv()
        .lease_grant(LeaseGrantRequest { ttl: TTL, id: 0 })
        .await?;
    assert_eq!((granted.ttl, granted.error.as_str()), (TTL, ""));
    let id = granted.id;
    let key = format!("{prefix}lock");
    let mut watcher = Watcher::start(etcd, prefix, 0).await?;
    let held = PutRequest {
        lease: id,
        ..put(key.clone(), "held")
    };
    kv.send_recv().put(held).await?;

    let (mut requests, mut replies) = leases.send_recv().timeout(LIMIT).lease_keep_alive().await?;
    for _ in 0..3 {
        requests.send(LeaseKeepAliveRequest { id }).await?;
        let alive = replies.message().await?.ok_or("the stream has ended")?;
        assert_eq!((alive.id, alive.ttl), (id, TTL));
    }
    let ask = LeaseTimeToLiveRequest { id, keys: true };
    let left = leases.send_recv().lease_time_to_live(ask).await?;
    assert!((1..=TTL).contains(&left.ttl), "{}", left.ttl);
    assert_eq!(left.keys, [key.as_str()]);

    leases.send_recv().lease_revoke(LeaseRevokeRequest { id }).await?;
    let expected = [
        (EventType::Put, key.clone(), "held".into()),
        (EventType::Delete, key, String::new()),
    ];
    assert_eq!(watcher.events(2).await?, expected);
    requests.send(LeaseKeepAliveRequest { id }).await?;
    let gone = replies.message().await?.ok_or("the stream has ended")?;
    assert_eq!(gone.ttl, 0);
    // No more requests: etcd ends the stream well.
    requests.finish();
    assert_eq!(replies.message().await?, None);
    Ok(())
}

async fn compaction(etcd: &Client, key: &str) -> Result {
    const GONE: &str = "etcdserver: mvcc: required revision has been compacted";
    let kv = KvClient::from(etcd.clone());
    let mut revisions = Vec::new();
    for value in ["old", "new"] {
        let reply = kv.send_recv().put(put(key.to_owned(), value)).await?;
        revisions.push(reply.header.ok_or("a header")?.revision);
    }
    let compact = CompactionRequest {
        revision: revisions[1],
        physical: true,
    };
    kv.send_recv().compact(compact).await?;
    let at = |revision| RangeRequest {
        key: key.to_owned().into(),
        revision,
        ..RangeRequest::default()
    };
    assert_eq!(kv.send_recv().range(at(revisions[1])).await?.kvs[0].value, "new");
    fails(
        kv.send_recv().range(at(revisions[0])).await,
        Code::OutOfRange,
        GONE,
    );
    fails(kv.send_recv().compact(compact).await, Code::OutOfRange, GONE);
    let future = "etcdserver: mvcc: required revision is a future revision";
    fails(kv.send_recv().range(at(i64::MAX)).await, Code::OutOfRange, future);

    // A watch learns it by a message, and its stream goes on.
    let mut watcher = Watcher::start(etcd, key, revisions[0]).await?;
    let end = watcher.reply().await?;
    assert_eq!((end.canceled, end.compact_revision), (true, revisions[1]));
    Ok(())
}

async fn refusals(etcd: &Client) -> Result {
    let kv = KvClient::from(etcd.clone());
    let nothing = kv.send_recv().put(PutRequest::default()).await;
    fails(nothing, Code::InvalidArgument, "etcdserver: key is not provided");
    let leases = LeaseClient::from(etcd.clone());
    let unknown = leases
        .send_recv()
        .lease_revoke(LeaseRevokeRequest { id: 1 })
        .await;
    fails(unknown, Code::NotFound, "etcdserver: requested lease not found");
    Ok(())
}

/// Reads and writes what takes many frames of HTTP/2, and more than the limit of a message.
async fn long_messages(etcd: &Client, prefix: &str) -> Result {
    let kv = KvClient::from(etcd.clone());
    for number in 0..5 {
        let long = PutRequest {
            value: vec![number; 1 << 20].into(),
            ..put(format!("{prefix}{number}"), "")
        };
        kv.send_recv().put(long).await?;
    }
    let three = RangeRequest {
        limit: 3,
        ..all_below(prefix)
    };
    let found = kv.send_recv().range(three).await?;
    for (number, pair) in (0..).zip(&found.kvs) {
        assert_eq!(pair.value, vec![number; 1 << 20]);
    }
    let all = kv.send_recv().range(all_below(prefix)).await;
    assert_eq!(all.map_err(|error| error.code()), Err(Code::ResourceExhausted));
    Ok(())
}

/// Reads the database, a stream of replies: each says how much is left.
async fn snapshot(etcd: &Client) -> Result {
    let maintenance = MaintenanceClient::from(etcd.clone());
    let mut parts = maintenance
        .send_recv()
        .timeout(LIMIT)
        .snapshot(SnapshotRequest {})
        .await?;
    let first = parts.message().await?.ok_or("the snapshot is empty")?;
    let mut left = first.remaining_bytes;
    while left > 0 {
        let part = parts.message().await?.ok_or("the snapshot is cut short")?;
        left -= part.blob.len() as u64;
        assert_eq!(part.remaining_bytes, left);
    }
    // The hash, and the end.
    assert_eq!(parts.message().await?.ok_or("no hash")?.blob.len(), 32);
    assert_eq!(parts.message().await?, None);
    Ok(())
}

/// Asks for a restart of etcd on standard output. A line on standard input says that it is done.
async fn restart(etcd: &Client, key: &str) -> Result {
    let kv = KvClient::from(etcd.clone());
    kv.send_recv().put(put(key.to_owned(), "before")).await?;
    let mut watcher = Watcher::start(etcd, key, 0).await?;
    println!("restart");
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    let cut = watcher
        .replies
        .message()
        .await
        .err()
        .ok_or("the watch outlived its etcd")?;
    assert_eq!(cut.code(), Code::Unavailable, "{cut:?}");
    let found = kv.send_recv().timeout(LIMIT).range(all_below(key)).await?;
    assert_eq!(pairs(&found.kvs), [(key.to_owned(), "before")]);
    Ok(())
}

/// A watcher that etcd has confirmed.
struct Watcher {
    id: i64,
    requests: Sender<WatchRequest>,
    replies: Streaming<WatchResponse>,
}

impl Watcher {
    /// Watches the keys that begin with `prefix`, from `revision` or from now.
    async fn start(etcd: &Client, prefix: &str, revision: i64) -> Result<Self> {
        let watch = WatchClient::from(etcd.clone());
        let (mut requests, mut replies) = watch.send_recv().timeout(LIMIT).watch().await?;
        requests.send(create(prefix, revision)).await?;
        let reply = replies.message().await?.ok_or("the stream has ended")?;
        assert!(reply.created, "{reply:?}");
        let id = reply.watch_id;
        Ok(Self {
            id,
            requests,
            replies,
        })
    }

    async fn send(&mut self, request: RequestUnion) -> Result {
        let request_union = Some(request);
        Ok(self.requests.send(WatchRequest { request_union }).await?)
    }

    async fn reply(&mut self) -> Result<WatchResponse> {
        Ok(self.replies.message().await?.ok_or("the stream has ended")?)
    }

    /// Waits for this many events: what happened, to which key, and its value.
    async fn events(&mut self, count: usize) -> Result<Vec<(EventType, String, String)>> {
        let mut events: Vec<Event> = Vec::new();
        while events.len() < count {
            let reply = self.reply().await?;
            assert!(!reply.canceled, "{reply:?}");
            assert_eq!(reply.watch_id, self.id);
            events.extend(reply.events);
        }
        let shown = events.into_iter().map(|event| {
            let kind = event.r#type();
            let pair = event.kv.unwrap_or_default();
            (kind, text(&pair.key).to_owned(), text(&pair.value).to_owned())
        });
        Ok(shown.collect())
    }
}

fn create(prefix: &str, start_revision: i64) -> WatchRequest {
    let RangeRequest { key, range_end, .. } = all_below(prefix);
    let create = WatchCreateRequest {
        key,
        range_end,
        start_revision,
        ..WatchCreateRequest::default()
    };
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

fn put(key: String, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

/// Asks for all keys that begin with `prefix`, in order: those up to the prefix with a last byte that is one more.
fn all_below(prefix: &str) -> RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    RangeRequest {
        key: prefix.to_owned().into(),
        range_end: end.into(),
        ..RangeRequest::default()
    }
}

fn pairs(kvs: &[KeyValue]) -> Vec<(String, &str)> {
    kvs.iter()
        .map(|pair| (text(&pair.key).to_owned(), text(&pair.value)))
        .collect()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("these keys and values are text")
}

/// The call must have failed in etcd's handler, with this code and text.
fn fails<T>(outcome: std::result::Result<T, rpc_runtime::Error>, code: Code, message: &str) {
    let error = outcome.err().expect("this call fails");
    assert_eq!((error.code(), error.message()), (code, message), "{error:?}");
    assert_eq!(error.executed(), Executed::Yes, "{error:?}");
}
