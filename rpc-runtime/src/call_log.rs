//! Log lines about calls: one for each, or one for each slow one.

mod access;
mod fields;
mod slow;

pub use self::{
    access::{AccessLog, access_log},
    slow::{SlowCalls, slow_calls},
};
