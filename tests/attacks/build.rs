//! Generates the target's procedures.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    rpc_codegen::compile_dir("proto")
}
