//! The server that the suite calls.

use std::{error::Error, io, time::Duration};

use rpc_http::Http;
use rpc_runtime::{
    Limits, Server,
    tls::{Identity, Roots, ServerTls},
};

use super::{
    connectrpc::conformance::v1::{
        ConformanceServiceServer, ServerCompatRequest, ServerCompatResponse, TlsCreds,
    },
    framing::{read, write},
    service::Conformance,
};

/// Reads from standard input what the suite wants of a server, and is this server until SIGTERM.
///
/// # Errors
///
/// Standard input or output fails, the suite wants what is not there, or the server cannot listen.
pub async fn serve() -> Result<(), Box<dyn Error>> {
    let wanted: ServerCompatRequest = read(io::stdin())?.ok_or("standard input is empty")?;
    let mut limits = Limits::default();
    if wanted.message_receive_limit > 0 {
        limits = limits.max_message(wanted.message_receive_limit.into());
    }
    let builder = Server::builder()
        .service(ConformanceServiceServer::new(Conformance))
        .guest(Http::new().grpc().initial_metadata())
        .limits(limits)
        .drain_timeout(Duration::from_secs(1));
    let own = wanted.server_creds.filter(|_| wanted.use_tls);
    let builder = match &own {
        None => builder.listener("tcp://127.0.0.1:0"),
        Some(own) => builder
            .listener("tls://127.0.0.1:0")
            .tls(tls(own, &wanted.client_tls_cert)?),
    };
    let server = builder.bind().await?;
    let (_, port) = server.addresses()[0]
        .rsplit_once(':')
        .ok_or("an address without a port")?;
    let started = ServerCompatResponse {
        host: "127.0.0.1".to_owned(),
        port: port.parse()?,
        pem_cert: own.map(|own| own.cert).unwrap_or_default(),
    };
    write(io::stdout(), &started)?;
    server.serve().await?;
    Ok(())
}

/// TLS by the suite's certificate `own`; with `clients`, for callers with that certificate alone.
fn tls(own: &TlsCreds, clients: &[u8]) -> Result<ServerTls, Box<dyn Error>> {
    let tls = ServerTls::builder(Identity::pem(&own.cert, &own.key));
    let tls = match clients {
        [] => tls,
        _ => tls.client_roots(Roots::pem(clients)),
    };
    Ok(tls.build()?)
}
