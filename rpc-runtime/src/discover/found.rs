//! Found: what a resolver has found, for the client that follows it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time};

use super::Endpoint;
use crate::{Code, Error};

/// What a [`Resolver`](super::Resolver) has found, for the client that follows it.
#[derive(Debug, Default)]
pub struct Found {
    news: Mutex<Option<Result<Vec<Endpoint>, Error>>>,
    has_news: Notify,
    refresh: Notify,
}

impl Found {
    /// Sets all endpoints that there are now, in place of those that were set before.
    ///
    /// Of two endpoints with the same address the first one counts. More than 10,000 are refused: the client keeps those it has, and
    /// tells the error.
    pub fn set(&self, endpoints: impl IntoIterator<Item = Endpoint>) {
        let mut kept: Vec<Endpoint> = endpoints.into_iter().take(MAX_ENDPOINTS + 1).collect();
        if kept.len() > MAX_ENDPOINTS {
            let text = format!(
                "the resolver found more than {MAX_ENDPOINTS} endpoints, which a client does not take"
            );
            self.tell(Err(Error::local(Code::ResourceExhausted, text)));
            return;
        }
        let mut seen = std::collections::HashSet::new();
        kept.retain(|endpoint| seen.insert(endpoint.address().to_owned()));
        self.tell(Ok(kept));
    }

    /// Waits for `time`, or until the client asks for a refresh, because it has lost a server or finds none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait(&self, time: Duration) {
        // Both ends mean the same to the resolver.
        let _ = time::timeout(time, self.refresh_asked()).await;
    }

    /// Waits until the client asks for a refresh. It asks at most once a second.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no request.
    pub async fn refresh_asked(&self) {
        self.refresh.notified().await;
    }

    /// Asks the resolver to look again.
    pub(super) fn ask_refresh(&self) {
        self.refresh.notify_one();
    }

    /// Notes what the resolver has found, or why it cannot find anything; the newest counts.
    pub(super) fn tell(&self, news: Result<Vec<Endpoint>, Error>) {
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) = Some(news);
        self.has_news.notify_one();
    }

    /// Waits for news.
    pub(super) async fn news(&self) -> Result<Vec<Endpoint>, Error> {
        loop {
            if let Some(news) = self.news.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return news;
            }
            self.has_news.notified().await;
        }
    }
}

/// How many endpoints a client takes.
const MAX_ENDPOINTS: usize = 10_000;
