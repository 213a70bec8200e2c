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

/// The types that the next module takes from elsewhere.
pub mod common {
    include!(concat!(env!("OUT_DIR"), "/common/rpc_protos.rs"));

    /// Google's `Timestamp` without its nanoseconds, written by hand.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, rpc_runtime::codegen::prost::Message)]
    #[prost(prost_path = "::rpc_runtime::codegen::prost")]
    pub struct Moment {
        /// The seconds since 1970.
        #[prost(int64, tag = "1")]
        pub seconds: i64,
    }
}

/// Another golden case, with the options of a build script.
pub mod options {
    include!(concat!(env!("OUT_DIR"), "/options/rpc_protos.rs"));
}

/// Messages with JSON.
pub mod json {
    include!(concat!(env!("OUT_DIR"), "/json/rpc_protos.rs"));
}

/// The same, of which one message has JSON that skips what it does not know.
pub mod lenient {
    include!(concat!(env!("OUT_DIR"), "/lenient/rpc_protos.rs"));
}

/// The one for a message whose `Debug` is left out.
impl std::fmt::Debug for options::acme::store::Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}
