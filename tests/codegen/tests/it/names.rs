//! Names that clash in Rust, and the items that give way.

use codegen_tests::{
    Rooted, RootsClient, RootsServer,
    acme::{
        merge::{
            A, Cluster,
            a::{
                B, Other,
                b::{C, d::Deep},
            },
            cluster::{Checks, ChecksClient, ChecksServer, Inner, Of, Outlier},
        },
        names::services::{
            Msg, MsgClient, MsgClient_, MsgSend, MsgSendRecv, MsgServer_, T, T_, TClient, TSend, TServer,
        },
    },
    rooted,
    rpc::{Agent, AgentClient, AgentServer},
};
use rpc_runtime::{Context, Result, Stream};

struct Bank;

impl Msg for Bank {
    async fn rpc_send(&self, _: &Context, request: MsgSend) -> Result<MsgClient> {
        assert_eq!(request.to, "Ada");
        Ok(MsgClient::default())
    }
    async fn rpc_watch(
        &self,
        _: &Context,
        send: MsgSend,
    ) -> Result<impl Stream<Item = Result<MsgSendRecv>> + Send> {
        Ok(rpc_runtime::stream(async move |out| {
            out.send(MsgSendRecv { send: Some(send) }).await;
            Ok(())
        }))
    }
}

#[tokio::test]
async fn generated_types_give_way_to_messages() {
    let client = MsgClient_::in_process(MsgServer_::new(Bank));
    assert_eq!(
        client.send_recv().send("Ada").await.expect("a reply"),
        MsgClient::default()
    );
    client.send().send("Ada").await.expect("it is sent");
    client.close().await.expect("it ends well");
}

#[tokio::test]
async fn a_trait_gives_way_to_a_message() {
    struct Echo;
    impl T_ for Echo {
        async fn rpc_get(&self, _: &Context, t: T) -> Result<TSend> {
            Ok(TSend { t: Some(t) })
        }
    }
    let client = TClient::in_process(TServer::new(Echo));
    let reply = client.send_recv().get(T::default()).await.expect("a reply");
    assert_eq!(reply.t, Some(T::default()));
}

#[tokio::test]
async fn a_package_and_the_inside_of_a_message_are_one_module() {
    struct Checker;
    impl Checks for Checker {
        async fn rpc_check(&self, _: &Context, cluster: Cluster) -> Result<Inner> {
            match cluster.of {
                Some(Of::Inner(inner)) => Ok(inner),
                _ => Ok(Inner::default()),
            }
        }
    }
    let inner = Inner { name: "a".into() };
    let cluster = Cluster {
        outlier: Some(Outlier::default()),
        of: Some(Of::Inner(inner.clone())),
    };
    let client = ChecksClient::in_process(ChecksServer::new(Checker));
    assert_eq!(client.send_recv().check(cluster).await.expect("a reply"), inner);
    // Three levels deep, through a module that is no package itself.
    let c = C {
        a: Some(Box::new(A::default())),
        b: None,
    };
    let deep = Deep {
        b: Some(B { c: Some(Box::new(c)) }),
        other: Some(Other {}),
    };
    assert!(deep.b.is_some());
}

#[tokio::test]
async fn a_message_without_a_package_shares_its_module_with_a_package() {
    struct Answer;
    impl codegen_tests::Roots for Answer {
        async fn rpc_get(&self, _: &Context, inner: rooted::Inner) -> Result<Rooted> {
            Ok(Rooted {
                inner: Some(Box::new(inner)),
                branch: Some(rooted::Branch::default()),
            })
        }
    }
    let client = RootsClient::in_process(RootsServer::new(Answer));
    let reply = client.send_recv().get(Rooted::default()).await.expect("a reply");
    assert_eq!(reply.branch, Some(rooted::Branch::default()));
}

#[tokio::test]
async fn package_rpc_is_a_package_as_any_other() {
    struct Room;
    impl Agent for Room {
        async fn rpc_join(&self, _: &Context, room: String) -> Result<String> {
            Ok(room)
        }
    }
    let client = AgentClient::in_process(AgentServer::new(Room));
    assert_eq!(client.send_recv().join("a").await.expect("a reply"), "a");
}

#[test]
fn a_file_below_google_protobuf_is_like_any_other() {
    use codegen_tests::acme::extra::{Extra, extra::Of};
    let extra = Extra {
        of: Some(Of::Name("a".into())),
    };
    assert!(extra.of.is_some());
}

#[test]
fn two_calls_of_a_build_script_are_included() {
    use codegen_tests::{acme::other::Other, more::More};
    let more = More {
        other: Some(Other::default()),
    };
    assert!(more.other.is_some());
}
