//! Who calls, and who may.

mod tokens;
