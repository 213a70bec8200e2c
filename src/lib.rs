//! The demo's procedures, by package name: both demos use them.

rpc_runtime::include_protos!();

/// The Rust blocks of the documents are compiled, and run where they can be.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/guarantees.md")]
    mod guarantees {}
    #[doc = include_str!("../docs/reliability.md")]
    mod reliability {}
    #[doc = include_str!("../docs/from-tonic.md")]
    mod from_tonic {}
    #[doc = include_str!("../docs/streams.md")]
    mod streams {}
    #[doc = include_str!("../docs/workers.md")]
    mod workers {}
    #[doc = include_str!("../docs/how-to/evolve-a-schema.md")]
    mod evolve_a_schema {}
}
