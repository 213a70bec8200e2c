//! What calls with streams promise.

mod blocking;
mod deadlines;
mod drain;
mod order;
mod rows;
mod shapes;
mod transports;
