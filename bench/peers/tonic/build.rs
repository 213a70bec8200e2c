fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    // protox, so that the comparison needs no protoc.
    let descriptors = protox::compile(["kv.proto", "watch.proto"], ["../../proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
