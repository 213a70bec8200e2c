//! Who is let in: each transport, policy, caller and proxy, in one table (`table.rs`).
//!
//! Each cell of the table gets a server of its own. What the caller is told, what the server has written down, and whether it
//! still serves, must all agree with the cell.
//!
//! To add a policy: a variant of `Rule`, how a server gets it (`serve` here), which credential it looks at (`Credential::of`), and
//! the rows.

mod caller;
mod certificates;
mod other_user;
mod proxy;
mod table;

use std::{
    env, fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use rpc_runtime::{
    Client,
    auth::{self, BearerTokens, Roles},
    server::{Peer, ServerBuilder, TerminatePolicy},
};
use test_support::{Lab, Logged, Running, loopback, within};

use self::{
    caller::{ASKED, OK, Proof, Shown, TOKEN, TOKEN_KEY, UNCONNECTED},
    certificates::Certificates,
    other_user::OtherUser,
    proxy::{Inward, Outward, Proxy},
    table::{
        Asks, CALLERS, Caller, Cell, Credential, DIRECT, Door, Expected, PROXIED, PROXIED_CALLERS, Rule,
        WAYS, Way,
    },
};
use crate::tls::certs::CLIENT;

#[tokio::test(crate = "test_support::gate")]
async fn each_caller_is_let_in_or_refused_as_the_table_says() {
    let cases = DIRECT.iter().flat_map(|&(asks, door, rule, cells)| {
        let cells = CALLERS.into_iter().zip(cells);
        cells.map(move |(caller, cell)| Case {
            asks,
            door,
            rule,
            way: Way::Direct,
            caller,
            cell,
        })
    });
    check(cases, "direct").await;
}

#[tokio::test(crate = "test_support::gate")]
async fn each_caller_behind_a_proxy_is_let_in_or_refused_as_the_table_says() {
    let cases = PROXIED.iter().flat_map(|&(asks, door, rule, ways)| {
        let ways = WAYS.into_iter().zip(ways);
        ways.flat_map(move |(way, cells)| {
            let cells = PROXIED_CALLERS.into_iter().zip(cells);
            cells.map(move |(caller, cell)| Case {
                asks,
                door,
                rule,
                way,
                caller,
                cell,
            })
        })
    });
    check(cases, "proxied").await;
}

#[tokio::test(crate = "test_support::gate")]
async fn an_in_process_client_may_terminate_its_own_server() {
    let client = Client::in_process(Lab::default());
    within(client.terminate()).await.unwrap();
}

/// Tries all cases, and fails with a list of those that differ.
async fn check(cases: impl Iterator<Item = Case>, name: &str) {
    let certificates = Certificates::new();
    let other_user = OtherUser::start(&certificates, name);
    let (mut tried, mut skipped, mut wrong) = (0, 0, Vec::new());
    for case in cases.filter(|case| case.cell.expected != Expected::Moot) {
        if case.caller == Caller::OtherUser && other_user.is_err() {
            skipped += 1;
            continue;
        }
        tried += 1;
        if let Err(found) = case.check(&certificates, &other_user).await {
            wrong.push(format!("{case}: {found}"));
        }
    }
    if let Err(error) = other_user {
        eprintln!(
            "skipped: {skipped} cells of another user, because only root can start its process: {error}"
        );
    }
    assert!(
        wrong.is_empty(),
        "{} of {tried} cells are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A cell with its place in the table.
struct Case {
    asks: Asks,
    door: Door,
    rule: Rule,
    way: Way,
    caller: Caller,
    cell: Cell,
}

impl Case {
    /// Tries it with a server of its own. Returns what differs.
    async fn check(
        &self,
        certificates: &Certificates,
        other_user: &io::Result<OtherUser>,
    ) -> Result<(), String> {
        let logged = Logged::here();
        let lab = Lab::default();
        let server = self.serve(&lab, certificates).await;
        let credential = Credential::of(self.asks, self.door, self.rule);
        let shown = Shown::by(self.caller, credential, certificates);

        let road = self.road(&server, &shown, certificates).await;
        let seen = match (self.caller, other_user) {
            (Caller::OtherUser, Ok(user)) => user.ask(self.asks, &shown, &road.address).await,
            _ => {
                if let Proof::Stolen(_) = shown.proof {
                    shown.lose_proof(&road.address).await;
                }
                shown.ask(self.asks, &road.address).await
            }
        };
        drop(road);

        self.compare_seen(&seen)?;
        self.compare_record(&lab, &logged)?;
        let is_ended = self.asks == Asks::Terminate && self.cell.expected == Expected::Allowed;
        if !is_ended {
            let owner = Shown::by(Caller::Good, credential, certificates);
            let client = owner.connect(&loopback(&server.address)).await.unwrap();
            match (self.door, self.rule) {
                // Nobody may call there. That it takes a connection shows that it lives.
                (Door::Tcp, Rule::ConnectionTokens | Rule::CallTokens | Rule::TokenRoles) => {}
                (Door::Tcp | Door::Tls, Rule::Roles) => {}
                _ => assert_eq!(owner.echo(&client, "alive").await.unwrap(), "alive", "{self}"),
            }
            server.handle.drain();
        }
        assert!(server.report().await.is_clean(), "{self}");
        Ok(())
    }

    /// Compares what the caller was told.
    fn compare_seen(&self, seen: &str) -> Result<(), String> {
        let is_expected = match self.cell.expected {
            Expected::Allowed => seen == OK,
            Expected::Refused(code, text) => seen.starts_with(&format!("{code} No ")) && seen.contains(text),
            Expected::Unconnected(text) => seen.starts_with(UNCONNECTED) && seen.contains(text),
            Expected::Moot => false,
        };
        is_expected
            .then_some(())
            .ok_or_else(|| format!("the caller was told: {seen}"))
    }

    /// Compares what the server has written down: its audit, and the log of its handlers.
    fn compare_record(&self, lab: &Lab, logged: &Logged) -> Result<(), String> {
        let decisions = logged.audit();
        let decisions: Vec<_> = decisions
            .iter()
            .map(|line| line.pick(&["decision", "first"]))
            .collect();
        let (decided, log): (&[&str], &[&str]) = match (self.asks, self.cell.expected) {
            (Asks::Terminate, Expected::Allowed) => (&["allowed true"], &[]),
            // The one with a reply, and the one-way one.
            (Asks::Terminate, Expected::Refused(..)) => (&["denied ", "denied "], &[]),
            (Asks::Call, Expected::Refused(..)) => (&["denied ", "denied "], &[]),
            (Asks::Call, Expected::Allowed) => match self.rule {
                Rule::Roles | Rule::TokenRoles => (&["allowed "], &[ASKED]),
                _ => (&[], &[ASKED]),
            },
            _ => (&[], &[]),
        };
        if decisions != decided || lab.log() != log {
            return Err(format!(
                "the server has decided {decisions:?} and run {:?}",
                lab.log()
            ));
        }
        Ok(())
    }

    async fn serve(&self, lab: &Lab, certificates: &Certificates) -> Running {
        let policy = match (self.rule, self.door) {
            (Rule::Default | Rule::ConnectionTokens | Rule::CallTokens, _) => TerminatePolicy::default(),
            (Rule::Roles | Rule::TokenRoles, _) => TerminatePolicy::default(),
            (Rule::Loopback, _) => TerminatePolicy::loopback(),
            (Rule::Disabled, _) => TerminatePolicy::disabled(),
            (Rule::Custom, Door::Mtls) => TerminatePolicy::custom(|cx| {
                let peer = cx.peer();
                peer.certificate().and_then(|found| found.spiffe_id()) == Some(CLIENT)
            }),
            (Rule::Custom, _) => {
                TerminatePolicy::custom(|cx| cx.metadata().get_str(TOKEN_KEY) == Some(TOKEN))
            }
        };
        let address = match self.door {
            Door::Tcp => "tcp://127.0.0.1:0".to_owned(),
            Door::World => "tcp://0.0.0.0:0".to_owned(),
            Door::Unix | Door::OpenUnix => format!("unix:{}", socket().display()),
            Door::Tls | Door::Mtls => "tls://127.0.0.1:0".to_owned(),
            Door::Mem => format!("mem:who-is-let-in-{}", number()),
        };
        let server = lab.serve_with(&address, |server| {
            let operator = || auth::Caller::new("ada").with_role("operator");
            let with_policy = |server: ServerBuilder, roles: Roles| {
                let server = server.policy(roles).allow(auth::TERMINATE, ["operator"]);
                server.allow("lab.v1.Lab", ["operator"])
            };
            let tokens = || BearerTokens::fixed([(TOKEN, operator())]);
            let server = match self.rule {
                Rule::ConnectionTokens | Rule::CallTokens => server.layer(tokens()),
                Rule::TokenRoles => with_policy(server.layer(tokens()), Roles::new()),
                Rule::Roles => {
                    let of_peer = move |peer: &Peer| {
                        let id = peer.certificate().and_then(|found| found.spiffe_id());
                        (id == Some(CLIENT) || peer.is_same_user()).then(operator)
                    };
                    with_policy(server, Roles::new().callers(of_peer))
                }
                Rule::Default | Rule::Loopback | Rule::Custom | Rule::Disabled => {
                    server.terminate_policy(policy)
                }
            };
            match self.door {
                Door::Tls => server.tls(certificates.server()),
                Door::Mtls => server.tls(certificates.server_with_clients()),
                _ => server,
            }
        });
        let server = server.await;
        if let (Door::OpenUnix, Some(path)) = (self.door, address.strip_prefix("unix:")) {
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        }
        server
    }

    /// Opens the caller's way to `server`.
    async fn road(&self, server: &Running, shown: &Shown, certificates: &Certificates) -> Road {
        let address = loopback(&server.address);
        let spoil = match &shown.proof {
            Proof::Spoiled(spoil) | Proof::Stolen(spoil) => Some(spoil.clone()),
            Proof::Own | Proof::Made(_) => None,
        };
        if self.way == Way::Direct && spoil.is_none() {
            return Road {
                address,
                _proxy: None,
            };
        }
        let (scheme, place) = address.split_once(':').unwrap();
        let place = place.trim_start_matches("//").to_owned();
        let outward = match (self.way, scheme) {
            (_, "unix") => Outward::Unix(place.into()),
            (Way::Tunnel, _) | (_, "tcp") => Outward::Tcp(place),
            _ => Outward::Tls(place, certificates.connector()),
        };
        let (inward, scheme) = match (self.way, scheme) {
            (Way::Tunnel, "unix") => (Inward::Unix(socket()), "unix:"),
            (Way::Tunnel, "tls") => (Inward::Tcp, "tls://"),
            (Way::TlsProxy, _) | (Way::Direct, "tls") => (Inward::Tls(certificates.acceptor()), "tls://"),
            (Way::Converter, "unix") | (Way::Direct | Way::Tunnel, _) => (Inward::Tcp, "tcp://"),
            (Way::Converter, _) => (Inward::Unix(socket()), "unix:"),
        };
        let proxy = Proxy::open(inward, outward, spoil).await;
        Road {
            address: format!("{scheme}{}", proxy.place),
            _proxy: Some(proxy),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asks,
            door,
            rule,
            way,
            caller,
            cell,
        } = self;
        write!(
            f,
            "{asks:?} at {door:?} with {rule:?}, {way:?}, {caller:?}: expected {:?}, because {}",
            cell.expected, cell.because
        )
    }
}

/// Where a caller connects to, and what lies between there and the server.
struct Road {
    address: String,
    _proxy: Option<Proxy>,
}

/// Returns the path of a socket that is not there yet.
fn socket() -> PathBuf {
    env::temp_dir().join(format!("rpc-{}-let-in-{}.sock", std::process::id(), number()))
}

/// Returns a number that no other part of this process gets.
fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
