//! Host: the handlers that every session calls, and what was started of them.

use std::{
    collections::HashMap,
    sync::{Mutex, atomic::AtomicUsize},
};

use tokio::task::JoinSet;

use super::*;
use crate::{
    Code, Status,
    conn::{CallId, End},
    frame::control::DropReason,
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
    started: Mutex<HashMap<String, usize>>,
    running: AtomicUsize,
}

/// What stands before the padding of a message.
pub(super) fn token(message: &str) -> String {
    message.split('.').next().unwrap_or_default().to_owned()
}

impl Host {
    /// How often the handler of each token was started, since this was asked last.
    pub(super) fn take_started(&self) -> HashMap<String, usize> {
        std::mem::take(&mut *self.started.lock().unwrap())
    }

    /// How many handlers are running.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Runs handlers until no request can come any more, and none is left.
    pub(super) async fn serve(self: Arc<Self>, link: Arc<Link>) {
        let mut waiting = JoinSet::new();
        while let Some(arrived) = next(&link).await {
            let message = <String as prost::Message>::decode(arrived.payload).unwrap();
            if arrived.procedure == REFUSE {
                let status = Status::new(Code::Unimplemented, "not here");
                let reason = DropReason::UnknownProcedure;
                let status = &status;
                link.with(|conn, now| conn.end(arrived.id, End::Refused { status, reason }, now));
                continue;
            }
            if link.with(|conn, now| conn.started(arrived.id, now)).is_err() {
                link.with(|conn, now| conn.end(arrived.id, End::Dropped, now));
                continue;
            }
            self.running.fetch_add(1, Ordering::SeqCst);
            *self.started.lock().unwrap().entry(token(&message)).or_default() += 1;
            if arrived.procedure == NEVER {
                let (host, link) = (Arc::clone(&self), Arc::clone(&link));
                waiting.spawn(async move {
                    poll_fn(|cx| link.with(|conn, _| conn.poll_unwanted(arrived.id, cx))).await;
                    host.running.fetch_sub(1, Ordering::SeqCst);
                    link.with(|conn, now| conn.end(arrived.id, End::Dropped, now));
                });
                continue;
            }
            // As a dispatcher: nothing is encoded while there is no room.
            poll_fn(|cx| link.with(|conn, _| conn.poll_room(arrived.id, cx))).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            answer(&link, arrived.id, arrived.procedure, message);
        }
        waiting.join_all().await;
    }
}

fn answer(link: &Link, id: CallId, procedure: u64, message: String) {
    let reply = match procedure {
        FAIL => {
            let status = Status::new(Code::NotFound, message);
            return link.with(|conn, now| conn.end(id, End::Failed(&status), now));
        }
        FILL => format!("{message}{}", ".".repeat(LONG)),
        COUNT => format!("{}.{}", token(&message), message.len()),
        _ => message,
    };
    link.with(|conn, now| conn.reply(id, &reply, now));
}
