//! The client that the suite tells what to call.

use std::{error::Error, io, sync::Arc, time::Duration};

use rpc_http::Grpc;
use rpc_runtime::{
    Client,
    tls::{ClientTls, Identity, Roots},
};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, block_in_place},
};

use super::{
    connectrpc::conformance::v1::{
        ClientCompatRequest, ClientCompatResponse, ClientErrorResult, ClientResponseResult, Compression,
        ConformanceServiceClient, client_compat_response::Result as Answer,
    },
    framing::{read, write},
    invocation::Invocation,
};

/// Reads from standard input what the suite wants to be called, makes these calls, and writes what became of them to standard output.
///
/// # Errors
///
/// Standard input or output fails.
pub async fn call() -> Result<(), Box<dyn Error>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut calls = JoinSet::new();
    while let Some(request) = block_in_place(|| read::<ClientCompatRequest>(io::stdin()))? {
        let place = Arc::clone(&places).acquire_owned().await?;
        calls.spawn(async move {
            let _place = place;
            let test_name = request.test_name.clone();
            let answer = match make(request).await {
                Ok(result) => Answer::Response(result),
                Err(error) => Answer::Error(ClientErrorResult {
                    message: error.to_string(),
                }),
            };
            let response = ClientCompatResponse {
                test_name,
                result: Some(answer),
            };
            write(io::stdout().lock(), &response)
        });
        while let Some(written) = calls.try_join_next() {
            written??;
        }
    }
    while let Some(written) = calls.join_next().await {
        written??;
    }
    Ok(())
}

/// Makes the call of a case, on a connection of its own.
async fn make(request: ClientCompatRequest) -> Result<ClientResponseResult, Box<dyn Error + Send + Sync>> {
    let client = connect(&request).await?;
    let outcome = Invocation::new(client, request).run().await?;
    Ok(outcome)
}

/// Connects to the server of a case.
async fn connect(
    request: &ClientCompatRequest,
) -> Result<ConformanceServiceClient, Box<dyn Error + Send + Sync>> {
    let grpc = match request.compression() {
        Compression::Identity => Grpc::new(),
        Compression::Gzip => Grpc::new().gzip(),
        other => return Err(format!("this client has no {other:?}").into()),
    };
    let scheme = match request.server_tls_cert.is_empty() {
        true => "grpc",
        false => "grpcs",
    };
    let address = format!("{scheme}://{}:{}", request.host, request.port);
    let timeout = request.timeout_ms.map(u64::from).map(Duration::from_millis);
    let mut builder = Client::builder(address).protocol(grpc).timeout(timeout);
    if !request.server_tls_cert.is_empty() {
        builder = builder.tls(tls(request)?);
    }
    Ok(builder.connect().await?.into())
}

/// TLS that trusts the server's certificate alone, and has the suite's certificate for clients if there is one.
fn tls(request: &ClientCompatRequest) -> Result<ClientTls, Box<dyn Error + Send + Sync>> {
    let tls = ClientTls::builder().roots(Roots::pem(&request.server_tls_cert));
    let tls = match &request.client_tls_creds {
        None => tls,
        Some(own) => tls.identity(Identity::pem(&own.cert, &own.key)),
    };
    Ok(tls.build()?)
}

/// How many calls are made at once: few, since some cases have deadlines that they must meet on a busy machine, too.
const AT_ONCE: usize = 4;
