//! First: the first backend in the resolver's order.

use super::{Backend, Balancer, Pick, Picker};

/// Picks the first backend in the resolver's order, as long as it can take calls.
///
/// Use it for servers of which one leads and the others stand by.
#[derive(Clone, Copy, Debug, Default)]
pub struct First;

impl Balancer for First {
    fn picker(&self, _: &[Backend]) -> Picker {
        Box::new(|_: &Pick<'_>| 0)
    }
}
