//! The server that `connectconformance --mode server` starts and calls.

#[cfg(conformance)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    strangers::conformance::serve().await
}

#[cfg(not(conformance))]
fn main() -> std::process::ExitCode {
    strangers::without_protos()
}
