//! The client that `connectconformance --mode client` starts and tells what to call.

#[cfg(conformance)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    strangers::conformance::call().await
}

#[cfg(not(conformance))]
fn main() -> std::process::ExitCode {
    strangers::without_protos()
}
