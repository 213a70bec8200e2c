//! Certificates that are refused: each with a typed error at both ends that says why.

use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair,
    NameConstraints, SanType, date_time_ymd,
};
use rpc_runtime::{
    Code, Executed,
    tls::{ClientTls, Identity, Roots, ServerTls, TlsFault},
};
use test_support::{Logged, lab::ECHO, text};

use super::{
    certs::{Ca, Leaf, Side, World, key_pem, leaf_params},
    connect, counted, fault, serve,
};

/// What is wrong: the certificate that one side shows, and what the other side trusts.
struct Wrong {
    identity: Option<Identity>,
    roots: Option<Roots>,
    name: Option<&'static str>,
}

impl Wrong {
    fn leaf(leaf: &Leaf) -> Self {
        Self {
            identity: Some(leaf.identity()),
            roots: None,
            name: None,
        }
    }

    /// A certificate as good ones are, but for `change`.
    fn changed(world: &World, side: Side, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        Self::leaf(&world.root.leaf(side, change))
    }

    /// A good certificate that the other side does not trust, because of `roots`.
    fn trusting(roots: Roots) -> Self {
        Self {
            identity: None,
            roots: Some(roots),
            name: None,
        }
    }
}

/// A fault: who can have it, what is wrong, what the refusing side finds, and what the alert tells the other one.
struct Fault {
    name: &'static str,
    sides: &'static [Side],
    wrong: fn(&World, Side) -> Wrong,
    found: TlsFault,
    told: TlsFault,
    /// A part of the text.
    says: &'static str,
}

