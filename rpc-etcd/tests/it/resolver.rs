//! The resolver: what it finds, and what it keeps when etcd fails.

use rpc_runtime::{
    Code,
    discover::{Endpoint, Following},
};
use test_support::{until, within};

use crate::fake::{Fake, builder, endpoint};

fn plain(address: &str) -> String {
    format!(r#"{{"Op":0,"Addr":"{address}","Metadata":null}}"#)
}

/// Waits until the set has these addresses, and returns all sets on the way. Errors on the way are counted.
async fn until_found(following: &mut Following, addresses: &[&str]) -> (Vec<Vec<String>>, usize) {
    within(async {
        let (mut sets, mut errors) = (Vec::new(), 0);
        loop {
            match following.next().await {
                Ok(set) => {
                    let mut set: Vec<_> = set.iter().map(|one| one.address().to_owned()).collect();
                    set.sort();
                    sets.push(set);
                }
                Err(_) => errors += 1,
            }
            if sets.last().is_some_and(|set| set == addresses) {
                return (sets, errors);
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_servers_of_a_service_are_found_and_followed() {
    let fake = Fake::new();
    fake.put("orders/a", &plain("h:1"));
    fake.put(
        "orders/b/deep",
        r#"{"Op":0,"Addr":"h:2","Metadata":{"weight":2,"zone":"z","version":7}}"#,
    );
    fake.put("orders/bad", "no JSON");
    fake.put("orders-2/a", &plain("h:3"));
    let server = fake.start().await;
    let etcd = builder(&server).build().unwrap();
    let mut following = Following::new(etcd.resolver("orders"));

    let second = Endpoint::new("h:2")
        .with_weight(2)
        .with_zone("z")
        .with_metadata("version", "7");
    // The one that was registered last comes first.
    assert_eq!(
        within(following.next()).await.unwrap(),
        [second, Endpoint::new("h:1")]
    );
    // In the order of etcd's changes: nothing of another service, and nothing unreadable, is news.
    fake.put("orders-2/b", &plain("h:4"));
    fake.put("orders/worse", "{}");
    fake.put("orders/c", &plain("h:5"));
    assert_eq!(until_found(&mut following, &["h:1", "h:2", "h:5"]).await.1, 0);
    fake.delete("orders/a");
    assert_eq!(until_found(&mut following, &["h:2", "h:5"]).await.1, 0);
    fake.delete("orders/b/deep");
    fake.delete("orders/c");
    assert_eq!(until_found(&mut following, &[]).await.1, 0);
    drop(following);
    server.stop().await;
}

#[tokio::test]
async fn of_two_entries_of_one_address_the_newer_one_counts() {
    let fake = Fake::new();
    let weighing = |weight: u32| format!(r#"{{"Addr":"h:1","Metadata":{{"weight":{weight}}}}}"#);
    fake.put("orders/b", &weighing(2));
    fake.put("orders/a", &weighing(3));
    fake.put("orders/c", &weighing(4));
    fake.put("orders/a", &weighing(5));
    let server = fake.start().await;
    let etcd = builder(&server).build().unwrap();
    let mut following = Following::new(etcd.resolver("orders"));
    let set = within(following.next()).await.unwrap();
    assert_eq!(set, [Endpoint::new("h:1").with_weight(5)]);
    drop(following);
    server.stop().await;
}

#[tokio::test]
async fn a_compaction_makes_it_read_again_at_once() {
    let fake = Fake::new();
    fake.put("orders/a", &plain("h:1"));
    fake.compact_after_next_range("orders/b", &plain("h:2"));
    let server = fake.start().await;
    let etcd = builder(&server).build().unwrap();
    let mut following = Following::new(etcd.resolver("orders"));
    let (sets, errors) = until_found(&mut following, &["h:1", "h:2"]).await;
    assert_eq!((sets.len(), errors), (2, 0), "{sets:?}");
    drop(following);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_that_is_cut_never_empties_the_list() {
    let fake = Fake::new();
    fake.put("orders/a", &plain("h:1"));
    let server = fake.start().await;
    let etcd = builder(&server).build().unwrap();
    let mut following = Following::new(etcd.resolver("orders"));
    until_found(&mut following, &["h:1"]).await;
    let cut = async {
        until(|| fake.state().watches == 1).await;
        fake.cut_watches();
        until(|| fake.state().watches == 2).await;
        fake.put("orders/b", &plain("h:2"));
    };
    let (_, (sets, errors)) = tokio::join!(cut, until_found(&mut following, &["h:1", "h:2"]));
    assert_eq!(errors, 1);
    // After an error the same servers are told once more.
    assert!(sets.iter().all(|set| set.contains(&"h:1".to_owned())), "{sets:?}");
    drop(following);
    server.stop().await;
}

#[tokio::test]
async fn an_etcd_that_is_away_never_empties_the_list() {
    let fake = Fake::new();
    fake.put("orders/a", &plain("h:1"));
    let server = fake.start().await;
    let address = server.address.clone();
    let etcd = builder(&server).build().unwrap();
    let mut following = Following::new(etcd.resolver("orders"));
    until_found(&mut following, &["h:1"]).await;
    server.handle.abort();
    server.report().await;
    assert_eq!(
        within(following.next()).await.unwrap_err().code(),
        Code::Unavailable
    );
    fake.put("orders/b", &plain("h:2"));
    let server = fake.start_at(&address).await;
    let (sets, _) = until_found(&mut following, &["h:1", "h:2"]).await;
    assert_eq!(sets.len(), 1, "{sets:?}");
    drop(following);
    server.stop().await;
}

#[tokio::test]
async fn servers_that_etcd_has_lost_are_kept_beside_those_that_register_again() {
    let fake = Fake::new();
    fake.put("orders/a", &plain("h:1"));
    fake.put("orders/b", &plain("h:2"));
    let server = fake.start().await;
    let etcd = builder(&server).build().unwrap();
    let mut following = Following::new(etcd.resolver("orders"));
    until_found(&mut following, &["h:1", "h:2"]).await;
    let lose = async {
        until(|| fake.state().watches == 1).await;
        fake.lose_data();
        until(|| fake.state().watches == 1).await;
        // One comes back in another place.
        fake.put("orders/c", &plain("h:3"));
    };
    let (_, (sets, _)) = tokio::join!(lose, until_found(&mut following, &["h:1", "h:2", "h:3"]));
    let has_both = |set: &Vec<String>| {
        ["h:1", "h:2"]
            .iter()
            .all(|one| set.iter().any(|known| known == one))
    };
    assert!(sets.iter().all(has_both), "{sets:?}");
    // A server that says that it goes is gone.
    fake.put("orders/a", &plain("h:1"));
    fake.delete("orders/a");
    until_found(&mut following, &["h:2", "h:3"]).await;
    drop(following);
    server.stop().await;
}

#[tokio::test]
async fn another_member_is_asked_if_one_is_away() {
    let fake = Fake::new();
    fake.put("orders/a", &plain("h:1"));
    let server = fake.start().await;
    // Nobody listens at a port that was just given up.
    let away = Fake::new().start().await;
    let address = endpoint(&away);
    away.stop().await;
    let etcd = rpc_etcd::Etcd::builder()
        .endpoint(address)
        .endpoint(endpoint(&server));
    let mut following = Following::new(etcd.build().unwrap().resolver("orders"));
    assert_eq!(until_found(&mut following, &["h:1"]).await.1, 0);
    drop(following);
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_has_expired_is_replaced_on_both_texts_of_etcd() {
    let fake = Fake::new();
    fake.put("orders/a", &plain("h:1"));
    fake.expire_token();
    let server = fake.start().await;
    let etcd = builder(&server).user("me", "secret").build().unwrap();
    let mut following = Following::new(etcd.resolver("orders"));
    // The first call finds no token, so it asks for one.
    until_found(&mut following, &["h:1"]).await;
    let expire = async {
        until(|| fake.state().watches == 1).await;
        // The watch is told "permission denied", and calls "invalid auth token".
        fake.expire_token();
        until(|| fake.state().watches == 2).await;
        fake.put("orders/b", &plain("h:2"));
    };
    let (_, (sets, errors)) = tokio::join!(expire, until_found(&mut following, &["h:1", "h:2"]));
    assert_eq!((sets.len(), errors), (1, 0), "{sets:?}");

    // A call with the old token: the resolver of another service.
    fake.expire_token();
    let mut other = Following::new(etcd.resolver("others"));
    assert_eq!(within(other.next()).await.unwrap(), []);

    let wrong = builder(&server).user("me", "wrong").build().unwrap();
    let error = within(Following::new(wrong.resolver("orders")).next())
        .await
        .unwrap_err();
    assert!(error.message().contains("authentication failed"), "{error}");
    drop((following, other));
    server.stop().await;
}

#[tokio::test]
async fn a_resolver_of_no_service_says_so() {
    let etcd = rpc_etcd::Etcd::builder().endpoint("grpc://127.0.0.1:1");
    let mut following = Following::new(etcd.build().unwrap().resolver(""));
    assert_eq!(
        within(following.next()).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}
