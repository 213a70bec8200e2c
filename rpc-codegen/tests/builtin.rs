//! rpc-runtime's built-in service matches the code that this crate generates from its .proto file.

mod common;

use std::{fs, path::Path};

use common::{TempDir, compare};
use rpc_codegen::Config;

#[test]
fn control_of_the_runtime_is_up_to_date() {
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rpc-runtime");
    let out = TempDir::new();
    Config::new()
        .file(runtime.join("proto/rpc/control/v1/control.proto"))
        .include_path(runtime.join("proto"))
        .runtime_path("crate")
        .builtin()
        // rpc-runtime calls the service without stubs.
        .server_only()
        .out_dir(out.path())
        .compile()
        .expect("control.proto compiles");
    let text = fs::read_to_string(out.path().join("rpc.control.v1.rs")).expect("its package has a file");
    compare(&runtime.join("src/builtin/control.rs"), &text);
}
