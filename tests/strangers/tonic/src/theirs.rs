//! Theirs: the server of tonic.

use std::{future::pending, net::SocketAddr, pin::Pin};

use async_stream::try_stream;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    codec::CompressionEncoding,
    metadata::{KeyAndValueRef, MetadataMap},
    transport::{self, Server},
};
use tonic_types::{ErrorDetails, StatusExt};

use self::v1::{
    Ask, Entry, ListRequest, Noted,
    ledger_server::{Ledger, LedgerServer},
};
use crate::{FIELD, LONG, REFUSAL, WHY, journal::Journal};

/// What tonic's generator has made.
#[allow(missing_docs, reason = "tonic's code")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/theirs/ledger.v1.rs"));
}

/// A server of tonic.
#[derive(Debug)]
pub struct TheirServer {
    /// What it has written down.
    pub journal: Journal,
    address: SocketAddr,
    drain: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), transport::Error>>,
}

impl TheirServer {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        Self::start_with(|server| server).await
    }

    /// Starts one that compresses its replies, and takes compressed requests.
    pub async fn compressing(encoding: CompressionEncoding) -> Self {
        Self::start_with(|server| {
            server
                .accept_compressed(encoding)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(encoding)
        })
        .await
    }

    async fn start_with(configure: impl FnOnce(LedgerServer<Theirs>) -> LedgerServer<Theirs>) -> Self {
        let journal = Journal::new();
        let service = configure(LedgerServer::new(Theirs(journal.clone())));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("it listens");
        let address = listener.local_addr().expect("an address");
        let (drain, draining) = oneshot::channel();
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                // A server that is dropped drains, too.
                let _ = draining.await;
            });
        Self {
            journal,
            address,
            drain,
            serving: tokio::spawn(serving),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins a drain. Returns what waits for its end.
    pub fn drain(self) -> impl Future<Output = ()> {
        // It fails if the server has ended.
        let _ = self.drain.send(());
        async {
            let ended = timeout(LONG, self.serving).await.expect("the drain ends");
            ended.expect("no panic").expect("it served");
        }
    }
}

struct Theirs(Journal);

type Replies = Pin<Box<dyn Stream<Item = Result<Entry, Status>> + Send>>;

#[tonic::async_trait]
impl Ledger for Theirs {
    async fn add(&self, request: Request<Entry>) -> Result<Response<Noted>, Status> {
        let (metadata, _, entry) = request.into_parts();
        let run = self.0.begin(entry.id, agent(&metadata));
        match entry.ask() {
            Ask::Refuse => {
                run.end();
                let details = ErrorDetails::with_bad_request_violation(FIELD, WHY);
                let mut status = Status::with_error_details(Code::InvalidArgument, REFUSAL, details);
                echo(&metadata, status.metadata_mut());
                return Err(status);
            }
            Ask::Hang => pending().await,
            Ask::Unspecified => {}
        }
        run.end();
        Ok(noted(&metadata, 1, entry.text))
    }

    type ListStream = Replies;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Replies>, Status> {
        let (metadata, _, request) = request.into_parts();
        let run = self.0.begin(request.id, agent(&metadata));
        let replies = try_stream! {
            for id in 1..=request.count {
                yield Entry { id: id.into(), ..Entry::default() };
            }
            if request.hangs {
                pending::<()>().await;
            }
            run.end();
        };
        let mut response = Response::new(Box::pin(replies) as Replies);
        echo(&metadata, response.metadata_mut());
        Ok(response)
    }

    async fn load(&self, request: Request<Streaming<Entry>>) -> Result<Response<Noted>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let (mut entries, mut text, mut run) = (0, String::new(), None);
        while let Some(entry) = requests.message().await? {
            run.get_or_insert_with(|| self.0.begin(entry.id, agent(&metadata)));
            (entries, text) = (entries + 1, entry.text);
        }
        if let Some(run) = run {
            run.end();
        }
        Ok(noted(&metadata, entries, text))
    }

    type TalkStream = Replies;

    async fn talk(&self, request: Request<Streaming<Entry>>) -> Result<Response<Replies>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let (journal, agent) = (self.0.clone(), agent(&metadata).to_owned());
        let replies = try_stream! {
                    let mut run = None;
                    while let Some(entry) = requests.message().await? {
                        run.get_or_insert_with(|| journal.begin(entry.id, &agent));
                        yield entry;
                    }
                    if let Some(run) = run {
        run.end();
        }
                };
        let mut response = Response::new(Box::pin(replies) as Replies);
        echo(&metadata, response.metadata_mut());
        Ok(response)
    }
}

/// Returns the caller's own metadata.
fn echo(from: &MetadataMap, to: &mut MetadataMap) {
    for entry in from.iter() {
        match entry {
            KeyAndValueRef::Ascii(key, value) if key.as_str().starts_with("x-") => {
                to.append(key, value.clone());
            }
            KeyAndValueRef::Binary(key, value) if key.as_str().starts_with("x-") => {
                to.append_bin(key, value.clone());
            }
            _ => {}
        }
    }
}

fn agent(metadata: &MetadataMap) -> &str {
    let agent = metadata.get("user-agent").map(|value| value.to_str());
    agent.and_then(Result::ok).unwrap_or_default()
}

fn noted(metadata: &MetadataMap, entries: u64, text: String) -> Response<Noted> {
    let mut response = Response::new(Noted {
        entries,
        text,
        left_millis: left_millis(metadata),
    });
    echo(metadata, response.metadata_mut());
    response
}

/// The header `grpc-timeout` in milliseconds.
fn left_millis(metadata: &MetadataMap) -> Option<u64> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => number * 3_600_000,
        "M" => number * 60_000,
        "S" => number * 1000,
        "m" => number,
        "u" => number / 1000,
        _ => number / 1_000_000,
    })
}
