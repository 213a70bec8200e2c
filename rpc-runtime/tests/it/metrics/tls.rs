//! TLS handshakes and certificates.

use std::{env, fs, path::PathBuf, process, time::SystemTime};

use rcgen::date_time_ymd;
use rpc_runtime::{
    Client, Server,
    tls::{ClientTls, Identity, Roots, ServerTls},
};
use test_support::{serve, within};

use super::{Counted, ECHO, call, grown, number, procedures};
use crate::tls::certs::{SERVER, Side, World};

procedures!(TLS, "metrics.v1.Tls", 0x1_2380_0000);

/// A certificate that is valid until 2040, and its key, in files that are removed at the end.
struct CertificateFiles {
    chain: PathBuf,
    key: PathBuf,
    side: &'static str,
}

impl CertificateFiles {
    fn write(world: &World, of: Side, side: &'static str) -> Self {
        let leaf = world
            .root
            .leaf(of, |params| params.not_after = date_time_ymd(2040, 1, 1));
        let file = |name| env::temp_dir().join(format!("rpc-test-{}-metrics-{side}-{name}", process::id()));
        let (chain, key) = (file("chain.pem"), file("key.pem"));
        fs::write(&chain, leaf.chain_pem()).unwrap();
        fs::write(&key, &leaf.key).unwrap();
        Self { chain, key, side }
    }

    fn identity(&self) -> Identity {
        Identity::pem_files(&self.chain, &self.key)
    }

    /// The seconds until it expires, as the metrics show them.
    fn expiry(&self) -> f64 {
        let name = format!("rpc_{}_certificate_expires_in_seconds", self.side);
        number(&name, &[("certificate", &self.chain.to_string_lossy())])
    }

    fn are_shown(&self) {
        let (left, expected) = (self.expiry(), until_2040());
        assert!((left - expected).abs() < 60.0, "{left} and {expected}");
    }

    async fn are_gone(&self) {
        within(async {
            while self.expiry() != 0.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for CertificateFiles {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.chain);
        let _ = fs::remove_file(&self.key);
    }
}

/// The seconds until the first second of 2040.
fn until_2040() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    2_208_988_800.0 - now.unwrap().as_secs_f64()
}

#[tokio::test(crate = "test_support::gate")]
async fn handshakes_are_counted_and_certificates_are_shown_until_they_are_gone() {
    let world = World::new();
    let files = CertificateFiles::write(&world, Side::Server, "server");
    let tls = ServerTls::builder(files.identity()).build().unwrap();
    files.are_shown();

    let handshakes =
        |side: &str, result| number(&format!("rpc_{side}_tls_handshakes_total"), &[("result", result)]);
    let before = ["ok", "failed"].map(|result| (handshakes("server", result), handshakes("client", result)));
    let server = Server::builder()
        .service(Counted::new(&TLS))
        .listener("tls://127.0.0.1:0")
        .tls(tls)
        .signals(false);
    let server = serve(server).await;
    let trusting = ClientTls::builder().roots(world.root.roots()).server_name(SERVER);
    let client = Client::builder(&server.address).tls(trusting.build().unwrap());
    let client: Client = within(client.connect()).await.unwrap();
    call(&client, &TLS[ECHO], "a").await.unwrap();
    assert!(handshakes("server", "ok") >= before[0].0 + 1.0);
    assert!(handshakes("client", "ok") >= before[0].1 + 1.0);

    let other = World::new().root.pem();
    let wary = ClientTls::builder().roots(Roots::pem(other)).server_name(SERVER);
    let wary = Client::builder(&server.address).tls(wary.build().unwrap());
    within(wary.connect()).await.map(|_: Client| ()).unwrap_err();
    assert!(handshakes("client", "failed") >= before[1].1 + 1.0);
    grown(
        "rpc_server_tls_handshakes_total",
        &[("result", "failed")],
        before[1].0 + 1.0,
    )
    .await;

    within(client.close()).await.unwrap();
    server.stop().await;
    // Nothing shows it any more, so it is no reason for an alarm.
    files.are_gone().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn the_certificate_of_a_client_is_shown_as_long_as_the_client_is_there() {
    let world = World::new();
    let files = CertificateFiles::write(&world, Side::Client, "client");
    let tls = ClientTls::builder()
        .roots(world.root.roots())
        .identity(files.identity())
        .build()
        .unwrap();
    let client = Client::builder("tls://127.0.0.1:1").tls(tls).connect_lazy();
    files.are_shown();
    drop::<Client>(client);
    files.are_gone().await;
}
