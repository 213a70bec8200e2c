//! Ours: the server of this project.

use std::{future::pending, net::SocketAddr, time::Duration};

use rpc_http::Http;
use rpc_runtime::{
    Context, DrainReport, Error, Requests, Result, Server, Status, Stream, server::ServerHandle, stream,
};
use tokio::{task::JoinHandle, time::timeout};
use tonic_types::{ErrorDetails, StatusExt};

use self::ledger::v1::{Ask, Entry, Ledger, LedgerServer, ListRequest, Noted};
use crate::{FIELD, LONG, REFUSAL, WHY, journal::Journal};

rpc_runtime::include_protos!();

/// A server of this project, with gRPC on its port.
#[derive(Debug)]
pub struct OurServer {
    /// What it has written down.
    pub journal: Journal,
    /// Stops it.
    pub handle: ServerHandle,
    address: SocketAddr,
    serving: JoinHandle<Result<DrainReport, Error>>,
}

impl OurServer {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let journal = Journal::new();
        let server = Server::builder()
            .service(LedgerServer::new(Ours(journal.clone())))
            .guest(Http::new().grpc())
            .listener("tcp://127.0.0.1:0")
            .signals(false)
            .bind()
            .await
            .expect("it listens");
        let address = server.addresses()[0].trim_start_matches("tcp://").parse();
        Self {
            journal,
            handle: server.handle(),
            address: address.expect("an address of TCP"),
            serving: tokio::spawn(server.serve()),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drains it, and waits for its end.
    pub async fn stop(self) -> DrainReport {
        self.handle.drain();
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(self) -> DrainReport {
        let ended = timeout(LONG, self.serving).await.expect("the drain ends");
        ended.expect("no panic").expect("it served")
    }
}

struct Ours(Journal);

impl Ledger for Ours {
    async fn rpc_add(&self, cx: &Context, entry: Entry) -> Result<Noted> {
        let run = self.0.begin(entry.id, agent(cx));
        echo(cx)?;
        match Ask::try_from(entry.ask) {
            Ok(Ask::Refuse) => {
                run.end();
                return Err(refusal());
            }
            Ok(Ask::Hang) => pending().await,
            _ => {}
        }
        run.end();
        Ok(noted(cx, 1, entry.text))
    }

    async fn rpc_list(
        &self,
        cx: &Context,
        request: ListRequest,
    ) -> Result<impl Stream<Item = Result<Entry>> + Send> {
        let run = self.0.begin(request.id, agent(cx));
        echo(cx)?;
        Ok(stream(async move |out| {
            for id in 1..=request.count {
                out.send(Entry {
                    id: id.into(),
                    ..Entry::default()
                })
                .await;
            }
            if request.hangs {
                pending::<()>().await;
            }
            run.end();
            Ok(())
        }))
    }

    async fn rpc_load(&self, cx: &Context, mut requests: Requests<Entry>) -> Result<Noted> {
        let (mut entries, mut text, mut run) = (0, String::new(), None);
        while let Some(entry) = requests.message().await? {
            run.get_or_insert_with(|| self.0.begin(entry.id, agent(cx)));
            (entries, text) = (entries + 1, entry.text);
        }
        echo(cx)?;
        if let Some(run) = run {
            run.end();
        }
        Ok(noted(cx, entries, text))
    }

    async fn rpc_talk(
        &self,
        cx: &Context,
        mut requests: Requests<Entry>,
    ) -> Result<impl Stream<Item = Result<Entry>> + Send> {
        echo(cx)?;
        Ok(stream(async move |out| {
            let mut run = None;
            while let Some(entry) = requests.message().await? {
                run.get_or_insert_with(|| self.0.begin(entry.id, agent(cx)));
                out.send(entry).await;
            }
            if let Some(run) = run {
                run.end();
            }
            Ok(())
        }))
    }
}

/// Returns the caller's own metadata.
fn echo(cx: &Context) -> Result<()> {
    let own = cx.metadata().iter().filter(|(key, _)| key.starts_with("x-"));
    own.into_iter()
        .try_for_each(|(key, value)| cx.add_reply_metadata(key, value.clone()))
}

fn agent(cx: &Context) -> &str {
    cx.metadata().get_str("user-agent").unwrap_or_default()
}

/// A refusal with the details that gRPC's libraries know.
fn refusal() -> Status {
    let details = ErrorDetails::with_bad_request_violation(FIELD, WHY);
    let status = tonic::Status::with_error_details(tonic::Code::InvalidArgument, REFUSAL, details);
    Status::invalid_argument(REFUSAL).with_details_bytes(status.details().to_vec())
}

fn noted(cx: &Context, entries: u64, text: String) -> Noted {
    Noted {
        entries,
        text,
        left_millis: cx.remaining().as_ref().map(millis),
    }
}

fn millis(left: &Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}
