//! What the demo's store does by streams and callbacks.

use demo_api::demo::kv::v1::{
    Command, KvClient, KvServer, UpdateRequest, WatchEvent, Watcher, WatcherServer,
};
use demo_server::Store;
use rpc_runtime::{Bytes, Code, Context, DrainReport, Error, Executed, Result, Server};
use test_support::{gate, within};
use tokio::{sync::mpsc, task::JoinHandle};

fn event(key: &str, value: &'static str) -> WatchEvent {
    WatchEvent {
        key: key.to_owned(),
        value: value.into(),
    }
}

fn entry(key: &str) -> UpdateRequest {
    UpdateRequest {
        key: key.to_owned(),
        value: "new".into(),
    }
}

/// A server at `address`, and a client of it.
async fn server(address: &str) -> (KvClient, JoinHandle<Result<DrainReport, Error>>) {
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .listener(address)
        .signals(false);
    let serving = gate::serve(server.bind().await.unwrap());
    (KvClient::connect(address).await.unwrap(), serving)
}

/// A client that can be called back, and what it hears; it takes no more calls while `capacity` of them were not heard.
async fn subscriber(address: &str, capacity: usize) -> (KvClient, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel(capacity);
    let kv = KvClient::builder(address).service(WatcherServer::new(Heard(told)));
    (kv.connect().await.unwrap(), heard)
}

#[tokio::test(crate = "test_support::gate")]
async fn a_watcher_sees_all_entries_each_change_and_the_end_at_the_drain() {
    let (kv, serving) = server("mem:feeds-watch").await;
    for (key, value) in [("a/2", "two"), ("b/1", "other"), ("a/1", "one")] {
        kv.send_recv().update(key, value).await.unwrap();
    }
    let mut events = kv.send_recv().watch("a/").await.unwrap();
    for expected in [event("a/1", "one"), event("a/2", "two")] {
        assert_eq!(within(events.message()).await.unwrap(), Some(expected));
    }
    kv.send_recv().update("b/2", "other").await.unwrap();
    kv.send_recv().update("a/3", "three").await.unwrap();
    assert_eq!(
        within(events.message()).await.unwrap(),
        Some(event("a/3", "three"))
    );
    let report = within(kv.terminate()).await.unwrap();
    assert!(report.is_clean() && report.completed() == 1, "{report}");
    assert_eq!(within(events.message()).await.unwrap(), None);
    within(serving).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", crate = "test_support::gate")]
async fn a_watcher_misses_no_change_and_sees_none_twice() {
    // Fewer than the store's memory of changes, so that no watcher is too slow.
    const VALUES: usize = 1000;
    let address = "mem:feeds-race";
    let (writer, _serving) = server(address).await;
    // Of another connection, so that both are served at once.
    let watcher = KvClient::connect(address).await.unwrap();
    writer.send_recv().update("count", "0").await.unwrap();
    let writing = tokio::spawn(async move {
        for value in 1..=VALUES {
            writer
                .send_recv()
                .update("count", value.to_string())
                .await
                .unwrap();
        }
    });
    let number = |event: Option<WatchEvent>| -> usize {
        let event = event.expect("the stream goes on");
        std::str::from_utf8(&event.value).unwrap().parse().unwrap()
    };
    within(async {
        let mut seen = 0;
        while seen < VALUES {
            let mut events = watcher.send_recv().watch("count").await.unwrap();
            seen = number(events.message().await.unwrap());
            if seen < VALUES {
                assert_eq!(number(events.message().await.unwrap()), seen + 1);
            }
        }
        writing.await.unwrap();
    })
    .await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_watcher_that_does_not_read_gets_an_error_for_its_lost_changes() {
    let kv = KvClient::in_process(KvServer::new(Store::default()));
    let mut events = kv.send_recv().watch("").await.unwrap();
    // Far more than its window and the store's memory of changes take.
    within(async {
        for number in 0..3000 {
            kv.send_recv().update("key", number.to_string()).await.unwrap();
        }
    })
    .await;
    let error = within(async {
        loop {
            if let Err(error) = events.message().await {
                return error;
            }
        }
    });
    let error = error.await;
    assert_eq!((error.code(), error.executed()), (Code::DataLoss, Executed::Yes));
}

#[tokio::test(crate = "test_support::gate")]
async fn an_open_session_learns_of_the_drain_and_does_not_delay_it() {
    let (kv, serving) = server("mem:feeds-session").await;
    let (mut commands, mut answers) = kv.send_recv().session().await.unwrap();
    let command = Command {
        key: "dog".to_owned(),
        value: Some("brown".into()),
    };
    commands.send(command).await.unwrap();
    let answer = within(answers.message()).await.unwrap().unwrap();
    assert_eq!(answer.before, None);
    let report = within(kv.terminate()).await.unwrap();
    assert!(report.is_clean() && report.completed() == 1, "{report}");
    let error = within(answers.message()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Yes)
    );
    within(serving).await.unwrap().unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn an_abandoned_import_is_an_error_and_a_bad_entry_is_refused() {
    let kv = KvClient::in_process(KvServer::new(Store::default()));
    let (mut entries, imported) = kv.send_recv().import().await.unwrap();
    within(entries.send(entry("first"))).await.unwrap();
    drop(entries);
    let error = within(imported).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Cancelled, Executed::Maybe)
    );

    let (mut entries, imported) = kv.send_recv().import().await.unwrap();
    within(entries.send(entry("second"))).await.unwrap();
    within(entries.send(entry(""))).await.unwrap();
    let error = within(imported).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::Yes)
    );
    assert!(kv.send_recv().fetch("second").await.unwrap().is_some());
    // A sender that goes on gets an error.
    let late = within(async {
        loop {
            if let Err(error) = entries.send(entry("third")).await {
                return error;
            }
        }
    });
    assert_eq!(late.await.code(), Code::Cancelled);
}

