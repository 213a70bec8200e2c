//! Host: the handlers that every session calls, and what was started of them.

use std::{
    collections::HashMap,
    sync::{Mutex, atomic::AtomicUsize},
};

use tokio::task::JoinSet;

use super::*;
use crate::{
    Code, Status,
    conn::{CallId, End, RefusalReason},
};

pub(super) const ECHO: u64 = 1;
pub(super) const FAIL: u64 = 2;
/// Ends when it is no longer wanted.
pub(super) const NEVER: u64 = 3;
/// Is never started.
pub(super) const REFUSE: u64 = 4;
/// Replies with [`LONG`] bytes.
pub(super) const FILL: u64 = 5;
/// Replies with the length of its request.
pub(super) const COUNT: u64 = 6;

/// More than a frame of these sessions carries.
pub(super) const LONG: usize = 66_000;

/// The handlers that every session calls.
#[derive(Default)]
pub(super) struct Host {
    pub(super) ran: Mutex<HashMap<String, Ran>>,
    running: AtomicUsize,
}

/// What was run of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) starts: usize,
    /// How many messages of the caller its handler has read, and whether it came to the end of them.
    pub(super) got: usize,
    pub(super) whole: bool,
    /// How many messages it has sent.
    pub(super) gave: usize,
    /// How it ended, if it is a stream's and was not dropped.
    pub(super) end: Option<Result<(), ()>>,
}

/// What stands before the padding of a message.
pub(super) fn token(message: &str) -> String {
    message.split('.').next().unwrap_or_default().to_owned()
}

impl Host {
    /// What was run for each token, since this was asked last.
    pub(super) fn take_ran(&self) -> HashMap<String, Ran> {
        std::mem::take(&mut *self.ran.lock().unwrap())
    }

    /// How many handlers are running.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Runs handlers until no request can come any more, and none is left.
    pub(super) async fn serve(self: Arc<Self>, shared: Arc<SharedConnection>) {
        let mut waiting = JoinSet::new();
        while let Some(arrived) = next(&shared).await {
            let message = <String as prost::Message>::decode(arrived.payload.bytes().clone()).unwrap();
            if arrived.procedure == REFUSE {
                let status = Status::new(Code::Unimplemented, "not here");
                let reason = RefusalReason::UnknownProcedure;
                let status = &status;
                shared.with(|conn, now| conn.end(arrived.id, End::Refused { status, reason }, now));
                continue;
            }
            if shared.with(|conn, now| conn.started(arrived.id, now)).is_err() {
                shared.with(|conn, now| conn.end(arrived.id, End::Dropped, now));
                continue;
            }
            let token = if arrived.streams {
                name(arrived.procedure).to_owned()
            } else {
                token(&message)
            };
            self.running.fetch_add(1, Ordering::SeqCst);
            self.note(&token, |ran| ran.starts += 1);
            if is_stream(arrived.procedure) {
                let (host, shared) = (Arc::clone(&self), Arc::clone(&shared));
                waiting.spawn(async move {
                    host.stream(&shared, &arrived, &token).await;
                });
                continue;
            }
            if arrived.procedure == NEVER {
                let (host, shared) = (Arc::clone(&self), Arc::clone(&shared));
                waiting.spawn(async move {
                    poll_fn(|cx| shared.with(|conn, _| conn.poll_unwanted(arrived.id, cx))).await;
                    host.stop();
                    shared.with(|conn, now| conn.end(arrived.id, End::Dropped, now));
                });
                continue;
            }
            // As a dispatcher: nothing is encoded while there is no room.
            poll_fn(|cx| shared.with(|conn, _| conn.poll_room(arrived.id, usize::MAX, cx))).await;
            self.stop();
            answer(&shared, arrived.id, arrived.procedure, message);
        }
        waiting.join_all().await;
    }

    pub(super) fn note(&self, token: &str, change: impl FnOnce(&mut Ran)) {
        change(self.ran.lock().unwrap().entry(token.to_owned()).or_default());
    }

    /// One handler less.
    pub(super) fn stop(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn answer(shared: &SharedConnection, id: CallId, procedure: u64, message: String) {
    let reply = match procedure {
        FAIL => {
            let status = Status::new(Code::NotFound, message);
            return shared.with(|conn, now| conn.end(id, End::Failed(&status), now));
        }
        FILL => format!("{message}{}", ".".repeat(LONG)),
        COUNT => format!("{}.{}", token(&message), message.len()),
        _ => message,
    };
    shared.with(|conn, now| conn.reply(id, &reply, now));
}
