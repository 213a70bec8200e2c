//! Watching: one watch of etcd, from its request to its end.

use rpc_runtime::{Error, Sender, Status, Streaming};
use tokio::time::timeout;

use crate::{
    Etcd,
    builder::CALL_TIMEOUT,
    etcd::{Try, is_about_a_token, prepared},
    proto::{WatchClient, WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion},
};

/// A watch of etcd. Dropping it ends it.
pub(crate) struct Watching {
    etcd: Etcd,
    one: Try,
    /// Kept open: the watch ends with it.
    _requests: Sender<WatchRequest>,
    replies: Streaming<WatchResponse>,
}

/// What a watch has told.
pub(crate) enum News {
    Changes(WatchResponse),
    /// The watch has ended, and the keys have to be read again. Why.
    Stale(String),
}

impl Watching {
    /// Begins to watch the keys from `key` up to `range_end`, for changes from `start_revision` on. Returns when etcd has said that it watches.
    ///
    /// # Errors
    ///
    /// As of any call; DEADLINE_EXCEEDED if etcd says nothing within 5 s.
    pub(crate) async fn begin(
        etcd: &Etcd,
        key: &[u8],
        range_end: &[u8],
        start_revision: i64,
    ) -> Result<Result<Self, String>, Error> {
        let create = WatchCreateRequest {
            key: key.to_vec().into(),
            range_end: range_end.to_vec().into(),
            start_revision,
        };
        let one = etcd.next_try(false).await?;
        let begun = timeout(CALL_TIMEOUT, async {
            let watch = WatchClient::from(one.member.clone());
            // It lasts until something ends it. The resolver bounds it.
            let call = prepared!(watch.send_recv(), one).timeout(None);
            let (mut requests, replies) = call.watch().await?;
            let request_union = Some(RequestUnion::CreateRequest(create));
            requests.send(WatchRequest { request_union }).await?;
            let mut watching = Self {
                etcd: etcd.clone(),
                one: one.clone(),
                _requests: requests,
                replies,
            };
            // The first reply has no changes.
            Ok(match watching.news().await? {
                News::Changes(_) => Ok(watching),
                News::Stale(why) => Err(why),
            })
        });
        begun.await.unwrap_or_else(|_| {
            etcd.move_on(&one);
            Err(
                Status::deadline_exceeded(format!("etcd did not begin a watch within {CALL_TIMEOUT:?}"))
                    .into(),
            )
        })
    }

    /// Waits for changes.
    ///
    /// # Errors
    ///
    /// Why the watch has ended. The next call of etcd asks another member.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no change.
    pub(crate) async fn news(&mut self) -> Result<News, Error> {
        let reply = match self.replies.message().await {
            Ok(Some(reply)) => reply,
            Ok(None) => return Err(self.ended(Status::unavailable("etcd has ended the watch").into())),
            Err(error) if self.is_denied(error.message()) => {
                return Ok(News::Stale(error.message().to_owned()));
            }
            Err(error) => return Err(self.ended(error)),
        };
        if reply.compact_revision > 0 {
            let text = format!("etcd has compacted its changes up to {}", reply.compact_revision);
            return Ok(News::Stale(text));
        }
        if !reply.canceled {
            return Ok(News::Changes(reply));
        }
        match self.is_denied(&reply.cancel_reason) {
            true => Ok(News::Stale(reply.cancel_reason)),
            false => {
                let text = format!("etcd has ended the watch: {}", reply.cancel_reason);
                Err(self.ended(Status::unavailable(text).into()))
            }
        }
    }

    /// Forgets the token if `text` says that it is no longer good.
    fn is_denied(&self, text: &str) -> bool {
        is_about_a_token(text) && self.etcd.forget_token(&self.one)
    }

    fn ended(&self, error: Error) -> Error {
        self.etcd.move_on(&self.one);
        error
    }
}
