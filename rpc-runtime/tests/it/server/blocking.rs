//! Handlers that are declared `blocking`: what works in `spawn_blocking` works in them. Other handlers that block get advice.

use std::{
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context as TaskContext, Poll, Waker},
    thread,
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Context, DrainReport, Error, Executed, Result, Server,
    server::{Handler, Incoming, Procedure, ServerBuilder, Service},
};
use test_support::{LONG, Logged, gate, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle, Runtime},
    sync::{Notify, mpsc, oneshot},
    task::{JoinHandle, block_in_place, yield_now},
    time::{sleep, timeout},
};

static IN_ORDER: Procedure = Procedure::new("free.v1.Free/rpc_in_order", 1);
static SPAWNED: Procedure = Procedure::new("free.v1.Free/rpc_spawned", 2).spawn();
static BLOCKING: Procedure = Procedure::new("free.v1.Free/rpc_blocking", 3).blocking();
static PROCEDURES: [Procedure; 3] = [IN_ORDER, SPAWNED, BLOCKING];

/// A service whose handlers do what the test says, however they are declared.
#[derive(Clone)]
struct Free(Arc<Work>);

type Work = dyn Fn(Context) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

impl Free {
    fn new<F: Future<Output = ()> + Send + 'static>(
        work: impl Fn(Context) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |cx| Box::pin(work(cx))))
    }
}

impl Service for Free {
    fn name(&self) -> &'static str {
        "free.v1.Free"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let Self(work) = self.clone();
        call.handle(|cx: Context, (): ()| async move {
            work(cx).await;
            Ok(())
        })
    }
}

type Serving = JoinHandle<Result<DrainReport, Error>>;

async fn served(free: Free, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Client, Serving) {
    let builder = Server::builder()
        .service(free)
        .listener("tcp://127.0.0.1:0")
        .signals(false);
    let server = configure(builder).bind().await.unwrap();
    let address = server.addresses()[0].clone();
    let serving = gate::serve(server);
    (Client::connect(&address).await.unwrap(), serving)
}

async fn call(client: &Client, procedure: &'static Procedure) -> Result<(), Error> {
    within(client.call().timeout(NET).send_recv(procedure, ())).await
}

/// Everything that blocks by the means of tokio, and by others.
async fn block_in_every_way(_: Context) {
    block(1);
    // And when it is polled again.
    yield_now().await;
    block(2);
    sleep(Duration::from_millis(1)).await;
    block(3);
}

fn block(number: u32) {
    // A blocking client of another library.
    let runtime = Runtime::new().unwrap();
    assert_eq!(
        runtime.block_on(async {
            sleep(MOMENT).await;
            number
        }),
        number
    );
    drop(runtime);
    let other = Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(other.block_on(async { number }), number);
    drop(other);

    let handle = Handle::current();
    assert_eq!(
        handle.block_on(async { tokio::spawn(async move { number }).await.unwrap() }),
        number
    );

    let (sender, mut receiver) = mpsc::channel(1);
    handle.spawn(async move { sender.send(number).await });
    assert_eq!(receiver.blocking_recv(), Some(number));
    let (sender, receiver) = oneshot::channel();
    handle.spawn(async move { sender.send(number) });
    assert_eq!(receiver.blocking_recv().unwrap(), number);
    assert_eq!(*tokio::sync::Mutex::new(number).blocking_lock(), number);
    assert_eq!(*tokio::sync::RwLock::new(number).blocking_read(), number);

    assert_eq!(block_in_place(|| number), number);
    poll_by_an_executor_of_its_own(number);
    thread::sleep(MOMENT);
}

