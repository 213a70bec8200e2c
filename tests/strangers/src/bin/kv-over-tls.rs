//! The demo's store over TLS, with reflection, for callers with the bearer token `a-long-one` or without any.
//!
//! Usage: kv-over-tls FOLDER CLIENTS ADDRESS.., where FOLDER gets the files of a CA (see docs/how-to/tls.md), and CLIENTS is `known` to require
//! client certificates and else `anybody`. It prints `listening ADDRESS` for each address.

use std::{env, error::Error};

use demo_api::demo::kv::v1::KvServer;
use demo_server::Store;
use rpc_http::Http;
use rpc_runtime::{
    Server,
    auth::{BearerTokens, Caller},
    tls::{self, Identity, ServerTls},
};
use rpc_services::Reflection;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (folder, clients) = args
        .next()
        .zip(args.next())
        .ok_or("usage: kv-over-tls FOLDER CLIENTS ADDRESS..")?;
    let ca = tls::dev()?;
    ca.write_to(&folder)?;
    let mut tls = ServerTls::builder(Identity::pem_files(
        format!("{folder}/server.pem"),
        format!("{folder}/server.key"),
    ));
    if clients == "known" {
        tls = tls.client_roots(ca.roots());
    }
    let tokens = BearerTokens::fixed([("a-long-one", Caller::new("ada"))]);
    let mut server = Server::builder()
        .layer(tokens.optional())
        .service(KvServer::new(Store::default()))
        .service(Reflection::new())
        .guest(Http::new().grpc())
        .tls(tls.build()?);
    for address in args {
        server = server.listener(address);
    }
    let server = server.bind().await?;
    for address in server.addresses() {
        println!("listening {address}");
    }
    server.serve().await?;
    Ok(())
}
