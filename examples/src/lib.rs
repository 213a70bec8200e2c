//! The generated code of all examples. The programs are in src/bin/.

rpc_runtime::include_protos!();
