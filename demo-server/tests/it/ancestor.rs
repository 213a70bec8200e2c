//! The behaviours of the framework that this one replaces, one test each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::streams::streams_of_the_store;
use demo_api::demo::kv::v1::{Kv, KvClient, KvServer};
use demo_server::Store;
use rpc_runtime::{Bytes, Code, Context, DrainReport, Error, Executed, Result, Server, server::Procedure};
use test_support::gate;
use tokio::{sync::Notify, task::JoinHandle};

/// The timeout of a ping, as a guard against hanging. The handler beside it goes on only after the ping has ended.
const SOON: Duration = Duration::from_secs(60);

type Serving = JoinHandle<Result<DrainReport, Error>>;

async fn server(name: &str) -> (KvClient, Serving) {
    let address = format!("mem:ancestor-{name}");
    let server = Server::builder()
        .service(KvServer::new(Store::default()))
        .listener(&address)
        .signals(false)
        .drain_timeout(Duration::from_millis(100))
        .bind()
        .await
        .unwrap();
    let serving = gate::serve(server);
    (KvClient::connect(&address).await.unwrap(), serving)
}

#[tokio::test(flavor = "multi_thread", crate = "test_support::gate")]
async fn ping_answers() {
    let (kv, _serving) = server("ping").await;
    assert_eq!(kv.send_recv().ping("hello").await.unwrap(), "hello");
}

// One thread, so that the first poll of a send ends before the next one begins, however slow the machine is. With several
// threads, a first poll that the OS stops for a millisecond is overtaken (G5).
//
// Each server gets a few calls only. Otherwise the OS may stop the first polls of one procedure four times, and then the server takes the
// procedure for a slow one, whose handlers run in tasks of their own.
#[tokio::test(crate = "test_support::gate")]
async fn send_is_seen_by_the_next_send_recv() {
    for _ in 0..100 {
        let kv = KvClient::in_process(KvServer::new(Store::default()));
        for n in 0..3 {
            let value = n.to_string();
            kv.send().update("dog", value.clone()).await.unwrap();
            assert_eq!(
                kv.send_recv().fetch("dog").await.unwrap(),
                Some(Bytes::from(value))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", crate = "test_support::gate")]
async fn slow_procedure_that_waits_delays_no_ping() {
    let rude = Rude::default();
    let kv = KvClient::in_process(KvServer::new(rude.clone()));
    kv.send().sleep(0).await.unwrap();
    let ping = kv.send_recv().timeout(SOON).ping("quick").await;
    rude.go_on.notify_one();
    assert_eq!(ping.unwrap(), "quick");
    // The one-way handler, and nothing else, has waited for the release.
    while kv.barrier().await.unwrap().pending() > 0 {}
}

/// Handlers that a test holds back. `rpc_sleep` waits. `rpc_block`, which is declared to block, and `rpc_noop`, which is not,
/// block their thread: the first one until `release(1)`, and so on.
#[derive(Clone, Default)]
struct Rude {
    go_on: Arc<Notify>,
    started: Arc<AtomicUsize>,
    released: Arc<AtomicUsize>,
    store: Arc<Store>,
}

impl Rude {
    fn block_until_released(&self) {
        let place = self.started.fetch_add(1, Ordering::AcqRel);
        while self.released.load(Ordering::Acquire) <= place {
            std::thread::yield_now();
        }
    }

    fn release(&self, handlers: usize) {
        self.released.store(handlers, Ordering::Release);
    }
}

impl Kv for Rude {
    async fn rpc_noop(&self, _: &Context) -> Result<()> {
        self.block_until_released();
        Ok(())
    }

    async fn rpc_update(&self, _: &Context, _: String, _: Bytes) -> Result<()> {
        Ok(())
    }

    async fn rpc_fetch(&self, _: &Context, _: String) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn rpc_ping(&self, _: &Context, text: String) -> Result<String> {
        Ok(text)
    }

    async fn rpc_sleep(&self, _: &Context, _: u32) -> Result<()> {
        self.go_on.notified().await;
        Ok(())
    }

    async fn rpc_block(&self, _: &Context, _: u32) -> Result<()> {
        self.block_until_released();
        Ok(())
    }

    streams_of_the_store!();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn slow_procedure_that_blocks_delays_no_ping() {
    let rude = Rude::default();
    let kv = KvClient::in_process(KvServer::new(rude.clone()));
    kv.send().block(0).await.unwrap();
    // The handler blocks until the ping has ended, so a ping that waited for it would miss its deadline.
    let ping = kv.send_recv().timeout(SOON).ping("quick").await;
    rude.release(1);
    assert_eq!(ping.unwrap(), "quick");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn handler_that_blocks_unannounced_delays_no_ping() {
    let rude = Rude::default();
    let kv = KvClient::in_process(KvServer::new(rude.clone()));
    for round in 0..20 {
        kv.send().noop().await.unwrap();
        let ping = kv.send_recv().timeout(SOON).ping("quick").await;
        // Before anything can fail: a blocked worker would keep the test's runtime from ending.
        rude.release(round + 1);
        assert_eq!(ping.unwrap(), "quick", "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", crate = "test_support::gate")]
async fn only_listed_procedures_can_be_called() {
    // The store's own methods are `put` and `get`; no id reaches them, nor any other that is not listed.
    const PUT: Procedure = Procedure::new("demo.kv.v1.Kv/put", 0x1234_5678_9abc_def0);
    let (kv, _serving) = server("listed").await;
    let error = kv.client().call().send_recv::<_, ()>(&PUT, ()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unimplemented, Executed::No),
        "{error}"
    );
    assert_eq!(kv.send_recv().ping("still there").await.unwrap(), "still there");
}

#[tokio::test(flavor = "multi_thread", crate = "test_support::gate")]
async fn serve_has_returned_after_terminate() {
    let (kv, serving) = server("terminate").await;
    kv.send_recv().update("dog", "brown").await.unwrap();
    let told = kv.send_recv().terminate().await.unwrap();
    let report = serving.await.unwrap().unwrap();
    assert!(told.is_clean() && report.is_clean(), "{told}; {report}");
    let error = kv
        .send_recv()
        .timeout(Duration::from_millis(200))
        .ping("gone?")
        .await
        .unwrap_err();
    assert_eq!(error.executed(), Executed::No, "{error}");
}

#[tokio::test(flavor = "multi_thread", crate = "test_support::gate")]
async fn terminate_can_be_sent_one_way() {
    let (kv, serving) = server("one-way-terminate").await;
    kv.send().terminate().await.unwrap();
    // The flush fails if the server has ended already, because no barrier has covered the send.
    let _ = kv.flush().await;
    assert!(serving.await.unwrap().unwrap().is_clean());
}
