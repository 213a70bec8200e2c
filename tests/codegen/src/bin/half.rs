//! A binary that uses half of the generated code. The compiler must not warn of dead code.
#![deny(missing_docs, warnings, clippy::all)]

mod api {
    rpc_runtime::include_protos!();
}

use std::time::Duration;

use api::acme::{
    common::v1::Color,
    shop::v1::{OrdersClient, Size},
};
use rpc_runtime::{Bytes, Error, Open};

fn main() {
    // No server listens. The test is that this compiles and that calls are `Send`.
    drop(is_send(calls("mem:nowhere")));
}

async fn calls(address: &str) -> Result<(), Error> {
    let orders = OrdersClient::connect_lazy(address);
    orders.send().noop().await?;
    orders.send().texts("text", "data").await?;
    let number: u32 = orders.send_recv().numbers(-7, 7, 7.0, 7.0, true, 7).await?;
    let text: String = orders
        .send_recv()
        .timeout(Duration::from_secs(1))
        .texts(String::new(), Bytes::new())
        .await?;
    let data: Option<Bytes> = orders
        .send_recv()
        .timeout(None)
        .options(None, Some("x".into()), Some(7))
        .await?;
    let size: Open<Size> = orders
        .send_recv()
        .enums(Color::Red, None, vec![Size::Big as i32], text)
        .await?;
    let maybe: Option<Open<Size>> = orders
        .send_recv()
        .metadata("key", "value")
        .maybe_enum(size)
        .await?;
    orders.send_recv().timeout_(number).await?;
    orders.send_recv().terminate_().await?;
    orders
        .send_recv()
        .keywords("type", true, "self", 7, "camel", "super")
        .await?;
    orders
        .send()
        .context("cx", "request", "service", "call", "reply", "value", "index")
        .await?;
    let report = orders.clone().send_recv().terminate().await?;
    orders.send().terminate().await?;
    drop((report, data, maybe));
    orders.close().await
}

fn is_send<F: Future + Send>(future: F) -> F {
    future
}
