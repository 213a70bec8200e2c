//! The demo's server: in this process, as processes, and as a cluster.

mod ancestor;
mod child;
mod cluster;
mod feeds;
mod hand_over;
mod nodes;
mod process;
mod rolling;
mod streams;
mod wire;
