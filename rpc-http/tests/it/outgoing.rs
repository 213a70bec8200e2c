//! Our clients at gRPC servers: at our own port, and at servers that are made by hand.

mod broken_servers;
mod calls;
mod ends;
mod misfits;
mod nginx;
mod python;
mod raw;
mod reply_headers;
mod requests;
mod tls;

use demo_api::demo::kv::v1::KvClient;
use rpc_http::Grpc;
use rpc_runtime::client::ClientBuilder;

/// The address at which gRPC is spoken to a listener of this library.
pub(crate) fn grpc(address: &str) -> String {
    match address.split_once(':') {
        Some(("tcp", rest)) => format!("grpc:{rest}"),
        Some(("unix", rest)) => format!("grpc+unix:{rest}"),
        _ => panic!("{address}"),
    }
}

/// A builder of a client that speaks gRPC to `address`.
fn builder(address: &str) -> ClientBuilder<KvClient> {
    KvClient::builder(address).protocol(Grpc::new())
}

/// A client that speaks gRPC to a listener of this library.
pub(crate) async fn connect(address: &str) -> KvClient {
    builder(&grpc(address)).connect().await.unwrap()
}
