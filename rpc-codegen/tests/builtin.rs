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
    for (package, place) in [
        ("rpc.control.messages", "message/control/messages.rs"),
        ("rpc.control.v1", "server/builtin/control.rs"),
    ] {
        let text =
            fs::read_to_string(out.path().join(format!("{package}.rs"))).expect("each package has a file");
        compare(&runtime.join("src").join(place), &text);
    }
}
