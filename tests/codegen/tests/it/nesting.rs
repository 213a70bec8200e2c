//! A sender refuses messages that are nested too deep, before prost's recursive code sees them.

use std::{collections::HashMap, fmt, thread};

use codegen_tests::{
    acme::{
        common::v1::{Outer, outer::Inner},
        trees::{
            Bark, Box as TreeBox, ForestClient, ForestServer, Garden, Leaf, Link, Name, Node, Tree, bark,
            r#box::Lid, node, tree::Of,
        },
    },
    trees::{Gardener, tree},
};
use rpc_runtime::{
    Code, Error, Executed, Message,
    codegen::prost_types::{
        DescriptorProto, FileDescriptorProto, FileDescriptorSet, ListValue, Struct, Timestamp, Value,
        value::Kind,
    },
    status::Phase,
};

fn forest() -> ForestClient {
    ForestClient::in_process(ForestServer::new(Gardener))
}

/// Checks that this side refused the call because of its request.
#[track_caller]
fn refused(result: Result<impl fmt::Debug, Error>) {
    let error = result.unwrap_err();
    assert_eq!(
        (error.code(), error.executed(), error.phase()),
        (Code::InvalidArgument, Executed::No, Some(Phase::Queue)),
        "{error}"
    );
    assert!(
        error
            .message()
            .contains("nested more than 100 messages deep, at "),
        "{error}"
    );
}

fn named<T>(value: T) -> HashMap<String, T> {
    HashMap::from([(String::from("a"), value)])
}

/// Puts a tree into another tree.
type Wrap = fn(Tree) -> Tree;

/// Returns each way in which a tree can contain another tree.
fn ways() -> Vec<(&'static str, Wrap)> {
    macro_rules! ways {
        ($($name:literal $field:ident $value:expr),* $(,)?) => {
            vec![$(($name, |tree| Tree { $field: $value(tree), ..Tree::default() })),*]
        };
    }
    ways![
        "left" left (|tree| Some(Box::new(tree))),
        "right" right (|tree| Some(Box::new(tree))),
        "branches" branches (|tree| vec![Tree::default(), tree]),
        "named" named named,
        "inner" of (|tree| Some(Of::Inner(Box::new(tree)))),
        "bark" bark (|tree| Some(Box::new(Bark { inside: Some(bark::Inside::Tree(Box::new(tree))) }))),
    ]
}

/// Returns the possible innermost messages. Some have levels of their own.
fn bottoms() -> Vec<(&'static str, Tree)> {
    let leaf = || Leaf { color: "red".into() };
    let handle = || TreeBox {
        lid: Some(Lid {
            handle: Some(Inner::default()),
        }),
    };
    let json = || Value {
        kind: Some(Kind::ListValue(ListValue {
            values: vec![Value {
                kind: Some(Kind::BoolValue(true)),
            }],
        })),
    };
    macro_rules! bottoms {
        ($($name:literal $field:ident $value:expr),* $(,)?) => {
            vec![$(($name, Tree { $field: $value, ..Tree::default() })),*]
        };
    }
    bottoms![
        "nothing" left None,
        "a text" of Some(Of::Text("a".into())),
        "a leaf" leaf Some(leaf()),
        "an empty leaf" leaf Some(Leaf::default()),
        "leaves" leaves vec![leaf()],
        "a leaf of a oneof" of Some(Of::OneLeaf(leaf())),
        "leaves by number" numbered HashMap::from([(1, leaf())]),
        "an empty leaf by number" numbered HashMap::from([(1, Leaf::default())]),
        "notes" notes named(String::from("a")),
        "an empty box" r#box Some(TreeBox::default()),
        "a box" r#box Some(handle()),
        "a box with a lid" r#box Some(TreeBox { lid: Some(Lid::default()) }),
        "a box of a oneof" of Some(Of::Boxed(handle())),
        "boxes" boxes named(handle()),
        "empty boxes" boxes named(TreeBox::default()),
        "google's own without any in it" planted Some(Timestamp { seconds: 1, nanos: 0 }),
        "google's own" json Some(json()),
        "google's own of a oneof" of Some(Of::List(ListValue { values: vec![json()] })),
        "google's own by name" properties named(json()),
        "google's own by name, empty" properties named(Value::default()),
        "another package's" outer Some(Outer { inner: Some(Inner::default()) }),
    ]
}

#[tokio::test]
async fn the_deepest_readable_message_is_sent_and_a_deeper_one_is_refused() {
    let forest = forest();
    let (mut sent, mut kept) = (0, 0);
    for (way, wrap) in ways() {
        // The first way is tried with each innermost message, the others with some.
        let step = if way == "left" { 1 } else { 8 };
        for (bottom, mut tree) in bottoms().into_iter().step_by(step) {
            for level in 1..102 {
                tree = wrap(tree);
                // A way takes one level or two, so the limit is near one of these numbers.
                if !matches!(level, 1 | 47..=51 | 96..=101) {
                    continue;
                }
                let is_read = Tree::decode(&tree.encode_to_vec()[..]).is_ok();
                let result = forest.send_recv().grow(tree.clone()).await;
                if is_read {
                    assert_eq!(result.unwrap(), tree, "{level} times {way} around {bottom}");
                    sent += 1;
                } else {
                    refused(result);
                    kept += 1;
                }
            }
        }
    }
    assert!(sent > 100 && kept > 100, "{sent} were sent, {kept} were not");
}

