//! The client of gRPC's interoperability cases.
//!
//! Usage: interop-client HOST:PORT [CA SERVER_NAME]
//!
//! It prints each case that passes. The exit code is 0 if all of them do.

#[cfg(interop)]
#[tokio::main]
async fn main() -> Result<(), interop::Failed> {
    let mut args = std::env::args().skip(1);
    let host = args
        .next()
        .expect("the server's host and port as the first argument");
    let tls = args.next().zip(args.next());
    strangers::interop::run(&strangers::interop::Site::new(&host, tls)?).await
}

#[cfg(not(interop))]
fn main() -> std::process::ExitCode {
    strangers::without_protos()
}
