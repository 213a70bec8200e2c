//! Calls a real etcd by clients that rpc-codegen has made of etcd's own .proto files, of two versions.
//!
//! Usage: `etcd-caller ADDRESS`. It prints `restart` when etcd has to be started again with its data, and goes on when it reads a line.

#[cfg(etcd)]
mod v3_5;
#[cfg(etcd)]
mod v3_7;

#[cfg(etcd)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: etcd-caller ADDRESS")?;
    let etcd = rpc_runtime::Client::builder(address)
        .protocol(rpc_http::Grpc::new())
        .connect()
        .await?;
    let version = v3_5::check::all(&etcd, "3.5").await?;
    v3_7::check::all(&etcd, "3.7").await?;
    etcd.close().await?;
    println!("etcd {version}: answers clients of its API 3.5 and 3.7, also after restarts");
    Ok(())
}

#[cfg(not(etcd))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "error: this program was built without etcd's .proto files; `.ci/strangers etcd` builds it with them"
    );
    std::process::ExitCode::FAILURE
}
