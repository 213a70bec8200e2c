//! The demo's procedures, by package name: both demos use them.

rpc_runtime::include_protos!();
