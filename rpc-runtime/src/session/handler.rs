//! Handler: the future that runs one call.

use std::{future::Future, pin::Pin};

/// A handler that has not been polled yet, with all that it owns; it sends its own reply.
pub type Handler = Pin<Box<dyn Future<Output = ()> + Send>>;
