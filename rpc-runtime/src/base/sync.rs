//! Types of std that threads share. `tests/loom` compiles the files that use them with types of loom.

pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
