//! The generated code of all examples. The programs are in src/bin/.

rpc_runtime::include_protos!();

/// The Rust blocks of the packages' READMEs are compiled, and run where they can be.
#[cfg(doctest)]
mod readmes {
    #[doc = include_str!("../../rpc-codegen/README.md")]
    mod codegen {}
    #[doc = include_str!("../../rpc-runtime/README.md")]
    mod runtime {}
}
