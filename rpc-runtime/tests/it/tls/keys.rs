//! Private keys: no error, no `Debug` and no line of the log shows them.

use rpc_runtime::{
    Client, Error, Server,
    tls::{ClientTls, Identity, Roots, ServerTls},
};
use test_support::{Logged, gate, within};

use super::certs::{Ca, Side, World};
use crate::secrets::{CANARY, Secrets, Shown};

#[tokio::test(crate = "test_support::gate")]
async fn no_private_key_is_logged_or_shown() {
    let (logged, shown) = (Logged::here(), Shown::default());
    // Files that are no keys, and have the canary where a key would be.
    let world = World::new();
    let chain = world.server.chain_pem();
    for key in [
        CANARY.to_owned(),
        format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"),
        format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n"),
        format!("-----BEGIN {CANARY}-----\n"),
        format!("{}{CANARY}", world.client.key),
    ] {
        let identity = Identity::pem(&chain, &key);
        shown.debug("Identity", &identity);
        let server = ServerTls::builder(identity.clone());
        shown.debug("ServerTlsBuilder", &server);
        shown.error("ServerTlsBuilder::build", &server.build().unwrap_err());
        let client = ClientTls::builder().identity(identity).roots(world.root.roots());
        shown.debug("ClientTlsBuilder", &client);
        let error = client.build().unwrap_err();
        shown.error("ClientTlsBuilder::build", &error);
        shown.error("it as an error of the runtime", &Error::from(error));
        // A file of both, given as the chain.
        if let Err(error) = ServerTls::builder(Identity::pem(&key, &key)).build() {
            shown.error("a key as the chain", &error);
        }
        if let Err(error) = ClientTls::builder().roots(Roots::pem(&key)).build() {
            shown.error("a key as a CA", &error);
        }
        let roots = world.root.roots().with_crl(&key);
        if let Err(error) = ClientTls::builder().roots(roots).build() {
            shown.error("a key as a revocation list", &error);
        }
    }
    shown.check(&logged);

    // A key that works: the middle of it must not be shown.
    let leaf = Ca::root("root", |_| {}).leaf(Side::Server, |_| {});
    let line = leaf.key.lines().nth(1).unwrap()[10..40].to_owned();
    let tls = ServerTls::builder(leaf.identity()).build().unwrap();
    let builder = Server::builder().service(Secrets(shown.clone())).signals(false);
    let builder = builder.listener("tls://127.0.0.1:0").tls(tls.clone());
    let seen = format!("{tls:?} {tls:#?} {builder:?}");
    let server = builder.bind().await.unwrap();
    let address = server.addresses()[0].clone();
    let _serving = gate::serve(server);
    let trusting_nobody = ClientTls::builder()
        .roots(world.root.roots())
        .identity(leaf.identity());
    let client = Client::builder(&address).tls(trusting_nobody.build().unwrap());
    let seen = format!("{seen} {client:?}");
    let error = within::<Result<Client, Error>>(client.connect())
        .await
        .unwrap_err();
    let seen = format!("{seen} {error:#} {error:?} {}", logged.all());
    assert!(!seen.contains(&line), "{seen}");
}
