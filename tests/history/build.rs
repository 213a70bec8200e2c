//! Compiles each .proto file under proto/.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    rpc_codegen::compile_dir("proto")
}
