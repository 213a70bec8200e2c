//! What a terminate sends, and to which connection.

use prost::Message;

use super::*;
use crate::{
    DrainReport, Executed,
    message::control::{TERMINATE, TerminateRequest},
    net::KeyFile,
};

fn terminate(client: &Client) -> JoinHandle<Result<DrainReport, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.terminate().await })
}

/// The terminate that has arrived, which is refused.
async fn refused(far: &Far) -> TerminateRequest {
    let arrived = far.request().await;
    assert_eq!(arrived.procedure, TERMINATE.id());
    far.refuse(arrived.id, Code::PermissionDenied);
    TerminateRequest::decode(arrived.payload.decompress().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_terminate_waits_for_the_hello_and_names_its_instance() {
    let hand = Hand::new("mem:terminate-hello").await;
    let client = Client::connect_lazy("mem:terminate-hello");
    let pending = terminate(&client);
    let far = hand.accept_as(b"one", b"", |_| {}).await;
    assert_eq!(refused(&far).await.instance_id, b"one"[..]);
    within(pending).await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_terminate_that_was_turned_away_is_made_anew_for_the_next_server() {
    let hand = Hand::new("mem:terminate-away").await;
    let client = Client::connect_lazy("mem:terminate-away");
    let pending = terminate(&client);
    let _gone = hand.accept_as(b"one", b"", Far::go).await;
    let far = hand.accept_as(b"two", b"", |_| {}).await;
    assert_eq!(refused(&far).await.instance_id, b"two"[..]);
    within(pending).await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_terminate_of_a_server_that_says_no_hello_is_not_executed() {
    let hand = Hand::new("mem:terminate-mute").await;
    let client = Client::connect_lazy("mem:terminate-mute");
    let timed = client.call().timeout(Some(Duration::from_secs(1)));
    let (result, _mute) = within(async { tokio::join!(timed.terminate(), hand.0.accept()) }).await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::DeadlineExceeded, Executed::No),
        "{error}"
    );
    assert!(
        error
            .message()
            .contains("has not said HELLO yet, so it hangs, has its ServerBuilder::max_connections"),
        "{error}"
    );
}

#[tokio::test]
async fn a_proof_is_made_for_the_challenge_of_the_connection() {
    let instance: [u8; 16] = fastrand::u128(..).to_be_bytes();
    let key = KeyFile::create(instance).unwrap();
    let hand = Hand::new("tcp://127.0.0.1:0").await;
    let (id, address) = (instance.to_vec(), hand.0.address().to_owned());
    for challenge in [[1; 16], [2; 16]] {
        let client = Client::connect_lazy(&address);
        let pending = terminate(&client);
        let far = hand.accept_as(&id, &challenge, |_| {}).await;
        let request = refused(&far).await;
        assert!(key.key().accepts(&request.proof, instance, challenge));
        let error = within(pending).await.unwrap().unwrap_err();
        assert!(!error.message().contains("has no key"), "{error}");
    }
    let elsewhere = Hand::new("mem:terminate-elsewhere").await;
    let client = Client::connect_lazy("mem:terminate-elsewhere");
    let pending = terminate(&client);
    let far = elsewhere.accept_as(&id, &[1; 16], |_| {}).await;
    assert!(refused(&far).await.proof.is_empty(), "it is for loopback only");
    within(pending).await.unwrap().unwrap_err();
    drop(key);
    // A name of another length is no name of a file, whatever is in it.
    for (id, challenge) in [
        (&id[..], &[1; 16][..]),
        (&id[..15], &[1; 16]),
        (b"../../../../etc/", &[1; 16]),
        (&id, &[1; 15]),
    ] {
        let client = Client::connect_lazy(&address);
        let pending = terminate(&client);
        let far = hand.accept_as(id, challenge, |_| {}).await;
        assert!(refused(&far).await.proof.is_empty());
        within(pending).await.unwrap().unwrap_err();
    }
}