#[tokio::test]
async fn requests_of_each_kind_are_checked_for_depth() {
    let forest = forest();
    let garden = |levels| Garden {
        name: "Eden".into(),
        trees: vec![Tree::default(), tree(levels)],
    };
    assert_eq!(forest.send_recv().plant(garden(99)).await.unwrap(), garden(99));
    refused(forest.send_recv().plant(garden(100)).await);
    // Groups and required fields.
    let name = || Name {
        text: Some("a".into()),
    };
    let mut nodes = vec![Node {
        name: name(),
        ..Node::default()
    }];
    for _ in 0..60 {
        let node = Some(nodes[nodes.len() - 1].clone());
        let sub = Node {
            name: name(),
            sub: Some(Box::new(node::Sub { node })),
            ..Node::default()
        };
        nodes.push(sub);
    }
    for node in nodes {
        let is_read = Node::decode(&node.encode_to_vec()[..]).is_ok();
        match forest.send_recv().node(node.clone()).await {
            Ok(same) => assert!(is_read && same == node),
            result => refused(result.map(|_| assert!(!is_read))),
        }
    }
    let mut many = vec![Node {
        name: name(),
        ..Node::default()
    }];
    for _ in 0..60 {
        let node = many[many.len() - 1].clone();
        let link = Link { node, name: name() };
        many.push(Node {
            name: name(),
            many: vec![node::Many { link }],
            ..Node::default()
        });
    }
    for node in many {
        let is_read = Node::decode(&node.encode_to_vec()[..]).is_ok();
        match forest.send_recv().node(node.clone()).await {
            Ok(same) => assert!(is_read && same == node),
            result => refused(result.map(|_| assert!(!is_read))),
        }
    }
    // Google's own types. The reply is one level deeper than the request.
    let mut object = Struct::default();
    for level in 1..60 {
        let kind = Some(Kind::StructValue(object));
        object = Struct {
            fields: [("a".into(), Value { kind })].into(),
        };
        let bytes = object.encode_to_vec();
        match forest.send_recv().json(object.clone()).await {
            Ok(value) => assert_eq!(value.kind, Some(Kind::StructValue(object.clone()))),
            Err(error) if error.code() == Code::Internal => {
                assert_eq!((level, error.executed()), (33, Executed::Yes))
            }
            result => refused(result.map(|_| assert!(Struct::decode(&bytes[..]).is_err()))),
        }
    }
    let mut message = DescriptorProto::default();
    for level in 1..110 {
        message = DescriptorProto {
            nested_type: vec![message],
            ..DescriptorProto::default()
        };
        let file = FileDescriptorProto {
            message_type: vec![message.clone()],
            ..FileDescriptorProto::default()
        };
        let set = FileDescriptorSet { file: vec![file] };
        let result = forest.send_recv().schema(set.clone()).await;
        if level <= 98 {
            assert_eq!(result.unwrap(), set);
        } else {
            refused(result);
        }
    }
    // One-way calls.
    forest.send().grow(tree(100)).await.unwrap();
    refused(forest.send().grow(tree(101)).await);
    assert_eq!(forest.barrier().await.unwrap().received(), 1);
}

#[tokio::test]
async fn a_message_of_a_stream_that_is_too_deep_ends_its_call() {
    let forest = forest();
    let (mut sender, reply) = forest.send_recv().collect().await.unwrap();
    sender.send(tree(100)).await.unwrap();
    let error = sender.send(tree(101)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::Maybe)
    );
    assert!(
        error
            .message()
            .contains("at acme.trees.Tree.left, and no peer reads deeper"),
        "{error}"
    );
    let error = reply.await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");

    let (mut sender, mut trees) = forest.send_recv().echo().await.unwrap();
    sender.send(tree(100)).await.unwrap();
    assert_eq!(trees.message().await.unwrap(), Some(tree(100)));
    sender.send(tree(101)).await.unwrap_err();
    assert_eq!(trees.message().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_reply_that_is_too_deep_is_internal_and_says_where() {
    let forest = forest();
    assert_eq!(forest.send_recv().make(100).await.unwrap(), tree(100));
    let error = forest.send_recv().make(101).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes));
    assert_eq!(
        error.message(),
        "the reply of acme.trees.Forest/rpc_make cannot be sent: acme.trees.Tree is nested more than 100 messages deep, \
         at acme.trees.Tree.left, and no peer reads deeper"
    );
    let mut trees = forest.send_recv().walk(101).await.unwrap();
    assert_eq!(trees.message().await.unwrap(), Some(Tree::default()));
    let error = trees.message().await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Internal, Executed::Yes),
        "{error}"
    );
    let mut trees = forest.send_recv().walk(100).await.unwrap();
    for levels in [0, 100, 0] {
        assert_eq!(trees.message().await.unwrap(), Some(tree(levels)));
    }
    assert_eq!(trees.message().await.unwrap(), None);
}

/// Runs `test` on a thread with a stack of `bytes` bytes.
fn on_a_stack(bytes: usize, test: impl Future<Output = ()> + Send + 'static) {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    };
    let thread = thread::Builder::new().stack_size(bytes).spawn(run);
    thread.unwrap().join().unwrap();
}

async fn refuse_at_both_ends(levels: u32) {
    let forest = forest();
    refused(forest.send_recv().grow(tree(levels)).await);
    refused(forest.send().grow(tree(levels)).await);
    let (mut sender, _trees) = forest.send_recv().echo().await.unwrap();
    assert_eq!(
        sender.send(tree(levels)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let error = forest.send_recv().make(levels).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error}");
    // Both ends still work.
    assert_eq!(forest.send_recv().grow(tree(3)).await.unwrap(), tree(3));
}

#[test]
fn thousands_of_levels_overflow_no_stack() {
    // Dropping such a message recurses. It takes at most 1 KiB of stack per level in a debug build.
    on_a_stack(8 << 20, refuse_at_both_ends(8_000));
    on_a_stack(512 << 20, refuse_at_both_ends(100_000));
}
