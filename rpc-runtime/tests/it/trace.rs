//! The trace that calls belong to, and their spans.

mod context;
mod spans;

use std::sync::{Arc, Mutex};

use rpc_runtime::{
    Client, Context, Error, Requests, Result, Status, Streaming,
    client::Call,
    server::{Handler, Incoming, Procedure, Service},
    stream,
    trace::TraceContext,
};
use test_support::{Running, serve_one, within};

/// Returns the trace of its call, as text.
static SAY: Procedure = Procedure::new("trace.v1.Hop/rpc_say", 601);
/// One-way: notes the trace of its call.
static TELL: Procedure = Procedure::new("trace.v1.Hop/rpc_tell", 602);
/// Answers by a stream of one text: the trace of its call.
static WATCH: Procedure = Procedure::new("trace.v1.Hop/rpc_watch", 603).with_reply_stream();
/// Makes a call of each kind at the next server: the way is its text. Returns what the handlers there say.
static HOP: Procedure = Procedure::new("trace.v1.Hop/rpc_hop", 604);
/// Fails as its text says.
static FAIL: Procedure = Procedure::new("trace.v1.Hop/rpc_fail", 605);
/// Reads a stream of requests. Returns the trace of its call.
static IMPORT: Procedure = Procedure::new("trace.v1.Hop/rpc_import", 606).with_request_stream();
static PROCEDURES: [Procedure; 6] = [SAY, TELL, WATCH, HOP, FAIL, IMPORT];

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A trace that has begun elsewhere.
fn elsewhere() -> TraceContext {
    TraceContext::parse(PARENT, "vendor=1", "tenant=acme").unwrap()
}

/// A service that calls the next one.
#[derive(Clone, Default)]
struct Hop {
    next: Option<Client>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Hop {
    async fn serve(next: Option<&Running>) -> (Self, Running) {
        let next = match next {
            Some(next) => Some(next.client().await),
            None => None,
        };
        let hop = Self {
            next,
            told: Arc::default(),
        };
        (hop.clone(), serve_one(hop).await)
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    async fn hop(&self, cx: &Context, way: String) -> Result<String> {
        let client = self
            .next
            .clone()
            .ok_or_else(|| Status::internal("it is the last"))?;
        let said = match way.as_str() {
            "inherited" => each(&client, || client.call()).await,
            "detached" => each(&client, || client.call().detached()).await,
            "given" => {
                each(&client, || {
                    client
                        .call()
                        .trace_context(TraceContext::new(7, 8, true).unwrap())
                })
                .await
            }
            "task" => {
                let client = client.clone();
                tokio::spawn(async move { each(&client, || client.call()).await })
                    .await
                    .unwrap()
            }
            "within" => {
                let (client, cx) = (client.clone(), cx.clone());
                tokio::spawn(async move { each(&client, || client.call().within(&cx)).await })
                    .await
                    .unwrap()
            }
            _ => return Err(Status::invalid_argument("no such way")),
        };
        Ok(said?)
    }
}

/// Makes a call of each kind. Returns what the handlers that answer say, and waits for the others.
async fn each<'a>(client: &'a Client, call: impl Fn() -> Call<'a>) -> Result<String, Error> {
    let said: String = call().send_recv(&SAY, ()).await?;
    call().send(&TELL, ()).await?;
    let mut watched: Streaming<String> = call().reply_stream(&WATCH, ()).await?;
    let streamed = watched.message().await?.unwrap_or_default();
    assert_eq!(watched.message().await?, None);
    let (mut sender, imported) = call().request_stream(&IMPORT, Ok::<String, Error>).await?;
    sender.send(1_u64).await?;
    sender.finish();
    let imported = imported.await?;
    client.barrier().await?;
    Ok([said, streamed, imported].join("\n"))
}

/// The trace of a call, as text.
fn said(cx: &Context) -> String {
    match cx.trace() {
        None => "none".to_owned(),
        Some(trace) => format!(
            "{} {} {}",
            trace.traceparent().unwrap_or_default(),
            trace.tracestate(),
            trace.baggage()
        ),
    }
}

impl Service for Hop {
    fn name(&self) -> &'static str {
        "trace.v1.Hop"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn takes_rows(&self) -> bool {
        true
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let hop = self.clone();
        match index {
            0 => call.handle(|cx: Context, ()| async move {
                tracing::info!("said");
                Ok(said(&cx))
            }),
            1 => call.handle(move |cx: Context, ()| async move {
                hop.told.lock().unwrap().push(said(&cx));
                Ok(())
            }),
            2 => call.handle_reply_stream(|cx: Context, (), replies| async move {
                let said = said(&cx);
                let texts = stream(async |out| {
                    out.send(said).await;
                    Ok(())
                });
                replies.forward(texts).await
            }),
            3 => call.handle(move |cx: Context, way: String| async move { hop.hop(&cx, way).await }),
            4 => call.handle(|_: Context, text: String| async move {
                Err::<(), _>(match text.as_str() {
                    "internal" => Status::internal("it broke"),
                    "panic" => panic!("on purpose"),
                    _ => Status::not_found("nothing there"),
                })
            }),
            5 => call.handle_request_stream(|cx: Context, mut requests: Requests<u64>| async move {
                while requests.message().await?.is_some() {}
                Ok(said(&cx))
            }),
            _ => call.unknown(),
        }
    }
}

/// Calls a procedure that takes and returns text.
async fn call_hop(client: &Client, trace: Option<TraceContext>, way: &str) -> Vec<String> {
    let mut call = client.call();
    if let Some(trace) = trace {
        call = call.trace_context(trace);
    }
    let said: String = within(call.send_recv(&HOP, way.to_owned())).await.unwrap();
    said.lines().map(str::to_owned).collect()
}
