//! OpenSSL's own client against our port. `.ci/strangers` runs it where openssl is installed.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use test_support::{Lab, within};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

use super::{
    certs::{SERVER, World},
    counted,
};

/// The certificates as files.
struct Files(PathBuf);

impl Files {
    fn new(world: &World) -> Self {
        let folder = std::env::temp_dir().join(format!("rpc-tls-openssl-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in [
            ("ca.pem", world.root.pem()),
            ("client.pem", world.client.chain_pem()),
            ("client.key", world.client.key.clone()),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Self(folder)
    }

    /// Runs `openssl s_client` until the server has ended the connection, or for a while. It sends nothing.
    async fn s_client(&self, address: &str, options: &[&str]) -> Output {
        let mut child = Command::new("openssl")
            .current_dir(&self.0)
            .args(["s_client", "-connect", address.strip_prefix("tls://").unwrap()])
            .args([
                "-CAfile",
                "ca.pem",
                "-servername",
                SERVER,
                "-verify_hostname",
                SERVER,
                "-verify_return_error",
            ])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("openssl is installed");
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let both = async { tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err)) };
        // A good connection stays open until the server's own time limit ends it.
        let _ = timeout(Duration::from_secs(30), both).await;
        let _ = child.kill().await;
        Output {
            status: within(child.wait()).await.unwrap(),
            stdout: out,
            stderr: err,
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(crate = "test_support::gate", flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openssl: run .ci/strangers"]
async fn openssl_as_a_stranger_shakes_hands_and_is_refused_for_what_it_lacks() {
    let world = World::new();
    let files = Files::new(&world);
    let tls = world.server().build().unwrap();
    let limits = rpc_runtime::Limits::default().handshake_timeout(Duration::from_secs(3));
    let lab = Lab::default();
    let server = lab
        .serve_with("tls://127.0.0.1:0", |server| server.tls(tls).limits(limits))
        .await;
    let shown = |output: &Output| {
        let text = [&output.stdout[..], &output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    };

    let identity = ["-cert", "client.pem", "-key", "client.key"];
    let good = [&identity[..], &["-alpn", "rustrpc"]].concat();
    let output = files.s_client(&server.address, &good).await;
    let text = shown(&output);
    for part in [
        "TLSv1.3",
        "ALPN protocol: rustrpc",
        "Verify return code: 0 (ok)",
        "rustrpc\u{1}",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(server.handle.counters().tls_handshakes_failed(), 0);

    let without_alpn = files.s_client(&server.address, &identity).await;
    assert!(!shown(&without_alpn).contains("rustrpc\u{1}"));
    counted(&server.handle, |counters| counters.tls_handshakes_failed() == 1).await;

    let without_certificate = files.s_client(&server.address, &["-alpn", "rustrpc"]).await;
    assert!(
        shown(&without_certificate).contains("certificate required"),
        "{}",
        shown(&without_certificate)
    );
    counted(&server.handle, |counters| counters.tls_handshakes_failed() == 2).await;

    let old = files
        .s_client(&server.address, &[&good[..], &["-tls1_2"]].concat())
        .await;
    assert!(shown(&old).contains("alert protocol version"), "{}", shown(&old));
    counted(&server.handle, |counters| counters.tls_handshakes_failed() == 3).await;
}
