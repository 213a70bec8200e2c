fn main() -> Result<(), Box<dyn std::error::Error>> {
    rpc_codegen::compile_dir("proto")?;
    // What gRPC peers serve and call.
    rpc_codegen::Config::new()
        .file("../../proto/kv.proto")
        .file("../../proto/watch.proto")
        .compile()
}
