//! Site: a server of the cases, and the way to it.

use interop::Outcome;
use rpc_http::Grpc;
use rpc_runtime::{
    Client,
    tls::{ClientTls, Roots},
};

use super::grpc::testing::TestServiceClient;

/// A gRPC server of the cases, and the way to it.
#[derive(Debug)]
pub struct Site {
    address: String,
    tls: Option<ClientTls>,
}

impl Site {
    /// That of a server at `host`; with the file of a CA and a name, over TLS.
    ///
    /// # Errors
    ///
    /// The file is no certificate.
    pub fn new(host: &str, tls: Option<(String, String)>) -> Outcome<Self> {
        let scheme = match tls {
            None => "grpc",
            Some(_) => "grpcs",
        };
        let tls = tls.map(|(ca, name)| {
            let tls = ClientTls::builder().roots(Roots::pem_file(ca));
            tls.server_name(name).build()
        });
        Ok(Self {
            address: format!("{scheme}://{host}"),
            tls: tls.transpose()?,
        })
    }

    /// Makes a client with a connection of its own.
    pub(super) async fn client(&self) -> Outcome<TestServiceClient> {
        self.connect().await
    }

    /// Makes a stub of any kind, with a connection of its own.
    pub(super) async fn connect<C: From<Client>>(&self) -> Outcome<C> {
        let mut builder = Client::builder(&self.address).protocol(Grpc::new());
        if let Some(tls) = &self.tls {
            builder = builder.tls(tls.clone());
        }
        Ok(builder.connect().await?.into())
    }
}