const BOTH: &[Side] = &[Side::Server, Side::Client];
const SERVER: &[Side] = &[Side::Server];
const CLIENT: &[Side] = &[Side::Client];

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    Fault { name: "expired", sides: BOTH, found: TlsFault::Expired, told: TlsFault::Expired, says: "has expired",
        wrong: |world, side| Wrong::changed(world, side, |one| one.not_after = date_time_ymd(2020, 1, 1)) },
    Fault { name: "not yet valid", sides: BOTH, found: TlsFault::NotYetValid, told: TlsFault::Expired, says: "not yet",
        wrong: |world, side| Wrong::changed(world, side, |one| one.not_before = date_time_ymd(3000, 1, 1)) },
    Fault { name: "ends before it begins", sides: BOTH, found: TlsFault::Expired, told: TlsFault::Expired, says: "has expired",
        wrong: |world, side| Wrong::changed(world, side, |one| {
            one.not_before = date_time_ymd(3000, 1, 1);
            one.not_after = date_time_ymd(2020, 1, 1);
        }) },
    Fault { name: "another host", sides: SERVER, found: TlsFault::WrongName, told: TlsFault::BadCertificate, says: "is not for \"kv.test\" but for",
        wrong: |world, side| Wrong::changed(world, side, |one| one.subject_alt_names = vec![SanType::DnsName("kv.other".try_into().unwrap())]) },
    Fault { name: "a wildcard for two labels", sides: SERVER, found: TlsFault::WrongName, told: TlsFault::BadCertificate, says: "is not for \"a.kv.test\"",
        wrong: |world, side| Wrong { name: Some("a.kv.test"), ..Wrong::changed(world, side, |one| one.subject_alt_names = vec![SanType::DnsName("*.test".try_into().unwrap())]) } },
    Fault { name: "an IP address that it does not have", sides: SERVER, found: TlsFault::WrongName, told: TlsFault::BadCertificate, says: "is not for \"192.0.2.1\"",
        wrong: |world, side| Wrong { name: Some("192.0.2.1"), ..Wrong::changed(world, side, |_| {}) } },
    Fault { name: "the host only as a common name", sides: SERVER, found: TlsFault::WrongName, told: TlsFault::BadCertificate, says: "is not for \"kv.test\"",
        wrong: |world, side| Wrong::changed(world, side, |one| {
            one.subject_alt_names.clear();
            one.distinguished_name.push(rcgen::DnType::CommonName, "kv.test");
        }) },
    Fault { name: "for the other side's use", sides: BOTH, found: TlsFault::WrongPurpose, told: TlsFault::WrongPurpose, says: "needs the extended key usage",
        wrong: |world, side| Wrong::changed(world, side, |one| one.extended_key_usages = vec![side.other().usage()]) },
    Fault { name: "for signing code", sides: BOTH, found: TlsFault::WrongPurpose, told: TlsFault::WrongPurpose, says: "needs the extended key usage",
        wrong: |world, side| Wrong::changed(world, side, |one| one.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]) },
    Fault { name: "of an unknown CA", sides: BOTH, found: TlsFault::UnknownIssuer, told: TlsFault::UnknownIssuer, says: "no CA that is trusted here",
        wrong: |_, side| Wrong::leaf(&Ca::root("nobody", |_| {}).leaf(side, |_| {})) },
    Fault { name: "of another CA with the same name", sides: BOTH, found: TlsFault::BadSignature, told: TlsFault::BadSignature, says: "a signature",
        wrong: |_, side| Wrong::leaf(&Ca::root("root", |_| {}).leaf(side, |_| {})) },
    Fault { name: "signed by itself", sides: BOTH, found: TlsFault::UnknownIssuer, told: TlsFault::UnknownIssuer, says: "no CA that is trusted here",
        wrong: |_, side| {
            let key = KeyPair::generate().unwrap();
            let certificate = leaf_params(side).self_signed(&key).unwrap();
            Wrong::leaf(&Leaf { chain: vec![certificate.der().to_vec()], key: key_pem(&key) })
        } },
    Fault { name: "revoked", sides: BOTH, found: TlsFault::Revoked, told: TlsFault::Revoked, says: "has been revoked",
        wrong: |world, _| Wrong::trusting(world.root.roots().with_crl(world.root.crl(&[7], |_| {}))) },
    Fault { name: "with a CA that is revoked", sides: BOTH, found: TlsFault::Revoked, told: TlsFault::Revoked, says: "has been revoked",
        wrong: |world, side| {
            let below = world.root.below("below", |one| one.serial_number = Some(rcgen::SerialNumber::from_slice(&[9])));
            let roots = world.root.roots().with_crl(world.root.crl(&[9], |_| {})).with_crl(below.crl(&[], |_| {}));
            Wrong { roots: Some(roots), ..Wrong::leaf(&below.leaf(side, |_| {})) }
        } },
    Fault { name: "covered by an expired list", sides: BOTH, found: TlsFault::RevocationUnknown, told: TlsFault::UnknownIssuer, says: "has expired: publish",
        wrong: |world, _| {
            let crl = world.root.crl(&[], |list| list.next_update = date_time_ymd(2021, 1, 1));
            Wrong::trusting(world.root.roots().with_crl(crl))
        } },
    Fault { name: "covered by no list", sides: BOTH, found: TlsFault::RevocationUnknown, told: TlsFault::UnknownIssuer, says: "no revocation list covers",
        wrong: |world, _| Wrong::trusting(world.root.roots().with_crl(Ca::root("other", |_| {}).crl(&[], |_| {}))) },
    Fault { name: "covered by a forged list", sides: BOTH, found: TlsFault::RevocationUnknown, told: TlsFault::Other, says: "a list of revoked certificates cannot be used",
        wrong: |world, _| Wrong::trusting(world.root.roots().with_crl(Ca::root("root", |_| {}).crl(&[], |_| {}))) },
    Fault { name: "without its intermediate", sides: BOTH, found: TlsFault::UnknownIssuer, told: TlsFault::UnknownIssuer, says: "send its whole chain",
        wrong: |world, side| {
            let mut leaf = world.root.below("below", |_| {}).leaf(side, |_| {});
            leaf.chain.truncate(1);
            Wrong::leaf(&leaf)
        } },
    Fault { name: "with the wrong intermediate", sides: BOTH, found: TlsFault::UnknownIssuer, told: TlsFault::UnknownIssuer, says: "no CA that is trusted here",
        wrong: |world, side| {
            let mut leaf = world.root.below("below", |_| {}).leaf(side, |_| {});
            leaf.chain[1] = world.root.below("another", |_| {}).certificate;
            Wrong::leaf(&leaf)
        } },
    Fault { name: "with an expired intermediate", sides: BOTH, found: TlsFault::Expired, told: TlsFault::Expired, says: "has expired",
        wrong: |world, side| {
            let below = world.root.below("below", |one| one.not_after = date_time_ymd(2020, 1, 1));
            Wrong::leaf(&below.leaf(side, |_| {}))
        } },
    Fault { name: "that of a CA", sides: BOTH, found: TlsFault::CaAsLeaf, told: TlsFault::BadCertificate, says: "is that of a CA",
        wrong: |world, side| Wrong::changed(world, side, |one| one.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)) },
    Fault { name: "signed by a certificate that is no CA", sides: BOTH, found: TlsFault::BadChain, told: TlsFault::BadCertificate, says: "may not sign",
        wrong: |world, side| Wrong::leaf(&world.root.below("no CA", |one| one.is_ca = IsCa::ExplicitNoCa).leaf(side, |_| {})) },
    Fault { name: "below a CA that may have none below", sides: BOTH, found: TlsFault::BadChain, told: TlsFault::BadCertificate, says: "may not sign",
        wrong: |world, side| {
            let last = world.root.below("last", |one| one.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
            Wrong::leaf(&last.below("one more", |_| {}).leaf(side, |_| {}))
        } },
    Fault { name: "outside of the names of its CA", sides: BOTH, found: TlsFault::BadChain, told: TlsFault::BadCertificate, says: "may not sign",
        wrong: |world, side| {
            let below = world.root.below("below", |one| one.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName("other.test".to_owned())],
                excluded_subtrees: Vec::new(),
            }));
            Wrong::leaf(&below.leaf(side, |one| one.subject_alt_names = vec![SanType::DnsName("kv.test".try_into().unwrap())]))
        } },
    Fault { name: "with a damaged signature", sides: BOTH, found: TlsFault::BadSignature, told: TlsFault::BadSignature, says: "a signature",
        wrong: |world, side| {
            let mut leaf = world.root.leaf(side, |_| {});
            // The last byte of the signature's second number.
            *leaf.chain[0].last_mut().unwrap() ^= 1;
            Wrong::leaf(&leaf)
        } },
    Fault { name: "below a CA with a critical extension that nobody knows", sides: BOTH, found: TlsFault::BadCertificate, told: TlsFault::BadCertificate, says: "is refused",
        wrong: |world, side| {
            let below = world.root.below("below", |one| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                unknown.set_criticality(true);
                one.custom_extensions = vec![unknown];
            });
            Wrong::leaf(&below.leaf(side, |_| {}))
        } },
    Fault { name: "signed with SHA-1", sides: BOTH, found: TlsFault::UnsupportedSignature, told: TlsFault::BadSignature, says: "not accepted",
        wrong: |_, side| weak(side, include_str!("weak/sha1-ca.pem"), include_str!("weak/sha1-server.pem"), include_str!("weak/sha1-client.pem")) },
    Fault { name: "signed by an RSA key of 1024 bits", sides: BOTH, found: TlsFault::BadSignature, told: TlsFault::BadSignature, says: "too short",
        wrong: |_, side| weak(side, include_str!("weak/rsa1024-ca.pem"), include_str!("weak/rsa1024-server.pem"), include_str!("weak/rsa1024-client.pem")) },
    Fault { name: "signed by another CA of the same name", sides: BOTH, found: TlsFault::BadSignature, told: TlsFault::BadSignature, says: "is wrong, its key is too short, or it is signed by another CA of the same name",
        wrong: |_, side| Wrong::leaf(&Ca::root("root", |_| {}).leaf(side, |_| {})) },
    Fault { name: "not there", sides: CLIENT, found: TlsFault::NoCertificate, told: TlsFault::NoCertificate, says: "one is required",
        wrong: |_, _| Wrong { identity: None, roots: None, name: None } },
];

