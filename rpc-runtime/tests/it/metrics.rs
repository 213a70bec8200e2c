//! Metrics: each of them moves when what it counts happens.
//!
//! The counters are those of the process, which other tests share. So each test has procedures of its own, and expects of all other
//! numbers only that they grow by what the test has done.

mod calls;
mod connections;
mod limits;
mod text;
#[cfg(feature = "_tls")]
mod tls;

use std::{sync::Arc, thread, time::Duration};

use rpc_runtime::{
    Client, Error, Result, Status,
    metrics::{ProcedureCalls, Protocol, Side, Value, snapshot},
    server::{Handler, Incoming, Procedure, Service},
    stream,
};
use test_support::within;
use tokio::sync::watch;

/// The procedures of one test: what their handlers do is in [`Counted`].
macro_rules! procedures {
    ($name:ident, $service:literal, $id:literal) => {
        static $name: [rpc_runtime::server::Procedure; 5] = [
            rpc_runtime::server::Procedure::new(concat!($service, "/rpc_echo"), $id),
            rpc_runtime::server::Procedure::new(concat!($service, "/rpc_fail"), $id + 1),
            rpc_runtime::server::Procedure::new(concat!($service, "/rpc_wait"), $id + 2),
            rpc_runtime::server::Procedure::new(concat!($service, "/rpc_block"), $id + 3),
            rpc_runtime::server::Procedure::new(concat!($service, "/rpc_count"), $id + 4).with_reply_stream(),
        ];
    };
}
pub(crate) use procedures;

/// Indices of the procedures.
pub(crate) const ECHO: usize = 0;
pub(crate) const FAIL: usize = 1;
pub(crate) const WAIT: usize = 2;
pub(crate) const BLOCK: usize = 3;
pub(crate) const COUNT: usize = 4;

/// A service with the procedures of one test.
#[derive(Clone)]
pub(crate) struct Counted {
    name: &'static str,
    procedures: &'static [Procedure],
    released: Arc<watch::Sender<bool>>,
}

impl Counted {
    pub(crate) fn new(procedures: &'static [Procedure]) -> Self {
        Self {
            name: procedures[0].service(),
            procedures,
            released: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Lets the handlers that wait or block go on.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }
}

impl Service for Counted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn procedures(&self) -> &'static [Procedure] {
        self.procedures
    }

    fn takes_rows(&self) -> bool {
        true
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let released = self.released.subscribe();
        match index {
            ECHO => call.handle(|_, text: String| async move { Ok(text) }),
            FAIL => call.handle(|_, _: String| async { Err::<String, _>(Status::not_found("no")) }),
            WAIT => call.handle(move |_, text: String| {
                let mut released = released;
                async move {
                    // The test holds the sender.
                    let _ = released.wait_for(|is_released| *is_released).await;
                    Ok(text)
                }
            }),
            BLOCK => call.handle(move |_, text: String| {
                let released = released;
                async move {
                    while !*released.borrow() {
                        thread::sleep(Duration::from_millis(1));
                    }
                    Ok(text)
                }
            }),
            _ => call.handle_reply_stream(|_, count: u64, replies| async move {
                let numbers = stream(async move |out| {
                    for number in 0..count {
                        out.send(number).await;
                    }
                    Ok(())
                });
                replies.forward(numbers).await
            }),
        }
    }
}

/// Calls a procedure that takes and returns text.
pub(crate) async fn call(
    client: &Client,
    procedure: &'static Procedure,
    text: &str,
) -> Result<String, Error> {
    within(client.call().send_recv(procedure, text.to_owned())).await
}

/// What was counted of a procedure.
pub(crate) fn of(side: Side, protocol: Protocol, procedure: &Procedure) -> Option<ProcedureCalls> {
    let snapshot = snapshot();
    let mut all = snapshot.procedures().iter();
    all.find(|one| one.path() == procedure.path() && (one.side(), one.protocol()) == (side, protocol))
        .cloned()
}

/// What a server has counted of a procedure that was called.
pub(crate) fn served(procedure: &Procedure) -> ProcedureCalls {
    of(Side::Server, Protocol::Native, procedure).expect("it was served")
}

/// What a client has counted of a procedure that it has called.
pub(crate) fn called(procedure: &Procedure) -> ProcedureCalls {
    of(Side::Client, Protocol::Native, procedure).expect("it was called")
}

/// The sum of all samples of a metric that have these labels.
pub(crate) fn number(name: &str, labels: &[(&str, &str)]) -> f64 {
    let snapshot = snapshot();
    let Some(family) = snapshot.family(name) else {
        return 0.0;
    };
    let samples = family.samples().iter();
    let samples = samples.filter(|sample| {
        let has = |(name, value): &(&str, &str)| sample.label(name) == Some(value);
        labels.iter().all(has)
    });
    let numbers = samples.map(|sample| match sample.value() {
        Value::Count(count) => *count as f64,
        Value::Number(number) => *number,
        Value::Histogram(histogram) => histogram.count() as f64,
        _ => panic!("a value of another kind"),
    });
    numbers.sum()
}

/// Waits until a metric is at least `least`.
pub(crate) async fn grown(name: &str, labels: &[(&str, &str)], least: f64) {
    within(async {
        while number(name, labels) < least {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
