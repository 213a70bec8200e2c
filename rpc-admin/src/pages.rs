//! Pages: which page answers a request, and who may see it.

mod answers;
mod debug;
mod health;
mod metrics;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::ALLOW};
use rpc_runtime::server::Peer;
use rpc_services::HealthHandle;
use tokio::runtime::Handle;

use self::{answers::text, health::Probes};
use crate::visitor::Visitors;

/// The pages of a process.
#[derive(Debug)]
pub(crate) struct Pages {
    probes: Probes,
    visitors: Visitors,
}

impl Pages {
    /// `runtime` is that of the program.
    pub(crate) fn new(health: Option<HealthHandle>, visitors: Visitors, runtime: Option<Handle>) -> Self {
        Self {
            probes: Probes::new(health, runtime),
            visitors,
        }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        let Some((_, page, _)) = PAGES.iter().find(|(of_page, ..)| *of_page == path) else {
            return text(
                StatusCode::NOT_FOUND,
                format!("there is no page {path}. There are:\n\n{}", list()),
            );
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "a page takes GET and HEAD\n");
            answer.headers_mut().insert(ALLOW, ALLOWED);
            return answer;
        }
        if let Page::Debug(_) = page {
            let peer = request.extensions().get::<Peer>();
            if let Err(denial) = self.visitors.check(peer, request.uri(), request.headers()) {
                tracing::debug!(peer = peer.map(Peer::address), path, "a debug page was denied");
                return text(StatusCode::FORBIDDEN, denial);
            }
        }
        match page {
            Page::List => text(StatusCode::OK, list()),
            Page::Metrics => metrics::answer(request.headers()),
            Page::Alive => self.probes.alive().await,
            Page::Ready => self.probes.ready(request.uri().query()).await,
            Page::Debug(page) => debug::answer(*page, request).await,
        }
    }
}

#[derive(Clone, Copy)]
enum Page {
    List,
    Metrics,
    Alive,
    Ready,
    Debug(debug::Page),
}

/// Each page: its path, and what it shows.
const PAGES: [(&str, Page, &str); 8] = [
    ("/", Page::List, "this list"),
    ("/metrics", Page::Metrics, "numbers for Prometheus"),
    ("/healthz", Page::Alive, "whether the process is alive"),
    (
        "/readyz",
        Page::Ready,
        "whether the server should get calls; ?service=NAME",
    ),
    (
        "/debug/calls",
        Page::Debug(debug::Page::Calls),
        "calls in flight; ?procedure=PREFIX&slower_than=SECONDS&connection=NUMBER&most=COUNT&format=json",
    ),
    (
        "/debug/connections",
        Page::Debug(debug::Page::Connections),
        "connections; ?after=NUMBER&most=COUNT&format=json",
    ),
    (
        "/debug/procedures",
        Page::Debug(debug::Page::Procedures),
        "calls, errors, rate and latencies of each procedure; ?window=SECONDS&format=json",
    ),
    (
        "/debug/limits",
        Page::Debug(debug::Page::Limits),
        "limits in force, where they came from, and their use; ?format=json",
    ),
];

const ALLOWED: http::HeaderValue = http::HeaderValue::from_static("GET, HEAD");

fn list() -> String {
    let line = |(path, _, what): &(&str, Page, &str)| format!("{path:<20} {what}\n");
    PAGES.iter().map(line).collect()
}
