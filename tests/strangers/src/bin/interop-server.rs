//! The server of gRPC's interoperability cases, on a free port.
//!
//! Usage: interop-server [CERTIFICATE KEY]

#[cfg(interop)]
#[tokio::main]
async fn main() -> Result<(), rpc_runtime::Error> {
    let mut args = std::env::args().skip(1);
    let tls = args.next().zip(args.next());
    strangers::interop::serve(tls).await
}

#[cfg(not(interop))]
fn main() -> std::process::ExitCode {
    strangers::without_protos()
}
