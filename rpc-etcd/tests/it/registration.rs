//! Registrations: what etcd knows of a server that serves, that drains, and that etcd has lost.

use std::time::Duration;

use rpc_etcd::Registration;
use rpc_runtime::{Server, discover::Following};
use test_support::{Lab, Running, serve, until, within};

use crate::fake::{Fake, builder};

/// A short time, so that a test does not wait for long.
const TTL: Duration = Duration::from_secs(1);

async fn registered(registration: Registration) -> Running {
    let server = Server::builder()
        .service(Lab::default())
        .listener("tcp://127.0.0.1:0")
        .register(registration)
        .signals(false);
    serve(server).await
}

#[tokio::test]
async fn a_server_is_in_etcd_while_it_serves_and_goes_before_it_refuses_anybody() {
    let fake = Fake::new();
    let etcd_server = fake.start().await;
    let etcd = builder(&etcd_server).build().unwrap();
    let server = registered(etcd.registration("orders").weight(2).zone("a").ttl(TTL)).await;
    until(|| !fake.state().keys.is_empty()).await;
    let (key, value, lease) = fake.state().only();
    let place = server.address.strip_prefix("tcp://").unwrap();
    assert!(key.starts_with(&format!("orders/{place}/")), "{key}");
    assert_eq!(
        value,
        format!(r#"{{"Op":0,"Addr":"{place}","Metadata":{{"weight":2,"zone":"a"}}}}"#)
    );
    assert!(lease > 0);
    let found = within(Following::new(etcd.resolver("orders")).next())
        .await
        .unwrap();
    assert_eq!(
        (found[0].address(), found[0].weight(), found[0].zone()),
        (place, 2, Some("a"))
    );
    // It stays: the lease is renewed.
    until(|| fake.state().renewals >= 3).await;
    assert_eq!(fake.state().only().2, lease);

    fake.state().has_to_serve = Some(server.address.clone());
    let report = server.stop().await;
    assert!(report.is_clean(), "{report}");
    {
        let state = fake.state();
        assert!(
            state.keys.is_empty() && state.leases.is_empty(),
            "{:?}",
            state.keys
        );
        // The server still took a call then.
        assert_eq!(
            state.log,
            [format!("put {key}"), "pinged".to_owned(), format!("delete {key}")]
        );
    }
    etcd_server.stop().await;
}

#[tokio::test]
async fn a_server_whose_lease_has_expired_registers_again() {
    let fake = Fake::new();
    let etcd_server = fake.start().await;
    let etcd = builder(&etcd_server).build().unwrap();
    let server = registered(etcd.registration("orders").ttl(TTL)).await;
    until(|| !fake.state().keys.is_empty()).await;
    let (key, _, lease) = fake.state().only();
    fake.expire_leases();
    assert!(fake.state().keys.is_empty());
    until(|| !fake.state().keys.is_empty()).await;
    let (new_key, _, new_lease) = fake.state().only();
    assert_eq!(new_key, key);
    assert_ne!(new_lease, lease);
    // The first answer was enough.
    assert_eq!(fake.state().late_renewals, 1);
    server.stop().await;
    assert!(fake.state().keys.is_empty());
    etcd_server.stop().await;
}

#[tokio::test]
async fn a_key_that_is_gone_or_has_another_lease_is_set_again() {
    let fake = Fake::new();
    let etcd_server = fake.start().await;
    let etcd = builder(&etcd_server).build().unwrap();
    let server = registered(etcd.registration("orders").ttl(TTL)).await;
    until(|| !fake.state().keys.is_empty()).await;
    let (key, value, lease) = fake.state().only();
    fake.delete(&key);
    until(|| !fake.state().keys.is_empty()).await;
    assert_eq!(fake.state().only(), (key.clone(), value.clone(), lease));
    // Somebody else sets it, without a lease.
    fake.put(&key, "something else");
    until(|| fake.state().only().2 == lease).await;
    assert_eq!(fake.state().only(), (key, value, lease));
    server.stop().await;
    etcd_server.stop().await;
}

#[tokio::test]
async fn a_server_registers_again_with_an_etcd_that_has_lost_its_data() {
    let fake = Fake::new();
    let etcd_server = fake.start().await;
    let address = etcd_server.address.clone();
    let etcd = builder(&etcd_server).build().unwrap();
    let server = registered(etcd.registration("orders").ttl(TTL)).await;
    until(|| !fake.state().keys.is_empty()).await;
    etcd_server.handle.abort();
    etcd_server.report().await;
    fake.lose_data();
    let etcd_server = fake.start_at(&address).await;
    until(|| !fake.state().keys.is_empty()).await;
    server.stop().await;
    assert!(fake.state().keys.is_empty());
    etcd_server.stop().await;
}

#[tokio::test]
async fn a_server_that_begins_while_etcd_is_away_registers_later() {
    let fake = Fake::new();
    let etcd_server = fake.start().await;
    let address = etcd_server.address.clone();
    let etcd = builder(&etcd_server).build().unwrap();
    etcd_server.stop().await;
    let server = registered(etcd.registration("orders").ttl(TTL)).await;
    // It serves meanwhile.
    within(server.client().await.ping()).await.unwrap();
    let etcd_server = fake.start_at(&address).await;
    until(|| !fake.state().keys.is_empty()).await;
    server.stop().await;
    etcd_server.stop().await;
}

#[tokio::test]
async fn an_etcd_that_is_away_does_not_keep_a_server_from_draining() {
    let fake = Fake::new();
    let etcd_server = fake.start().await;
    let etcd = builder(&etcd_server).build().unwrap();
    let server = registered(etcd.registration("orders").ttl(TTL)).await;
    until(|| !fake.state().keys.is_empty()).await;
    etcd_server.handle.abort();
    etcd_server.report().await;
    // rpc-runtime's tests measure in virtual time that this takes 2 s.
    let report = server.stop().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn two_servers_of_one_address_do_not_take_each_other_out() {
    let fake = Fake::new();
    let etcd_server = fake.start().await;
    let etcd = builder(&etcd_server).build().unwrap();
    let at = |name: &str| etcd.registration("orders").address(name).ttl(TTL);
    let (old, new) = (registered(at("h:1")).await, registered(at("h:1")).await);
    until(|| fake.state().keys.len() == 2).await;
    old.stop().await;
    let (_, value, _) = fake.state().only();
    assert_eq!(value, r#"{"Op":0,"Addr":"h:1","Metadata":null}"#);
    new.stop().await;
    assert!(fake.state().keys.is_empty());
    etcd_server.stop().await;
}
