//! Who calls, and who may.

mod caller;

pub use self::caller::Caller;