/// As `futures::executor::block_on` and its like do: more than tokio's budget for one poll of a task.
fn poll_by_an_executor_of_its_own(number: u32) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    for _ in 0..1000 {
        sender.send(number).unwrap();
    }
    let mut all = pin!(async {
        for _ in 0..1000 {
            assert_eq!(receiver.recv().await, Some(number));
        }
    });
    let mut polls = 0;
    while all
        .as_mut()
        .poll(&mut TaskContext::from_waker(Waker::noop()))
        .is_pending()
    {
        polls += 1;
        assert!(polls < 1000, "tokio's budget is still used up after 1000 polls");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn blocking_libraries_work_in_a_blocking_handler() {
    let (client, _) = served(Free::new(block_in_every_way), |server| server).await;
    call(&client, &BLOCKING).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn blocking_libraries_work_in_a_blocking_handler_on_one_thread() {
    let (client, _) = served(Free::new(block_in_every_way), |server| server).await;
    call(&client, &BLOCKING).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn blocking_libraries_work_in_a_blocking_handler_of_a_worker() {
    let (client, _) = served(Free::new(block_in_every_way), |server| server.workers(1)).await;
    call(&client, &BLOCKING).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_blocking_handler_awaits_timers_sockets_and_tasks() {
    let work = Free::new(async |_: Context| {
        sleep(MOMENT).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"hello").await.unwrap();
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"hello");
        echo.await.unwrap();
        assert!(timeout(MOMENT, pending::<()>()).await.is_err());
    });
    let (client, _) = served(work, |server| server).await;
    call(&client, &BLOCKING).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_wake_during_the_poll_of_a_blocking_handler_is_not_lost() {
    let work = Free::new(async |_: Context| {
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            // As a library that uses `thread::park` itself: it takes what others have unparked.
            cx.waker().wake_by_ref();
            thread::current().unpark();
            thread::park();
            if polls < 100 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    });
    let (client, _) = served(work, |server| server).await;
    call(&client, &BLOCKING).await.unwrap();
}

/// Tells when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A handler that never ends. It notifies when it begins, and when it is dropped.
fn endless() -> (Free, Arc<Notify>, Arc<Notify>) {
    let (begun, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = (Arc::clone(&begun), Arc::clone(&gone));
    let work = Free::new(move |_| {
        let (begun, gone) = told.clone();
        async move {
            let _dropped = Dropped(gone);
            block(1);
            begun.notify_one();
            pending().await
        }
    });
    (work, begun, gone)
}

#[tokio::test(crate = "test_support::gate")]
async fn a_blocking_handler_is_dropped_at_its_next_await_when_its_caller_goes() {
    let (work, begun, gone) = endless();
    let (client, _) = served(work, |server| server).await;
    let open = tokio::spawn({
        let client = client.clone();
        async move { call(&client, &BLOCKING).await }
    });
    within(begun.notified()).await;
    open.abort();
    within(gone.notified()).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_blocking_handler_is_dropped_at_its_deadline() {
    let (work, begun, gone) = endless();
    let (client, _) = served(work, |server| server).await;
    let limit = Duration::from_millis(300);
    let error = client
        .call()
        .timeout(limit)
        .send_recv::<_, ()>(&BLOCKING, ())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    // On a slow machine the deadline passed before the handler began; then there is nothing to drop.
    if error.executed() != Executed::No && timeout(limit, begun.notified()).await.is_ok() {
        within(gone.notified()).await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_blocking_handler_that_awaits_is_dropped_by_the_drain() {
    let (work, begun, gone) = endless();
    let (client, serving) = served(work, |server| server.drain_timeout(Duration::ZERO)).await;
    let open = tokio::spawn({
        let client = client.clone();
        async move { call(&client, &BLOCKING).await }
    });
    within(begun.notified()).await;
    client.terminate().await.unwrap();
    let report = within(serving).await.unwrap().unwrap();
    assert_eq!((report.aborted(), report.stuck()), (1, 0), "{report}");
    within(gone.notified()).await;
    within(open).await.unwrap().unwrap_err();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_panic_of_a_blocking_handler_is_the_failure_of_its_call() {
    let work = Free::new(async |_: Context| {
        block(1);
        yield_now().await;
        panic!("with what the peer has sent")
    });
    let (client, _) = served(work, |server| server).await;
    for _ in 0..3 {
        let error = call(&client, &BLOCKING).await.unwrap_err();
        assert_eq!(told(&error), "handler panicked");
        assert_eq!((error.code(), error.executed()), (Code::Unknown, Executed::Yes));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn block_in_place_works_in_every_handler_of_a_multi_thread_runtime() {
    let work = Free::new(async |_: Context| {
        block_in_place(|| block(1));
        yield_now().await;
        block_in_place(|| block(2));
    });
    let in_process = Client::in_process(work.clone());
    let (client, _) = served(work, |server| server).await;
    for client in [client, in_process] {
        for procedure in &PROCEDURES {
            call(&client, procedure).await.unwrap();
        }
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn block_in_place_where_it_cannot_work_says_which_setting_to_change() {
    let work = Free::new(async |_: Context| block_in_place(|| ()));
    let in_process = Client::in_process(work.clone());
    let (worker, _) = served(work.clone(), |server| server.workers(1)).await;
    let (one_thread, _) = served(work, |server| server).await;
    for (client, place) in [
        (
            &worker,
            "on a worker of `.workers(..)`, which is a current_thread runtime",
        ),
        (&one_thread, "on a current_thread runtime"),
        (&in_process, "on a current_thread runtime"),
    ] {
        for procedure in [&IN_ORDER, &SPAWNED] {
            let logged = Logged::here();
            let error = call(client, procedure).await.unwrap_err();
            assert_eq!((error.code(), error.executed()), (Code::Unknown, Executed::Yes));
            let text = told(&error);
            // A worker logs on its own thread.
            let advice = logged.picked("handler panicked", &["advice"]);
            assert_eq!(advice.len(), usize::from(!place.contains("worker")));
            for advice in advice {
                assert_eq!(text, format!("handler panicked: {advice}"));
            }
            assert!(
                text.starts_with("handler panicked: block_in_place needs a multi-thread runtime"),
                "{text}"
            );
            assert!(text.contains(place), "{text}");
            assert!(
                text.contains(&format!("`blocking: true` for {}", procedure.path())),
                "{text}"
            );
        }
        call(client, &BLOCKING).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn a_handler_that_blocks_through_tokio_gets_an_error_that_says_to_declare_it() {
    let ways: [fn(); 4] = [
        || Handle::current().block_on(async {}),
        || {
            let (sender, receiver) = oneshot::channel::<()>();
            drop(sender);
            receiver.blocking_recv().unwrap_err();
        },
        || drop(tokio::sync::Mutex::new(()).blocking_lock()),
        || drop(Builder::new_multi_thread().worker_threads(1).build().unwrap()),
    ];
    let way = Arc::new(Mutex::new(ways[0]));
    let work = Free::new({
        let way = Arc::clone(&way);
        move |_| {
            let way = *way.lock().unwrap();
            async move { way() }
        }
    });
    let (client, _) = served(work, |server| server).await;
    for next in ways {
        *way.lock().unwrap() = next;
        for procedure in [&IN_ORDER, &SPAWNED] {
            let text = told(&call(&client, procedure).await.unwrap_err());
            assert!(
                text.contains("it blocked a thread that drives other calls"),
                "{text}"
            );
            assert!(
                text.contains(&format!("`blocking: true` for {}", procedure.path())),
                "{text}"
            );
        }
        call(&client, &BLOCKING).await.unwrap();
    }
}

fn told(error: &Error) -> String {
    error.status().expect("the server's own").message().to_owned()
}

const MOMENT: Duration = Duration::from_millis(1);
/// The deadline of calls that must end by themselves.
const NET: Duration = LONG;
