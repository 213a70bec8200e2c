//! What a server promises to its peers, its handlers and its owner.

#[cfg(unix)]
mod adopted;
mod audit;
mod batches;
mod before_drain;
mod behind_proxy;
mod blocking;
mod budgets;
mod callbacks;
mod dispatch;
mod drain;
mod endings;
mod handler_faults;
pub(crate) mod listening;
mod loopback;
mod registrars;
mod rows;
mod statuses;
mod terminate;
mod workers;
