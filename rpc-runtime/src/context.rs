//! Context: what a handler knows of its call.

/// What a handler knows of its call.
#[derive(Clone, Debug)]
pub struct Context(());
