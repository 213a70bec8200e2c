//! What the demo's store does by streams and callbacks.

use std::time::Duration;

use demo_api::demo::kv::v1::{KvClient, KvServer, UpdateRequest, WatchEvent, Watcher, WatcherServer};
use demo_server::Store;
use rpc_runtime::{Bytes, Code, Context, Executed, Result, Server};
use tokio::{sync::mpsc, time::timeout};

/// A net against hanging.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future)
        .await
        .expect("it ends by itself")
}

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

#[tokio::test]
async fn a_watcher_sees_what_is_there_and_each_change_and_the_end_at_the_drain() {
    let address = "mem:feeds-watch";
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .listen(address)
        .signals(false);
    let serving = tokio::spawn(server.bind().await.unwrap().serve());
    let kv = KvClient::connect(address).await.unwrap();
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

#[tokio::test]
async fn an_import_that_is_given_up_is_an_error_and_a_bad_entry_is_refused() {
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
    // Who goes on sending learns that it is over.
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
}

#[tokio::test]
async fn a_subscriber_is_called_back_until_it_goes() {
    let address = "mem:feeds-subscribe";
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .listen(address)
        .signals(false);
    let serving = tokio::spawn(server.bind().await.unwrap().serve());
    let other = KvClient::connect(address).await.unwrap();
    let (told, mut heard) = mpsc::channel(10);
    let kv: KvClient = KvClient::builder(address)
        .serve(WatcherServer::new(Heard(told)))
        .connect()
        .await
        .unwrap();
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
