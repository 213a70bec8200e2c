//! What the public types promise: to be sent to other threads, and to show no payloads and no metadata.

use super::*;
use crate::{
    Call, ClientBuilder, Reply, Sender, Streaming,
    client::{ConnectionState, Receipt, StateWatch, UnaryCall},
};

fn is_send<T: Send>() {}
fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn the_types_of_a_client_can_be_sent_to_other_threads() {
    is_send_and_sync::<Client>();
    is_send_and_sync::<ClientBuilder>();
    is_send_and_sync::<Call<'_>>();
    is_send_and_sync::<Receipt>();
    is_send_and_sync::<Sender<String>>();
    is_send_and_sync::<StateWatch>();
    is_send_and_sync::<ConnectionState>();
    // A future, or one inside: it is polled by one task at a time.
    is_send::<UnaryCall<'_, String, String>>();
    is_send::<Reply<String>>();
    is_send::<Streaming<String>>();
}

#[test]
fn debug_shows_no_payloads_and_no_metadata() {
    let client = Client::connect_lazy("mem:traits");
    let call = client.call().metadata("authorization", "secret");
    assert!(!format!("{call:?}").contains("secret"), "{call:?}");
    let call = call.send_recv::<_, Bytes>(&ECHO, Bytes::from_static(b"secret"));
    assert_eq!(
        format!("{call:?}"),
        format!("UnaryCall {{ procedure: {:?}, .. }}", ECHO.path())
    );
}