/// A certificate that an old CA has signed, and that CA as the only one that is trusted.
fn weak(side: Side, ca: &str, server: &str, client: &str) -> Wrong {
    let leaf = match side {
        Side::Server => server,
        Side::Client => client,
    };
    Wrong {
        identity: Some(Identity::pem(leaf, include_str!("weak/leaf.key"))),
        roots: Some(Roots::pem(ca)),
        name: None,
    }
}

/// Lets one side have the fault. Returns what is wrong with what the two ends report; nothing if all is well.
async fn check(world: &World, side: Side, fault_of: &Fault) -> Option<String> {
    let wrong = (fault_of.wrong)(world, side);
    // The side with the fault trusts as always; the other one as the fault says.
    let trusted = |by: Side| match &wrong.roots {
        Some(roots) if side != by => roots.clone(),
        _ => world.root.roots(),
    };
    let shown = |by: Side, good: &Leaf| match &wrong.identity {
        Some(identity) if side == by => identity.clone(),
        _ => good.identity(),
    };
    let server_tls =
        ServerTls::builder(shown(Side::Server, &world.server)).client_roots(trusted(Side::Server));
    let client_tls = ClientTls::builder()
        .roots(trusted(Side::Client))
        .server_name(wrong.name.unwrap_or(super::certs::SERVER));
    let client_tls = match fault_of.found {
        TlsFault::NoCertificate => client_tls,
        _ => client_tls.identity(shown(Side::Client, &world.client)),
    };

    let logged = Logged::here();
    let (_lab, server) = serve(server_tls.build().unwrap()).await;
    let Err(error) = connect(&server, client_tls.build().unwrap()).await else {
        return Some("nobody refuses it".to_owned());
    };
    counted(&server.handle, |counters| counters.tls_handshakes_failed() == 1).await;
    let at_server = logged
        .picked("TLS handshake failed", &["fault", "text"])
        .join("; ");
    server.stop().await;

    let (at_client, text) = (fault(&error), error.to_string());
    let (found, refused) = (
        (fault_of.found, false),
        format!("{:?} the client ", fault_of.told),
    );
    let (client_is_right, server_is_right) = match side {
        Side::Server => (
            at_client == found && text.contains(fault_of.says),
            at_server.starts_with(&refused),
        ),
        Side::Client => (
            at_client == (fault_of.told, true) && text.contains(": the server "),
            at_server.starts_with(&format!("{:?} ", fault_of.found)) && at_server.contains(fault_of.says),
        ),
    };
    // An alert that does not name the certificate leaves the client in the dark.
    let code = match (side, fault_of.told) {
        (Side::Client, TlsFault::Other) => Code::Unavailable,
        _ => Code::Unauthenticated,
    };
    let is_right =
        client_is_right && server_is_right && (error.code(), error.executed()) == (code, Executed::No);
    (!is_right).then(|| format!("client: {at_client:?} {text}, server: {at_server}"))
}

