//! What calls with streams promise.

mod blocking;
mod deadlines;
mod drain;
mod order;
mod shapes;
mod transports;
