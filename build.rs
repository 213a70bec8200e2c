//! Compiles every .proto under proto/ to Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    rpc_codegen::compile_dir("proto")
}
