//! Where the pages are served, and until when.

use rpc_http::Http;
use rpc_runtime::{Client, Code, Server};
use rpc_services::Health;
use test_support::{unix, until, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::web::get;

async fn accepts(address: &str) -> bool {
    TcpStream::connect(address.trim_start_matches("tcp://"))
        .await
        .is_ok()
}

#[tokio::test]
async fn a_listener_ends_when_it_is_stopped_or_dropped() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let address = admin.address().to_owned();
    // An idle connection does not keep it.
    let mut idle = TcpStream::connect(address.trim_start_matches("tcp://"))
        .await
        .unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut one = [0];
    within(idle.read_exact(&mut one)).await.unwrap();
    within(admin.stop()).await;
    within(idle.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(!accepts(&address).await);

    let admin = rpc_admin::listen(&address).await.unwrap();
    assert_eq!(get(&address, "/healthz").await.status, 200);
    drop(admin);
    within(async {
        while accepts(&address).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_is_refused() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let error = rpc_admin::listen(admin.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let error = rpc_admin::listen("here").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let error = rpc_admin::listen("tls://127.0.0.1:0").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    admin.stop().await;
}

#[tokio::test]
async fn pages_are_served_over_a_unix_socket() {
    let address = unix("admin");
    let admin = rpc_admin::listen(&address).await.unwrap();
    // Whatever the name is: no web page reaches it.
    let answer = get(admin.address(), "/debug/connections").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    admin.stop().await;
}

#[tokio::test]
async fn nobody_terminates_a_listener() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    let client = Client::connect(admin.address()).await.unwrap();
    let error = client.terminate().await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
    assert_eq!(get(admin.address(), "/healthz").await.status, 200);
    drop(client);
    admin.stop().await;
}

#[tokio::test]
async fn a_server_shows_the_pages_on_its_own_port() {
    let health = Health::new();
    let pages = rpc_admin::builder().health(health.handle()).routes();
    let server = Server::builder()
        .service(health)
        .guest(Http::new().grpc().routes(pages))
        .listener("tcp://127.0.0.1:0")
        .signals(false)
        .bind()
        .await
        .unwrap();
    let (address, handle) = (server.addresses()[0].clone(), server.handle());
    let serving = tokio::spawn(server.serve());
    assert_eq!(get(&address, "/readyz").await.text(), "ready\n");
    assert_eq!(get(&address, "/debug/limits").await.status, 200);
    handle.drain();
    within(serving).await.unwrap().unwrap();
    until(|| handle.load().is_idle()).await;
}
