//! Handlers that block their thread between the messages of their stream.

use std::sync::{Arc, Condvar, Mutex};

use rpc_runtime::{
    Client, Server, Streaming,
    server::{Handler, Incoming, Procedure, Service},
    stream,
};
use test_support::within;
use tokio::runtime::{Builder, Runtime};

/// Sends its messages, each only when the test has read the one before, and blocks its thread until then.
static STEP: Procedure = Procedure::new("step.v1.Step/rpc_step", 401).with_reply_stream();
/// As `STEP`, declared to run in a task of its own.
static STEP_SPAWNED: Procedure = Procedure::new("step.v1.Step/rpc_step_spawned", 402)
    .with_reply_stream()
    .spawn();
/// As `STEP`, declared to block.
static STEP_BLOCKING: Procedure = Procedure::new("step.v1.Step/rpc_step_blocking", 403)
    .with_reply_stream()
    .blocking();
static PROCEDURES: [Procedure; 3] = [STEP, STEP_SPAWNED, STEP_BLOCKING];

/// How many messages the test has read.
#[derive(Clone, Default)]
struct Step(Arc<(Mutex<u64>, Condvar)>);

impl Step {
    fn set_read(&self, count: u64) {
        *self.0.0.lock().unwrap() = count;
        self.0.1.notify_all();
    }

    fn block_until_read(&self, count: u64) {
        let read = self.0.0.lock().unwrap();
        let net = std::time::Duration::from_secs(60);
        let (_read, result) = self
            .0
            .1
            .wait_timeout_while(read, net, |read| *read < count)
            .unwrap();
        assert!(!result.timed_out(), "message {count} lies somewhere");
    }
}

impl Service for Step {
    fn name(&self) -> &'static str {
        "step.v1.Step"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let step = self.clone();
        call.handle_reply_stream(|_, (), replies| async move {
            let steps = stream(async |out| {
                for number in 0..STEPS {
                    step.block_until_read(number);
                    out.send(number).await;
                }
                Ok(())
            });
            replies.forward(steps).await
        })
    }
}

#[test]
fn messages_of_a_handler_that_computes_between_them_go_out_one_by_one() {
    let (servers, clients) = (runtime(2), runtime(1));
    let step = Step::default();
    let address = servers.block_on(async {
        let server = Server::builder()
            .service(step.clone())
            .listener("tcp://127.0.0.1:0");
        let server = server.signals(false).bind().await.unwrap();
        let address = server.addresses()[0].clone();
        tokio::spawn(server.serve());
        address
    });
    clients.block_on(async {
        let client = within(Client::connect(&address)).await.unwrap();
        for procedure in &PROCEDURES {
            step.set_read(0);
            let steps = client.call().reply_stream(procedure, ());
            let mut steps: Streaming<u64> = within(steps).await.unwrap();
            for number in 0..STEPS {
                let message = within(steps.message()).await.unwrap();
                assert_eq!(message, Some(number), "{}", procedure.path());
                step.set_read(number + 1);
            }
            assert_eq!(within(steps.message()).await.unwrap(), None);
        }
    });
    servers.shutdown_background();
}

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}

const STEPS: u64 = 10;
