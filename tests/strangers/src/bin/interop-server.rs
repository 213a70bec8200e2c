//! The server of gRPC's interoperability cases, on a free port.

#[cfg(interop)]
#[tokio::main]
async fn main() -> Result<(), rpc_runtime::Error> {
    strangers::interop::serve().await
}

#[cfg(not(interop))]
fn main() -> std::process::ExitCode {
    strangers::without_protos()
}
