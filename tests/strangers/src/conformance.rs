//! Connect's conformance suite: its service, and the messages by which it starts a server.

mod service;

use std::{
    error::Error,
    io::{self, Read, Write},
    time::Duration,
};

use prost::Message;
use rpc_http::Http;
use rpc_runtime::{Limits, Server};

use self::connectrpc::conformance::v1::{
    ConformanceServiceServer, ServerCompatRequest, ServerCompatResponse,
};
pub use self::service::Conformance;

include!(concat!(env!("OUT_DIR"), "/conformance/rpc_protos.rs"));

/// Reads from standard input what the suite wants of a server, and is this server until SIGTERM.
///
/// # Errors
///
/// Standard input or output fails, the suite wants what is not there, or the server cannot listen.
pub async fn serve() -> Result<(), Box<dyn Error>> {
    let wanted: ServerCompatRequest = read(io::stdin())?;
    if wanted.use_tls {
        return Err("the suite wants TLS, which this server does not have: set supports_tls to false".into());
    }
    let mut limits = Limits::default();
    if wanted.message_receive_limit > 0 {
        limits = limits.max_message(wanted.message_receive_limit.into());
    }
    let server = Server::builder()
        .service(ConformanceServiceServer::new(Conformance))
        .guest(Http::new().grpc().initial_metadata())
        .limits(limits)
        .drain_timeout(Duration::from_secs(1))
        .listener("tcp://127.0.0.1:0")
        .bind()
        .await?;
    let (_, port) = server.addresses()[0]
        .rsplit_once(':')
        .ok_or("an address without a port")?;
    let started = ServerCompatResponse {
        host: "127.0.0.1".to_owned(),
        port: port.parse()?,
        ..Default::default()
    };
    write(io::stdout(), &started)?;
    server.serve().await?;
    Ok(())
}

/// Reads a message behind its length of four bytes.
fn read<M: Message + Default>(mut from: impl Read) -> Result<M, Box<dyn Error>> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let mut bytes = Vec::new();
    from.take(u32::from_be_bytes(len).into())
        .read_to_end(&mut bytes)?;
    Ok(M::decode(&bytes[..])?)
}

/// Writes a message behind its length of four bytes.
fn write(mut to: impl Write, message: &impl Message) -> io::Result<()> {
    let bytes = message.encode_to_vec();
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_be_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}
