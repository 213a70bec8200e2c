//! Registrars: when they begin, what a drain does for them, and what becomes of those that fail.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Error, Server, Status,
    discover::{Registrar, Serving},
    server::ServerBuilder,
};
use test_support::{Lab, serve, until, within};
use tokio::time::{Instant, sleep};

/// Notes what happens to it. When it takes the server out, a client connects and pings the server.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Noting {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    fn notes(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Registrar for Noting {
    async fn register(&self, serving: &Serving) -> Result<(), Error> {
        self.note(format!("in: {}", serving.addresses().join(", ")));
        serving.ending().await;
        let client = Client::connect(&serving.addresses()[0]).await;
        let pinged = match client {
            Ok(client) => client.ping().await.map(drop),
            Err(error) => Err(error),
        };
        self.note(format!("out: {:?}", pinged.map_err(|error| error.code())));
        Ok(())
    }
}

/// Does what the function says, with how often it was called before.
struct Scripted<F>(AtomicUsize, F);

impl<F> Registrar for Scripted<F>
where
    F: AsyncScript,
{
    async fn register(&self, serving: &Serving) -> Result<(), Error> {
        self.1.run(self.0.fetch_add(1, Relaxed), serving).await
    }
}

trait AsyncScript: Send + Sync + 'static {
    fn run(&self, turn: usize, serving: &Serving) -> impl Future<Output = Result<(), Error>> + Send;
}

fn builder(address: &str) -> ServerBuilder {
    Server::builder()
        .service(Lab::default())
        .listener(address)
        .signals(false)
}

#[tokio::test]
async fn a_server_is_registered_once_it_serves_and_taken_out_before_it_refuses_anybody() {
    let noting = Noting::default();
    let server = builder("tcp://127.0.0.1:0")
        .register(noting.clone())
        .bind()
        .await
        .unwrap();
    let address = server.addresses()[0].clone();
    // It would begin now, if to be bound were enough.
    sleep(Duration::from_millis(20)).await;
    assert_eq!(noting.notes(), [""; 0]);
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    until(|| !noting.notes().is_empty()).await;
    handle.drain();
    let report = within(serving).await.unwrap().unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        noting.notes(),
        [format!("in: {address}"), "out: Ok(())".to_owned()]
    );
}

#[tokio::test]
async fn a_server_that_drains_before_it_serves_is_never_registered() {
    let noting = Noting::default();
    let server = builder("mem:registrar-drained")
        .register(noting.clone())
        .bind()
        .await
        .unwrap();
    server.handle().drain();
    within(server.serve()).await.unwrap();
    assert_eq!(noting.notes(), [""; 0]);
}

/// Never lets go of the server.
struct Clinging;

impl AsyncScript for Clinging {
    async fn run(&self, _: usize, _: &Serving) -> Result<(), Error> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_registrar_that_does_not_end_delays_the_drain_by_two_seconds() {
    let server =
        serve(builder("mem:registrar-clings").register(Scripted(AtomicUsize::new(0), Clinging))).await;
    tokio::task::yield_now().await;
    let begun = Instant::now();
    let report = server.stop().await;
    assert!(report.is_clean(), "{report}");
    // The time is virtual.
    assert_eq!(begun.elapsed().as_millis() / 100, 20);
}

/// Fails, then panics, then ends early, then stays.
struct Failing;

impl AsyncScript for Failing {
    async fn run(&self, turn: usize, serving: &Serving) -> Result<(), Error> {
        match turn {
            0 => Err(Status::unavailable("the registry is away").into()),
            1 => panic!("no registry"),
            2 => Ok(()),
            _ => {
                serving.ending().await;
                Ok(())
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_registrar_that_fails_is_called_again_after_pauses_that_grow() {
    let registrar = Arc::new(Scripted(AtomicUsize::new(0), Failing));
    /// The same one, so that the test sees how often it is called.
    struct Shared(Arc<Scripted<Failing>>);
    impl Registrar for Shared {
        async fn register(&self, serving: &Serving) -> Result<(), Error> {
            self.0.register(serving).await
        }
    }
    let begun = Instant::now();
    let server = serve(builder("mem:registrar-fails").register(Shared(Arc::clone(&registrar)))).await;
    while registrar.0.load(Relaxed) < 4 {
        sleep(Duration::from_millis(10)).await;
    }
    // 1 + 2 + 4 s, each with up to a fifth more or less.
    let pauses = begun.elapsed().as_secs_f64();
    assert!((5.6..8.5).contains(&pauses), "{pauses}");
    server.stop().await;
}

/// Takes no address.
struct Refusing;

impl Registrar for Refusing {
    fn check(&self, addresses: &[String]) -> Result<(), Error> {
        Err(Status::failed_precondition(format!("not {}", addresses.join(", "))).into())
    }

    async fn register(&self, _: &Serving) -> Result<(), Error> {
        unreachable!("the server does not serve")
    }
}

#[tokio::test]
async fn a_server_whose_addresses_its_registrar_refuses_does_not_start() {
    let error = builder("mem:registrar-refuses")
        .register(Refusing)
        .bind()
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::FailedPrecondition, "not mem:registrar-refuses")
    );
}
