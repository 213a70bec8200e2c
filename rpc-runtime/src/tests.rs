//! Which public types may cross threads.

use crate::{client::*, codec::*, metadata::*, middleware::*, server::*, status::*, stream::*, *};

const fn shared<T: Send + Sync>() {}
const fn movable<T: Send + Sync + Unpin>() {}

/// The compiler checks it: a type that loses a trait fails the build of the tests.
#[test]
fn public_types_may_be_sent_shared_and_moved() {
    movable::<(Account, DropReason, Client, ClientBuilder, Call<'_>, Receipt)>();
    movable::<(ConnectionState, StateWatch)>();
    movable::<(
        Context,
        Counters,
        DrainReport,
        Incoming,
        Load,
        Peer,
        Procedure,
        Transport,
    )>();
    movable::<(Server, ServerBuilder, ServerHandle, TerminatePolicy)>();
    movable::<(Endpoint, ListeningSocket)>();
    movable::<(Code, Error, Executed, LostSends, Phase, Status)>();
    movable::<(Answer, ClientCall, FromFn<ClientCall, fn()>, Layered, ServerCall)>();
    movable::<(Next<ClientCall>, Next<ServerCall>)>();
    movable::<(Metadata, Iter<'_>, IntoIter)>();
    movable::<(CodecError, Flags, Frame, FrameCodec, FrameError, Greeting, Kind)>();
    movable::<(Limits, Open<Code>, Priority)>();
    movable::<(Requests<String>, Sender<String>, Out<String>)>();
    shared::<Box<dyn Service>>();
}

/// One task at a time polls a handler, and reads the replies of a call: their futures are not `Sync`.
#[test]
fn handlers_and_replies_may_be_sent_and_moved() {
    const fn sent<T: Send + Unpin>() {}
    sent::<(Handler, Reply<String>, Streaming<String>)>();
}
