//! Throw-away CAs: what a client is told that trusts another one, or that connects by a name that the certificate lacks.

use rpc_runtime::tls::{self, ClientTls, ServerTls, TlsFault};

use super::{connect, fault, serve};

#[tokio::test(crate = "test_support::gate")]
async fn a_client_that_trusts_another_dev_ca_is_told_that_its_roots_lack_this_one() {
    let (ca, other) = (tls::dev().unwrap(), tls::dev().unwrap());
    let (_lab, server) = serve(ServerTls::builder(ca.server().unwrap()).build().unwrap()).await;
    let trusts_other = ClientTls::builder().roots(other.roots()).build().unwrap();
    let error = connect(&server, trusts_other).await.unwrap_err();
    assert_eq!(fault(&error), (TlsFault::UnknownIssuer, false), "{error:#}");
    let says = "the server's certificate is signed by no CA that is trusted here: add that CA to the `Roots`";
    assert!(error.to_string().contains(says), "{error:#}");
}

#[tokio::test(crate = "test_support::gate")]
async fn the_names_of_a_certificate_are_listed_as_people_write_them() {
    let ca = tls::dev().unwrap();
    let (_lab, server) = serve(ServerTls::builder(ca.server().unwrap()).build().unwrap()).await;
    let by_another_name = ClientTls::builder().roots(ca.roots()).server_name("kv.test");
    let error = connect(&server, by_another_name.build().unwrap())
        .await
        .unwrap_err();
    assert_eq!(fault(&error), (TlsFault::WrongName, false), "{error:#}");
    let says = "is not for \"kv.test\" but for localhost, 127.0.0.1, ::1: connect by one of its names";
    assert!(error.to_string().contains(says), "{error:#}");
}
