//! Streams during a drain, streams that block their thread, and streams without an end beside other calls.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use rpc_runtime::{
    Client, Code, DrainReport, Error, Executed, Reply, Result, Sender, Server, Streaming,
    server::{Handler, Incoming, Procedure, ServerHandle, Service},
    stream,
};
use test_support::{gate, lab::*, unix, within};
use tokio::task::JoinHandle;

/// A server of a lab, and a client of it.
struct Served {
    lab: Lab,
    client: Client,
    handle: ServerHandle,
    serving: JoinHandle<Result<DrainReport, Error>>,
}

impl Served {
    async fn new(address: &str, drain_timeout: Duration) -> Self {
        let lab = Lab::default();
        let server = Server::builder()
            .service(lab.clone())
            .service(Gate::default())
            .listener(address)
            .drain_timeout(drain_timeout)
            .signals(false)
            .bind()
            .await
            .unwrap();
        let handle = server.handle();
        let serving = gate::serve(server);
        let client = within(Client::connect(address)).await.unwrap();
        Self {
            lab,
            client,
            handle,
            serving,
        }
    }

    async fn echo(&self) -> (Sender<String>, Streaming<String>) {
        within(self.client.call().both_streams(&ECHO_STREAM))
            .await
            .unwrap()
    }

    async fn count(&self, end: u64) -> Streaming<u64> {
        within(self.client.call().timeout(None).reply_stream(&COUNT, end))
            .await
            .unwrap()
    }

    async fn double(&self) {
        let call = self.client.call().send_recv::<u64, u64>(&DOUBLE, 21);
        assert_eq!(within(call).await.unwrap(), 42);
    }

