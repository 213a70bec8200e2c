//! Calls over TLS, and what a handler knows of its caller.

use std::time::Duration;

use rpc_runtime::{
    Client, Context, Executed, Server, limit,
    middleware::{Layered, Next, ServerCall, from_fn},
    server::{Handler, Incoming, Procedure, Service, TerminatePolicy, Transport},
    tls::{ClientTls, Identity, ServerTls, TlsFault},
};
use test_support::{Lab, Logged, Running, gate, lab::*, serve as serve_builder, within};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    certs::{SERVER, World},
    connect, fault, serve,
};
use crate::server::listening::carries_all;

#[tokio::test(crate = "test_support::gate")]
async fn all_kinds_of_calls_go_over_tls_up_to_a_terminate() {
    let world = World::new();
    let lab = Lab::default();
    let tls = world.server().build().unwrap();
    let server = lab
        .serve_with("tls://127.0.0.1:0", |server| {
            server
                .tls(tls)
                .terminate_policy(TerminatePolicy::custom(|_| true))
        })
        .await;
    let client = connect(&server, world.client().build().unwrap()).await.unwrap();

    carries_all(lab, server, client).await;
}

#[tokio::test(crate = "test_support::gate", flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_with_workers_of_the_server_carry_calls() {
    let world = World::new();
    let tls = world.server().build().unwrap();
    let server = Lab::default()
        .serve_with("tls://127.0.0.1:0", |server| server.tls(tls).workers(2))
        .await;
    let tls = world.client().build().unwrap();
    let clients = (0..20).map(|number| {
        let client: Client = Client::builder(&server.address).tls(tls.clone()).connect_lazy();
        tokio::spawn(async move {
            for round in 0..10 {
                let sent = format!("{number} {round}");
                assert_eq!(text(&client, &ECHO, &sent).await.unwrap(), sent);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within(client).await.unwrap();
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_connection_that_its_client_closes_ends_well_at_both_ends() {
    let world = World::new();
    let logged = Logged::here();
    let (_lab, server) = serve(world.server().build().unwrap()).await;
    for _ in 0..10 {
        let client = connect(&server, world.client().build().unwrap()).await.unwrap();
        assert_eq!(text(&client, &ECHO, "last").await.unwrap(), "last");
        within(client.close()).await.unwrap();
    }
    // Each side has told the other by close_notify that nothing was cut off.
    assert!(!logged.all().contains("close_notify"), "{}", logged.all());
}

/// Passes bytes on to a server, one connection at a time, and cuts a connection after `from_client` bytes of its client.
async fn cut_after(from_client: usize, server: &Running) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tls://{}", listener.local_addr().unwrap());
    let server = server.address.strip_prefix("tls://").unwrap().to_owned();
    let relay = tokio::spawn(async move {
        // The first connection and one more, for a call that is sent again.
        for _ in 0..2 {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(&server).await.unwrap();
            let (mut from, mut to) = client.split();
            let (mut from_server, mut to_server) = server.split();
            let mut few = (&mut from).take(from_client as u64);
            let there = tokio::io::copy(&mut few, &mut to_server);
            let back = tokio::io::copy(&mut from_server, &mut to);
            // However one direction ends, the connection is cut.
            tokio::select! { _ = there => {} _ = back => {} }
        }
    });
    (address, relay)
}

#[tokio::test(crate = "test_support::gate")]
async fn no_call_of_a_cut_tls_connection_ran_that_is_reported_as_not_executed() {
    let world = World::new();
    let (lab, server) = serve(world.server().build().unwrap()).await;
    let (mut not_executed, mut perhaps) = (Vec::new(), 0);
    // The cuts fall into the handshake, into the calls that TLS has taken, and into those that wait.
    for cut in (100..2_000).step_by(290).chain((2_000..80_000).step_by(3_001)) {
        let (address, relay) = cut_after(cut, &server).await;
        let client: Client = Client::builder(&address)
            .tls(world.client().build().unwrap())
            .connect_lazy();
        let calls: Vec<_> = (0..20)
            .map(|number| {
                let client = client.clone();
                let name = format!("cut after {cut}: {number} {}", "x".repeat(4_000));
                tokio::spawn(async move {
                    let call = client
                        .call()
                        .fail_fast()
                        .send_recv::<String, ()>(&NOTE, name.clone());
                    (name, within(call).await)
                })
            })
            .collect();
        for call in calls {
            let (name, result) = within(call).await.unwrap();
            match result.map_err(|error| error.executed()) {
                Err(Executed::No) => not_executed.push(name),
                Err(_) => perhaps += 1,
                Ok(()) => assert!(lab.log().contains(&name), "{name} is said to have run"),
            }
        }
        relay.abort();
    }
    server.stop().await;
    let ran = lab.log();
    let wrong: Vec<_> = not_executed.iter().filter(|name| ran.contains(name)).collect();
    assert!(wrong.is_empty(), "they are said not to have run: {wrong:?}");
    assert!(
        !not_executed.is_empty() && perhaps > 0,
        "{} did not run, {perhaps} perhaps",
        not_executed.len()
    );
}

static WHO: Procedure = Procedure::new("who.v1.Who/rpc_who", 0x7715);

/// Tells callers who they are.
struct Who;

impl Service for Who {
    fn name(&self) -> &'static str {
        "who.v1.Who"
    }

    fn procedures(&self) -> &'static [Procedure] {
        std::slice::from_ref(&WHO)
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|cx: Context, (): ()| async move {
            let peer = cx.peer();
            let certificate = peer.certificate().map_or_else(
                || "nobody".to_owned(),
                |found| {
                    format!(
                        "{:?} {:?} {}",
                        found.spiffe_id(),
                        found.common_name(),
                        found.chain().count()
                    )
                },
            );
            let is_tcp = peer.address().starts_with("tls://127.0.0.1:") && peer.socket_addr().is_some();
            assert!(
                is_tcp && peer.transport() == Transport::Tls && peer.is_local(),
                "{peer:?}"
            );
            Ok(certificate)
        })
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_handler_knows_the_verified_names_of_its_caller_also_in_a_resumed_session() {
    let world = World::new();
    let tls = world.server().anonymous_clients(true).build().unwrap();
    let builder = Server::builder()
        .service(Who)
        .listener("tls://127.0.0.1:0")
        .signals(false);
    let server = serve_builder(builder.tls(tls)).await;
    let who = async |client: &Client| -> String { within(client.call().send_recv(&WHO, ())).await.unwrap() };

    let known = world.client().build().unwrap();
    let expected = "Some(\"spiffe://test/billing\") Some(\"Client\") 1";
    for _ in 0..3 {
        // From the second time on, the session is resumed and no certificate is sent.
        let client = connect(&server, known.clone()).await.unwrap();
        assert_eq!(who(&client).await, expected);
    }
    let anonymous = ClientTls::builder().roots(world.root.roots()).server_name(SERVER);
    let client = connect(&server, anonymous.build().unwrap()).await.unwrap();
    assert_eq!(who(&client).await, "nobody");
}

#[tokio::test(crate = "test_support::gate")]
async fn only_a_server_that_was_verified_is_known_to_callbacks() {
    let world = World::new();
    let (_lab, server) = serve(ServerTls::builder(world.server.identity()).build().unwrap()).await;
    let verifying = ClientTls::builder().roots(world.root.roots()).server_name(SERVER);
    let careless = ClientTls::builder().dangerous_any_certificate();
    for (tls, names) in [(verifying, "Some([\"kv.test\"])"), (careless, "None")] {
        let own = Lab::default();
        let noted = own.clone();
        let noting = from_fn(move |call: ServerCall, next: Next<ServerCall>| {
            let certificate = call.peer().certificate();
            noted.note(format!("{:?}", certificate.map(|found| found.dns_names())));
            next.run(call)
        });
        let client = Client::builder(&server.address)
            .tls(tls.build().unwrap())
            .service(Layered::new(own.clone()).layer(noting));
        let client: Client = within(client.connect()).await.unwrap();
        assert_eq!(text(&client, &BACK, "back").await.unwrap(), "back");
        assert_eq!(own.log(), [names]);
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_limit_counts_by_the_name_in_the_certificate_and_without_one_by_address() {
    let world = World::new();
    let tls = world.server().anonymous_clients(true).build().unwrap();
    let limit = limit::rate(2).per(Duration::from_secs(3600));
    let server = Lab::default()
        .serve_with("tls://127.0.0.1:0", |server| server.tls(tls).layer(limit))
        .await;
    let anonymous = ClientTls::builder().roots(world.root.roots()).server_name(SERVER);
    for tls in [world.client().build().unwrap(), anonymous.build().unwrap()] {
        let mut admitted = 0;
        for _ in 0..3 {
            let client = connect(&server, tls.clone()).await.unwrap();
            let call = client.call().fail_fast().send_recv::<_, ()>(&ECHO, ());
            admitted += usize::from(within(call).await.is_ok());
        }
        assert_eq!(admitted, 2, "each connection has another port, and the same name");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_listener_without_a_certificate_is_refused_with_what_to_add() {
    let server = Server::builder()
        .service(Lab::default())
        .listener("tls://127.0.0.1:0");
    let error = server.bind().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "FAILED_PRECONDITION: tls://127.0.0.1:0 needs a certificate: add one by \
         .tls(ServerTls::builder(identity).build()?)"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn one_server_serves_tls_and_tcp_and_a_port_cannot_be_both() {
    let world = World::new();
    let tls = world.server().build().unwrap();
    let builder = Server::builder()
        .service(Lab::default())
        .signals(false)
        .tls(tls.clone());
    let server = builder
        .listener("tcp://127.0.0.1:0")
        .listener("tls://127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let addresses = server.addresses().to_vec();
    let serving = gate::serve(server);
    let plain = within(Client::connect(&addresses[0])).await.unwrap();
    assert_eq!(text(&plain, &ECHO, "plain").await.unwrap(), "plain");
    let connecting = Client::builder(&addresses[1])
        .tls(world.client().build().unwrap())
        .connect();
    let client: Client = within(connecting).await.unwrap();
    assert_eq!(text(&client, &ECHO, "secret").await.unwrap(), "secret");

    let port = addresses[1].rsplit_once(':').unwrap().1;
    let both = Server::builder()
        .service(Lab::default())
        .tls(tls)
        .listener(format!("tcp://127.0.0.1:{port}"));
    let error = both
        .listener(format!("tls://127.0.0.1:{port}"))
        .bind()
        .await
        .unwrap_err();
    assert!(error.message().contains("cannot listen on"), "{error}");
    drop(serving);
}

#[test]
fn a_configuration_that_cannot_be_used_names_the_file_and_the_fault() {
    let world = World::new();
    let folder = std::env::temp_dir().join(format!("rpc-tls-bad-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let chain = write("chain.pem", &world.server.chain_pem());
    let key = write("key.pem", &world.server.key);
    let other = write("other.key", &world.client.key);
    let empty = write("empty.pem", "nothing here\n");
    let missing = folder.join("missing.pem");
    for (chain, key, says) in [
        (&missing, &key, "cannot read "),
        (&chain, &missing, "cannot read "),
        (&empty, &key, "no certificate in "),
        (&chain, &empty, "no private key in "),
        (&chain, &chain, "no private key in "),
        (&chain, &other, "does not belong to the certificate in "),
    ] {
        let error = ServerTls::builder(Identity::pem_files(chain, key))
            .build()
            .unwrap_err();
        assert_eq!(error.fault(), TlsFault::Configuration);
        let text = error.to_string();
        assert!(
            text.contains(says) && text.contains(folder.to_str().unwrap()),
            "{text}"
        );
    }
    let secret = world.server.key.lines().nth(1).unwrap();
    let identity = Identity::pem(world.server.chain_pem(), &world.server.key);
    assert!(!format!("{identity:?}").contains(secret), "{identity:?}");
    let error = ClientTls::builder()
        .roots(world.root.roots())
        .server_name("no name")
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("\"no name\""), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_client_that_has_set_nothing_trusts_only_the_cas_of_this_machine() {
    let world = World::new();
    let (_lab, server) = serve(world.server().build().unwrap()).await;
    let connect = async || within(Client::connect(&server.address)).await.unwrap_err();
    let mut error = connect().await;
    // A slow machine may not have read them in time.
    while error
        .to_string()
        .contains("reading the CAs of this machine takes longer")
    {
        error = connect().await;
    }
    let (fault, is_from_server) = fault(&error);
    // A machine may have no CAs at all.
    assert!(
        matches!(fault, TlsFault::UnknownIssuer | TlsFault::Configuration),
        "{error:#}"
    );
    assert!(!is_from_server);
}
