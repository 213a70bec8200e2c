//! The generated code of one source, as a user includes it. `.ci/protos` compiles this file once for each source.
#![deny(missing_docs, warnings)]

rpc_runtime::include_protos!();
