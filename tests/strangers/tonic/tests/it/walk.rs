//! A service moves from tonic to this project, one side at a time, while its callers call. No call fails.

mod callers;

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic_stranger::{
    journal,
    ours::OurServer,
    theirs::{
        TheirServer,
        v1::{Entry, ledger_client::LedgerClient},
    },
};

use self::callers::{CALLERS, Callers, Way};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_moves_and_then_its_callers() {
    let theirs = TheirServer::start().await;
    let callers = Callers::start(Way::Tonic(theirs.address())).await;
    // A stream that is older than the move.
    let mut ledger = LedgerClient::connect(format!("http://{}", theirs.address()))
        .await
        .unwrap();
    let (sender, entries) = mpsc::channel(1);
    let entry = |text: &str| Entry {
        text: text.to_owned(),
        ..Entry::default()
    };
    sender.send(entry("before")).await.unwrap();
    let mut answers = ledger
        .talk(ReceiverStream::new(entries))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "before");

    // The server: both serve, callers switch, the old one drains.
    let ours = OurServer::start().await;
    for caller in 0..CALLERS {
        callers.switch(caller, Way::Tonic(ours.address())).await;
    }
    let at_theirs = theirs.journal.clone();
    let ended = tokio::spawn(theirs.drain());
    sender.send(entry("after")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "after");
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
    ended.await.unwrap();

    // The callers.
    for caller in 0..CALLERS {
        callers.switch(caller, Way::Grpc(ours.address())).await;
    }
    for caller in 0..CALLERS {
        callers.switch(caller, Way::Native(ours.address())).await;
    }
    let mut made = callers.stop().await;
    // The stream has an id, too.
    made.insert(0);
    let at_ours = ours.journal.clone();
    assert!(ours.stop().await.is_clean());
    each_ran_once(&made, &at_theirs.entries(), &at_ours.entries());
    assert_eq!(agents(&at_theirs.entries()), ["tonic"]);
    assert_eq!(agents(&at_ours.entries()), ["", "grpc-rust-rpc-http", "tonic"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_move_and_then_their_server() {
    let theirs = TheirServer::start().await;
    let callers = Callers::start(Way::Tonic(theirs.address())).await;
    let ours = OurServer::start().await;
    for caller in 0..CALLERS {
        callers
            .switch(caller, Way::Either(theirs.address(), ours.address()))
            .await;
    }
    // Nobody tells the callers.
    let at_theirs = theirs.journal.clone();
    theirs.drain().await;
    for caller in 0..CALLERS {
        callers.go_on(caller).await;
    }
    let made = callers.stop().await;
    let at_ours = ours.journal.clone();
    assert!(ours.stop().await.is_clean());
    each_ran_once(&made, &at_theirs.entries(), &at_ours.entries());
    assert_eq!(agents(&at_theirs.entries()), ["grpc-rust-rpc-http", "tonic"]);
    assert_eq!(agents(&at_ours.entries()), [""]);
}

/// Checks that both sides counted the same: each call that succeeded has one run, at one of the servers, and there are no others.
fn each_ran_once(
    made: &BTreeSet<u64>,
    theirs: &BTreeMap<u64, journal::Entry>,
    ours: &BTreeMap<u64, journal::Entry>,
) {
    assert!(!theirs.is_empty() && !ours.is_empty());
    for (id, run) in theirs.iter().chain(ours) {
        assert_eq!((run.begun, run.ended, run.dropped), (1, 1, 0), "call {id}");
        assert!(made.contains(id), "nobody has made the call {id}");
    }
    assert_eq!(theirs.len() + ours.len(), made.len());
    println!(
        "{} calls at tonic's server, {} at ours, none failed",
        theirs.len(),
        ours.len()
    );
}

/// The libraries of the callers, without their versions.
fn agents(entries: &BTreeMap<u64, journal::Entry>) -> Vec<&str> {
    let names = entries
        .values()
        .map(|entry| entry.agent.split('/').next().unwrap_or_default());
    let names: BTreeSet<_> = names.collect();
    names.into_iter().collect()
}
