//! Theirs: the calls and one-way requests of the peer, which this side serves.

pub(super) mod account;
pub(super) mod intake;
pub(super) mod ready_queue;
pub(super) mod requests;
pub(super) mod settling;

use self::{account::Account, requests::Requests};
use super::Settings;

/// The calls and one-way requests of the peer.
#[derive(Debug)]
pub(super) struct Theirs {
    pub(super) requests: Requests,
    pub(super) account: Account,
}

impl Theirs {
    /// No requests.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            requests: Requests::new(settings),
            account: Account::default(),
        }
    }
}
