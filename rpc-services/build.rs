//! Compiles the .proto files of the services under proto/ to Rust.

use std::error::Error;

use rpc_codegen::Config;

fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::new();
    // So that lists are always in one order.
    config.btree_map(".");
    // The messages of v1alpha have the same fields as those of v1: one Rust type for both.
    for message in [
        "ErrorResponse",
        "ExtensionNumberResponse",
        "ExtensionRequest",
        "FileDescriptorResponse",
        "ListServiceResponse",
        "ServerReflectionRequest",
        "ServerReflectionResponse",
        "ServiceResponse",
    ] {
        config.extern_path(
            format!(".grpc.reflection.v1alpha.{message}"),
            format!("crate::grpc::reflection::v1::{message}"),
        );
    }
    config.compile_dir("proto")
}
