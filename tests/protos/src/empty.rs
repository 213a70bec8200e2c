//! Nothing: Cargo needs a library. `user.rs` is compiled by `.ci/protos`.