struct Heard(mpsc::Sender<String>);

impl Watcher for Heard {
    async fn rpc_changed(&self, _: &Context, key: String, _: Bytes) -> Result<()> {
        let _ = self.0.send(key).await;
        Ok(())
    }

    async fn rpc_missed(&self, _: &Context, changes: u64) -> Result<()> {
        let _ = self.0.send(format!("missed {changes}")).await;
        Ok(())
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_subscriber_is_called_back_until_it_goes() {
    let address = "mem:feeds-subscribe";
    let (other, serving) = server(address).await;
    let (kv, mut heard) = subscriber(address, 10).await;
    kv.send_recv().subscribe("a/").await.unwrap();
    for key in ["a/1", "b/1", "a/2"] {
        other.send_recv().update(key, "value").await.unwrap();
    }
    assert_eq!(within(heard.recv()).await.unwrap(), "a/1");
    assert_eq!(within(heard.recv()).await.unwrap(), "a/2");
    within(kv.close()).await.unwrap();
    drop(kv);
    other.send_recv().update("a/3", "value").await.unwrap();
    assert!(
        within(heard.recv()).await.is_none(),
        "its service is gone with it"
    );
    within(other.terminate()).await.unwrap();
    within(serving).await.unwrap().unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_slow_subscriber_learns_how_many_changes_it_missed() {
    let address = "mem:feeds-slow";
    let (other, _serving) = server(address).await;
    let (kv, mut heard) = subscriber(address, 1).await;
    kv.send_recv().subscribe("").await.unwrap();
    within(async {
        for number in 0..3000 {
            other
                .send_recv()
                .update(format!("{number}"), "value")
                .await
                .unwrap();
        }
    })
    .await;
    // What it hears and what it has missed are all changes, in their order.
    let (mut expected, mut missed) = (0, 0);
    while expected < 3000 {
        let told = within(heard.recv()).await.unwrap();
        match told.strip_prefix("missed ") {
            Some(number) => {
                let number: usize = number.parse().unwrap();
                missed += number;
                expected += number;
            }
            None => {
                assert_eq!(told, expected.to_string());
                expected += 1;
            }
        }
    }
    assert!(missed > 0);
}

#[tokio::test(crate = "test_support::gate")]
async fn subscribers_are_limited_and_free_their_places_when_they_leave() {
    let address = "mem:feeds-limit";
    let (other, _serving) = server(address).await;
    let (kv, _heard) = subscriber(address, 1).await;
    for _ in 0..100 {
        kv.send_recv().subscribe("").await.unwrap();
    }
    let error = other.send_recv().subscribe("").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::ResourceExhausted, Executed::Yes)
    );
    within(kv.close()).await.unwrap();
    within(async {
        while other.send_recv().subscribe("").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
