//! Five nodes, each a server and a client of the other four, as in a Raft cluster.

use std::{sync::Arc, time::Duration};

use super::child::Process;
use super::nodes::{Cluster, NODES, Node, Peers, TERMINATE, ping_all, ping_among, update_all};
use rpc_runtime::{Code, DrainReport, Executed};
use test_support::LONG;
use tokio::{sync::Barrier, task::JoinSet, time::timeout};

/// How long a node tries to reach one that is away.
const BRIEF: Duration = Duration::from_millis(50);
/// How long a node tries to terminate one that another may have terminated before.
const ENOUGH: Duration = Duration::from_secs(1);
const TRANSPORTS: [&str; 2] = ["mem", "tcp"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn all_nodes_ping_each_other_at_once() {
    for transport in TRANSPORTS {
        let cluster = Cluster::start(transport, "ping").await;
        // No handler goes on until all twenty are there, so one after the other would not do.
        let meeting = Arc::new(Barrier::new(NODES * (NODES - 1)));
        for node in &cluster.nodes {
            node.member.meeting.set(Arc::clone(&meeting)).unwrap();
        }
        for _ in 0..10 {
            ping_all(&cluster.peers).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn an_update_sent_to_all_is_fetched_back_from_all() {
    for transport in TRANSPORTS {
        let cluster = Cluster::start(transport, "update").await;
        update_all(&cluster.peers).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn a_blocked_node_delays_no_other() {
    for transport in TRANSPORTS {
        let cluster = Cluster::start(transport, "slow").await;
        let gate = &cluster.nodes[0].member.gate;
        let open = gate.opened_by();
        let mut blocked = JoinSet::new();
        for peers in &cluster.peers[1..] {
            let kv = peers.to(0).clone();
            blocked.spawn(async move { kv.send_recv().block(0).await });
        }
        let kv = cluster.peers[1].to(0).clone();
        blocked.spawn(async move { kv.send_recv().noop().await });
        gate.entered(NODES).await;
        for _ in 0..10 {
            ping_all(&cluster.peers).await;
        }
        update_all(&cluster.peers[1..]).await;
        assert!(
            blocked.try_join_next().is_none(),
            "a blocked call ended before the gate opened"
        );
        drop(open);
        for result in blocked.join_all().await {
            result.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn a_lost_node_is_noticed_and_reached_again_when_it_is_back() {
    const AWAY: usize = 2;
    for transport in TRANSPORTS {
        let mut cluster = Cluster::start(transport, "away").await;
        for round in 0..6 {
            ping_all(&cluster.peers).await;
            let node = cluster.nodes.remove(AWAY);
            let mut open = JoinSet::new();
            for (_, kv) in cluster
                .peers
                .iter()
                .flat_map(|peers| peers.others())
                .filter(|(to, _)| *to == AWAY)
            {
                let kv = kv.clone();
                open.spawn(async move { kv.send_recv().timeout(LONG * 2).sleep(0).await });
            }
            node.member.gate.entered(NODES - 1).await;
            let (handle, address) = (node.handle.clone(), node.address.clone());
            match round % 2 {
                // Dropped: its callers get no GOAWAY.
                0 => node.serving.abort(),
                _ => handle.abort(),
            }
            for noticed in timeout(LONG, open.join_all()).await.expect("the loss is noticed") {
                let error = noticed.unwrap_err();
                assert_eq!(
                    (error.code(), error.executed()),
                    (Code::Unavailable, Executed::Maybe),
                    "{error}"
                );
            }
            timeout(LONG, handle.drained())
                .await
                .expect("the server is not drained after 60 s");
            ping_among(&cluster.peers, |node| node != AWAY).await;
            for peers in cluster.peers.iter().filter(|peers| peers.own() != AWAY) {
                let ping = peers.to(AWAY).send_recv().timeout(BRIEF).ping("gone?");
                let error = ping.await.unwrap_err();
                assert_eq!(error.executed(), Executed::No, "{error}");
            }
            ping_among(&cluster.peers, |node| node != AWAY).await;
            cluster.nodes.insert(AWAY, Node::start(&address).await);
        }
        ping_all(&cluster.peers).await;
        update_all(&cluster.peers).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn one_node_terminates_all_others_and_then_itself() {
    for transport in TRANSPORTS {
        let cluster = Cluster::start(transport, "terminate").await;
        ping_all(&cluster.peers).await;
        let told = timeout(LONG, cluster.peers[3].terminate_all())
            .await
            .unwrap()
            .unwrap();
        let reports = cluster.reports().await;
        assert_eq!(told, reports);
        assert!(reports.iter().all(DrainReport::is_clean), "{reports:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn a_handler_terminates_all_others_and_then_its_own_server() {
    for transport in TRANSPORTS {
        let cluster = Cluster::start(transport, "handler").await;
        ping_all(&cluster.peers).await;
        let kv = cluster.peers[1].to(0);
        let told = timeout(LONG, kv.send_recv().update(TERMINATE, "")).await.unwrap();
        told.expect("the drain cut the handler that began it");
        let reports = cluster.reports().await;
        assert_eq!(reports[0].completed(), 1, "its own handler: {reports:?}");
        assert!(reports.iter().all(DrainReport::is_clean), "{reports:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn all_nodes_terminate_all_at_once() {
    for transport in TRANSPORTS {
        let cluster = Cluster::start(transport, "everybody").await;
        ping_all(&cluster.peers).await;
        let mut terminates = JoinSet::new();
        for peers in cluster.peers.clone() {
            terminates.spawn(async move { peers.terminate_all_within(ENOUGH).await });
        }
        // Those who come late find the door closed, and knock until their time is over.
        timeout(LONG, terminates.join_all())
            .await
            .expect("every terminate ends");
        let reports = cluster.reports().await;
        assert!(reports.iter().all(DrainReport::is_clean), "{reports:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn five_processes_ping_update_and_terminate_each_other() {
    const AWAY: usize = 4;
    let (mut processes, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..NODES {
        let (process, address) = Process::listening("tcp://127.0.0.1:0").await;
        processes.push(process);
        addresses.push(address);
    }
    let peers = Peers::of(&addresses);
    ping_all(&peers).await;
    update_all(&peers).await;

    let away = processes.remove(AWAY);
    away.signal("-TERM").await;
    let (code, _, stderr) = away.end().await;
    assert_eq!(code, 0, "{stderr}");
    ping_among(&peers, |node| node != AWAY).await;
    let (back, _) = Process::listening(&addresses[AWAY]).await;
    processes.insert(AWAY, back);
    ping_all(&peers).await;

    let told = timeout(LONG, peers[0].terminate_all()).await.unwrap().unwrap();
    for (process, told) in processes.into_iter().zip(told) {
        let (code, _, stderr) = process.end().await;
        assert_eq!(code, 0, "{stderr}");
        assert!(
            stderr.contains(&format!("terminated: {told}")),
            "{told}: {stderr}"
        );
    }
}
