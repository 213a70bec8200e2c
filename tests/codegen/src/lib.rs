//! The generated code of odd .proto files, under strict lints.
#![deny(missing_docs, warnings, clippy::all)]

rpc_runtime::include_protos!();

pub mod handlers;
pub mod streams;
pub mod trees;
pub mod values;

/// The runtime under another name, as a renamed dependency has one.
pub use rpc_runtime as renamed;

/// A golden case of the generator's own tests.
pub mod golden {
    include!(concat!(env!("OUT_DIR"), "/golden/rpc_protos.rs"));
}

/// Another golden case, with `flatten`.
pub mod flat {
    include!(concat!(env!("OUT_DIR"), "/flat/rpc_protos.rs"));
}

/// Clients alone, with a renamed runtime.
pub mod clients {
    include!(concat!(env!("OUT_DIR"), "/client/rpc_protos.rs"));
}

/// Servers alone, in a folder of their own, with the whole tree of modules.
pub mod servers {
    include!(concat!(env!("OUT_DIR"), "/server/rpc_protos.rs"));
}