    async fn report(self) -> DrainReport {
        within(self.serving).await.unwrap().unwrap()
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn streams_go_on_while_a_server_drains_and_lose_no_message() {
    let served = Served::new("mem:stream-drain-goes-on", Duration::from_secs(50)).await;
    let (mut sender, mut replies) = served.echo().await;
    let (mut numbers, sum): (Sender<u64>, Reply<u64>) = within(served.client.call().request_stream(&SUM, Ok))
        .await
        .unwrap();
    within(sender.send("before".to_owned())).await.unwrap();
    assert_eq!(within(replies.message()).await.unwrap().unwrap(), "before");
    within(numbers.send(1)).await.unwrap();
    served.handle.drain();
    // The server still takes the calls that cross its GOAWAY, and all of them succeed.
    let mut crossed = 0;
    within(async {
        let call = || served.client.call().timeout(Duration::from_millis(10));
        while call().send_recv::<u64, u64>(&DOUBLE, 1).await.is_ok() {
            crossed += 1;
        }
    })
    .await;
    for index in 0..100 {
        let text = format!("late {index}");
        within(sender.send(text.clone())).await.unwrap();
        within(numbers.send(1)).await.unwrap();
        assert_eq!(within(replies.message()).await.unwrap().unwrap(), text);
    }
    sender.finish();
    numbers.finish();
    assert!(within(replies.message()).await.unwrap().is_none());
    assert_eq!(within(sum).await.unwrap(), 101);
    let report = served.report().await;
    assert!(report.is_clean(), "{report}");
    assert!((2..=2 + crossed).contains(&report.completed()), "{report}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn streams_that_outlast_a_drain_are_cut_and_counted_once() {
    let served = Served::new("mem:stream-drain-cut", Duration::from_secs(5)).await;
    let (mut sender, mut replies) = served.echo().await;
    within(sender.send("before".to_owned())).await.unwrap();
    let (mut ignored, reply): (Sender<String>, Reply<()>) =
        within(served.client.call().request_stream(&IGNORE, Ok))
            .await
            .unwrap();
    within(ignored.send("unread".to_owned())).await.unwrap();
    served.lab.until_hanging(1).await;
    let mut unread = served.count(u64::MAX).await;
    assert_eq!(within(unread.message()).await.unwrap(), Some(0));
    served.handle.drain();

    let (read, end) = all(&mut replies).await;
    assert_eq!(read, ["before"]);
    let ignored = within(reply).await.map(drop);
    for end in [end, ignored] {
        let error = end.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unavailable, Executed::Maybe),
            "{error}"
        );
    }
    let error = within(sender.send("late".to_owned())).await.unwrap_err();
    assert_eq!(error.executed(), Executed::Maybe, "{error}");
    let report = served.report().await;
    let counts = (report.completed(), report.aborted(), report.stuck());
    assert_eq!(counts, (0, 3, 0), "{report}");
    // What had come is there still, in order, and its end is no good one.
    let (numbers, end) = all(&mut unread).await;
    let count = numbers.len() as u64;
    assert!(numbers.into_iter().eq(1..=count));
    assert_eq!(end.unwrap_err().executed(), Executed::Maybe);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_caller_that_does_not_read_delays_no_drain_and_gets_no_success() {
    let served = Served::new("mem:stream-drain-unread", Duration::from_secs(5)).await;
    let mut unread = served.count(1_000_000).await;
    served.double().await;
    served.handle.drain();
    let report = served.report().await;
    assert_eq!((report.aborted(), report.stuck()), (1, 0), "{report}");
    let (numbers, end) = all(&mut unread).await;
    let error = end.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    let count = numbers.len() as u64;
    assert!((1..1_000_000).contains(&count), "{count}");
    assert!(numbers.into_iter().eq(0..count));
}

#[tokio::test(crate = "test_support::gate")]
async fn a_stream_that_ended_before_its_server_did_is_read_after_it() {
    let served = Served::new("mem:stream-drain-after", Duration::from_secs(50)).await;
    let mut unread = served.count(100).await;
    served.handle.drain();
    let report = served.report().await;
    assert!(report.is_clean(), "{report}");
    let (numbers, end) = all(&mut unread).await;
    end.unwrap();
    assert!(numbers.into_iter().eq(0..100));
}

#[tokio::test(crate = "test_support::gate")]
async fn an_endless_stream_leaves_others_their_turn() {
    // One thread for all of them.
    let served = Served::new("mem:stream-always", Duration::ZERO).await;
    let mut numbers = served.count(u64::MAX).await;
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = numbers.message().await {} });
    for _ in 0..100 {
        served.double().await;
    }
    reading.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn a_stream_that_blocks_its_thread_delays_no_other() {
    for address in ["mem:stream-blocks".to_owned(), unix("stream-blocks")] {
        let gate = Gate::default();
        let lab = Lab::default();
        let server = Server::builder()
            .service(gate.clone())
            .service(lab)
            .listener(&address)
            .signals(false)
            .bind()
            .await
            .unwrap();
        let handle = server.handle();
        let serving = gate::serve(server);
        let client = within(Client::connect(&address)).await.unwrap();
        let blocked = client.call().reply_stream(&BLOCK, ());
        let mut blocked: Streaming<String> = within(blocked).await.unwrap();
        gate.until_blocked().await;
        // On the same connection.
        let call = client.call().send_recv::<u64, u64>(&DOUBLE, 21);
        assert_eq!(within(call).await.unwrap(), 42);
        let echo = client.call().both_streams::<String, String>(&ECHO_STREAM);
        let (mut sender, mut replies) = within(echo).await.unwrap();
        within(sender.send("beside".to_owned())).await.unwrap();
        assert_eq!(within(replies.message()).await.unwrap().unwrap(), "beside");
        assert!(gate.is_blocked());
        gate.open();
        let (read, end) = all(&mut blocked).await;
        end.unwrap();
        assert_eq!(read, ["before", "after"]);
        sender.finish();
        assert!(within(replies.message()).await.unwrap().is_none());
        handle.drain();
        within(serving).await.unwrap().unwrap();
    }
}

/// Sends one message, blocks its thread without having said so until the gate opens, and sends another.
static BLOCK: Procedure = Procedure::new("gate.v1.Gate/block", 401).with_reply_stream();

static PROCEDURES: [Procedure; 1] = [BLOCK];

/// Something that a thread can be blocked by.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<At>, Condvar)>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Nobody,
    Blocked,
    Open,
}

impl Gate {
    fn block(&self) {
        let (at, changed) = &*self.0;
        *at.lock().unwrap() = At::Blocked;
        let opened = changed.wait_while(at.lock().unwrap(), |at| *at != At::Open);
        drop(opened.unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = At::Open;
        self.0.1.notify_all();
    }

    fn is_blocked(&self) -> bool {
        *self.0.0.lock().unwrap() == At::Blocked
    }

    async fn until_blocked(&self) {
        within(async {
            while !self.is_blocked() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Service for Gate {
    fn name(&self) -> &'static str {
        "gate.v1.Gate"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let gate = self.clone();
        call.handle_reply_stream(move |_, (), replies| async move {
            let blocking = stream(async |out| {
                out.send("before".to_owned()).await;
                gate.block();
                out.send("after".to_owned()).await;
                Ok(())
            });
            replies.forward(blocking).await
        })
    }
}
