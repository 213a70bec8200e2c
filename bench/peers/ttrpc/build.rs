use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

fn main() {
    println!("cargo:rerun-if-changed=../../proto/kv.proto");
    let out_dir = std::env::var("OUT_DIR").unwrap();
    Codegen::new()
        .out_dir(&out_dir)
        .input("../../proto/kv.proto")
        .include("../../proto")
        .rust_protobuf()
        .customize(Customize {
            async_all: true,
            gen_mod: true,
            ..Default::default()
        })
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(true).tokio_bytes(true))
        .run()
        .unwrap();
    // `include!` takes no inner attributes, and mod.rs has one.
    let mods = format!("{out_dir}/mod.rs");
    let text = std::fs::read_to_string(&mods).unwrap();
    let kept: Vec<_> = text.lines().filter(|line| !line.starts_with("#![")).collect();
    std::fs::write(mods, kept.join("\n")).unwrap();
}
