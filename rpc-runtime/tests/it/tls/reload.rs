//! Certificates that change while calls run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_runtime::{
    Client,
    tls::{ClientTls, Identity, Roots, ServerTls, TlsFault},
};
use test_support::{lab::ECHO, text, within};

use super::{
    certs::{Ca, Leaf, SERVER, Side, World},
    connect, fault, serve,
};

/// A folder of this test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rpc-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file as careful programs do: readers see the old or the new one, whole.
    fn replace(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Replaces an identity; its two files change one after the other.
    fn replace_identity(&self, leaf: &Leaf) {
        self.replace("chain.pem", &leaf.chain_pem());
        self.replace("key.pem", &leaf.key);
    }

    fn identity(&self) -> Identity {
        Identity::pem_files(self.path("chain.pem"), self.path("key.pem"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a temporary folder does no harm.
        let _ = fs::remove_dir_all::<&Path>(&self.0);
    }
}

#[tokio::test(crate = "test_support::gate", flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_load_and_no_call_fails() {
    const ROTATIONS: usize = 20;
    let world = World::new();
    let (at_server, at_client) = (Folder::new("rotate-server"), Folder::new("rotate-client"));
    at_server.replace_identity(&world.server);
    at_client.replace_identity(&world.client);
    let server_tls = ServerTls::builder(at_server.identity())
        .client_roots(world.root.roots())
        .reload_every(Duration::ZERO)
        .build()
        .unwrap();
    let client_tls = ClientTls::builder()
        .roots(world.root.roots())
        .identity(at_client.identity())
        .server_name(SERVER)
        .reload_every(Duration::ZERO)
        .build()
        .unwrap();
    let (_lab, server) = serve(server_tls).await;
    let open = connect(&server, client_tls.clone()).await.unwrap();

    let is_over = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, calls) = (Arc::clone(&is_over), Arc::clone(&calls));
            let (address, tls, open) = (server.address.clone(), client_tls.clone(), open.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::SeqCst) {
                    // One call on a new connection, one on a connection that has been open all the time.
                    let new: Client = within(Client::builder(&address).tls(tls.clone()).connect())
                        .await
                        .unwrap();
                    assert_eq!(text(&new, &ECHO, "new").await.unwrap(), "new");
                    assert_eq!(text(&open, &ECHO, "open").await.unwrap(), "open");
                    calls.fetch_add(2, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for _ in 0..ROTATIONS {
        let before = calls.load(Ordering::SeqCst);
        at_server.replace_identity(&world.root.leaf(Side::Server, |_| {}));
        at_client.replace_identity(&world.root.leaf(Side::Client, |_| {}));
        within(async {
            while calls.load(Ordering::SeqCst) < before + 16
                && callers.iter().all(|caller| !caller.is_finished())
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    is_over.store(true, Ordering::SeqCst);
    for caller in callers {
        within(caller).await.unwrap();
    }
    assert!(calls.load(Ordering::SeqCst) >= 16 * ROTATIONS);
    assert_eq!(server.handle.counters().tls_handshakes_failed(), 0);

    // The server uses what it reads: this certificate is of another CA, and the client trusts no other.
    let last = Ca::root("last", |_| {});
    at_server.replace_identity(&last.leaf(Side::Server, |_| {}));
    let tls = ClientTls::builder()
        .roots(last.roots())
        .identity(at_client.identity())
        .server_name(SERVER);
    connect(&server, tls.build().unwrap()).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_changed_file_is_used_by_the_next_handshake_and_a_bad_one_keeps_the_old() {
    let world = World::new();
    let files = Folder::new("bad-file");
    files.replace_identity(&world.server);
    let tls = ServerTls::builder(files.identity())
        .reload_every(Duration::ZERO)
        .build()
        .unwrap();
    let (_lab, server) = serve(tls.clone()).await;
    // Each connection with a configuration of its own, so that no session is resumed.
    let trusting = |ca: &Ca| {
        ClientTls::builder()
            .roots(ca.roots())
            .server_name(SERVER)
            .build()
            .unwrap()
    };
    connect(&server, trusting(&world.root)).await.unwrap();

    // Another CA has signed the new certificate.
    let other = Ca::root("other", |_| {});
    files.replace_identity(&other.leaf(Side::Server, |_| {}));
    connect(&server, trusting(&other)).await.unwrap();
    let error = connect(&server, trusting(&world.root)).await.unwrap_err();
    assert_eq!(fault(&error), (TlsFault::UnknownIssuer, false));

    for bad in ["", "no certificate", &world.client.chain_pem()] {
        files.replace("chain.pem", bad);
        // The handshake looks at the files, and finds that they cannot be used.
        connect(&server, trusting(&other)).await.unwrap();
        let error = tls.reload().unwrap_err();
        assert_eq!(error.fault(), TlsFault::Configuration, "{error}");
        assert!(error.to_string().contains("chain.pem"), "{error}");
        connect(&server, trusting(&other)).await.unwrap();
    }
    files.replace_identity(&world.server);
    tls.reload().unwrap();
    connect(&server, trusting(&world.root)).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_list_of_revoked_certificates_that_changes_holds_for_resumed_sessions_too() {
    let world = World::new();
    let files = Folder::new("crl");
    files.replace("crl.pem", &world.root.crl(&[], |_| {}));
    let roots = Roots::pem(world.root.pem()).with_crl_file(files.path("crl.pem"));
    let tls = ServerTls::builder(world.server.identity())
        .client_roots(roots)
        .reload_every(None)
        .build()
        .unwrap();
    let (_lab, server) = serve(tls.clone()).await;
    let client_tls = world.client().build().unwrap();
    let client = connect(&server, client_tls.clone()).await.unwrap();
    assert_eq!(text(&client, &ECHO, "let in").await.unwrap(), "let in");

    files.replace("crl.pem", &world.root.crl(&[7], |_| {}));
    connect(&server, client_tls.clone()).await.unwrap();
    tls.reload().unwrap();
    let error = connect(&server, client_tls).await.unwrap_err();
    assert_eq!(fault(&error), (TlsFault::Revoked, true), "{error:#}");
}

#[tokio::test(crate = "test_support::gate")]
async fn changed_roots_of_either_side_are_used_by_the_next_handshake() {
    let (old, root) = (World::new(), Ca::root("another root", |_| {}));
    let new = World {
        server: root.leaf(Side::Server, |_| {}),
        client: root.leaf(Side::Client, |_| {}),
        root,
    };
    let files = Folder::new("roots");
    let client_tls = |world: &World| {
        ClientTls::builder()
            .roots(Roots::pem_file(files.path("servers.pem")))
            .identity(world.client.identity())
            .server_name(SERVER)
            .reload_every(Duration::ZERO)
            .build()
            .unwrap()
    };
    let server_tls = |world: &World| {
        ServerTls::builder(world.server.identity())
            .client_roots(Roots::pem_file(files.path("clients.pem")))
            .reload_every(Duration::ZERO)
            .build()
            .unwrap()
    };
    for name in ["servers.pem", "clients.pem"] {
        files.replace(name, &old.root.pem());
    }
    let (_lab, server) = serve(server_tls(&old)).await;
    let (of_old, of_new) = (client_tls(&old), client_tls(&new));
    connect(&server, of_old.clone()).await.unwrap();
    let error = connect(&server, of_new.clone()).await.unwrap_err();
    assert_eq!(fault(&error), (TlsFault::UnknownIssuer, true), "{error:#}");

    files.replace("clients.pem", &new.root.pem());
    connect(&server, of_new.clone()).await.unwrap();
    let error = connect(&server, of_old).await.unwrap_err();
    assert_eq!(fault(&error), (TlsFault::UnknownIssuer, true), "{error:#}");

    files.replace("servers.pem", &new.root.pem());
    let error = connect(&server, of_new.clone()).await.unwrap_err();
    assert_eq!(fault(&error), (TlsFault::UnknownIssuer, false), "{error:#}");
    let (_lab, server) = serve(server_tls(&new)).await;
    connect(&server, of_new).await.unwrap();
}
