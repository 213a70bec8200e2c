//! Compiles each .proto file under proto/, and some of them again with other options.

use std::{env, error::Error, path::PathBuf};

use rpc_codegen::{BytesType, Config};

include!("../../rpc-codegen/tests/golden/options/config.rs");

fn main() -> Result<(), Box<dyn Error>> {
    Config::new().json(".").compile_dir("proto")?;
    // A second call into the same folder.
    rpc_codegen::compile_dir("more")?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    // The golden cases of rpc-codegen are compiled and called, too.
    for (module, case) in [("golden", "streams"), ("flat", "flatten")] {
        let folder = PathBuf::from("../../rpc-codegen/tests/golden").join(case);
        Config::new().out_dir(out.join(module)).compile_dir(folder)?;
    }
    let case = "../../rpc-codegen/tests/golden/options";
    Config::new()
        .file(format!("{case}/acme/common/v1/common.proto"))
        .include_path(case)
        .json(".")
        .out_dir(out.join("common"))
        .compile()?;
    options(&mut Config::new())
        .out_dir(out.join("options"))
        .compile_dir(case)?;
    Config::new()
        .json(".")
        .out_dir(out.join("json"))
        .compile_dir("json")?;
    Config::new()
        .json("Lists")
        .json_skip_unknown()
        .out_dir(out.join("lenient"))
        .compile_dir("json")?;
    let files = [
        "proto/acme/common/v1/common.proto",
        "proto/acme/streams/streams.proto",
    ];
    Config::new()
        .files(files)
        .include_path("proto")
        .client_only()
        .json(".")
        .runtime_path("crate::renamed")
        .out_dir(out.join("client"))
        .compile()?;
    Config::new()
        .files(files)
        .include_path("proto")
        .server_only()
        .type_attribute("Money", "#[derive(PartialOrd)]")
        .field_attribute(".acme.common.v1.Money.units", "#[doc = \" In whole ones.\"]")
        .file_descriptor_set_path(out.join("common.bin"))
        .out_dir(out.join("server"))
        .compile()
}