#[tokio::test(crate = "test_support::gate")]
async fn bad_certificates_of_either_side_are_refused_by_typed_errors_at_both_ends() {
    let world = World::new();
    let mut wrong = Vec::new();
    let mut counts = [0, 0];
    for fault_of in FAULTS {
        for &side in fault_of.sides {
            counts[side as usize] += 1;
            if let Some(what) = check(&world, side, fault_of).await {
                wrong.push(format!("{side:?}, {}: {what}", fault_of.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(counts.iter().all(|&count| count >= 20), "{counts:?}");
}

#[tokio::test(crate = "test_support::gate")]
async fn good_certificates_pass_with_intermediates_and_revocation_lists() {
    let world = World::new();
    let below = world.root.below("below", |_| {});
    let roots = || {
        let lists = world.root.crl(&[1, 2], |_| {}) + &below.crl(&[3], |_| {});
        world.root.roots().with_crl(lists)
    };
    let server_tls = ServerTls::builder(below.leaf(Side::Server, |_| {}).identity()).client_roots(roots());
    let (_lab, server) = serve(server_tls.build().unwrap()).await;
    let client_tls = ClientTls::builder()
        .roots(roots())
        .identity(below.leaf(Side::Client, |_| {}).identity())
        .server_name(super::certs::SERVER);
    let client = connect(&server, client_tls.build().unwrap()).await.unwrap();
    assert_eq!(text(&client, &ECHO, "hello").await.unwrap(), "hello");
}

#[tokio::test(crate = "test_support::gate")]
async fn only_the_method_that_is_called_dangerous_accepts_any_certificate() {
    let world = World::new();
    let nobody =
        Ca::root("nobody", |_| {}).leaf(Side::Server, |one| one.not_after = date_time_ymd(2020, 1, 1));
    let (_lab, server) = serve(ServerTls::builder(nobody.identity()).build().unwrap()).await;
    let careful = world.client().build().unwrap();
    connect(&server, careful).await.unwrap_err();
    let by_default = ClientTls::builder().roots(world.root.roots()).build().unwrap();
    connect(&server, by_default).await.unwrap_err();
    let careless = ClientTls::builder().dangerous_any_certificate().build().unwrap();
    let client = connect(&server, careless).await.unwrap();
    assert_eq!(text(&client, &ECHO, "hello").await.unwrap(), "hello");
}
