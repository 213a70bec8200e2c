//! Handlers of nested messages.

use rpc_runtime::{
    Context, Requests, Result, Stream,
    codegen::prost_types::{FileDescriptorSet, Struct, Value, value::Kind},
    stream,
};

use crate::acme::trees::{Forest, Garden, Levels, Node, Tree};

/// Returns its request, or a new tree of the requested height.
#[derive(Clone, Copy, Debug)]
pub struct Gardener;

/// Makes a tree with `levels` levels below its root.
pub fn tree(levels: u32) -> Tree {
    (0..levels).fold(Tree::default(), |tree, _| Tree {
        left: Some(Box::new(tree)),
        ..Tree::default()
    })
}

impl Forest for Gardener {
    async fn rpc_grow(&self, _: &Context, request: Tree) -> Result<Tree> {
        Ok(request)
    }
    async fn rpc_plant(&self, _: &Context, request: Garden) -> Result<Garden> {
        Ok(request)
    }
    async fn rpc_node(&self, _: &Context, request: Node) -> Result<Node> {
        Ok(request)
    }
    async fn rpc_json(&self, _: &Context, request: Struct) -> Result<Value> {
        let kind = Some(Kind::StructValue(request));
        Ok(Value { kind })
    }
    async fn rpc_schema(&self, _: &Context, request: FileDescriptorSet) -> Result<FileDescriptorSet> {
        Ok(request)
    }
    async fn rpc_make(&self, _: &Context, request: Levels) -> Result<Tree> {
        Ok(tree(request.levels))
    }
    async fn rpc_walk(
        &self,
        _: &Context,
        request: Levels,
    ) -> Result<impl Stream<Item = Result<Tree>> + Send> {
        Ok(stream(async move |out| {
            for levels in [0, request.levels, 0] {
                out.send(tree(levels)).await;
            }
            Ok(())
        }))
    }
    async fn rpc_collect(&self, _: &Context, mut requests: Requests<Tree>) -> Result<Levels> {
        let mut levels = 0;
        while requests.message().await?.is_some() {
            levels += 1;
        }
        Ok(Levels { levels })
    }
    async fn rpc_echo(
        &self,
        _: &Context,
        requests: Requests<Tree>,
    ) -> Result<impl Stream<Item = Result<Tree>> + Send> {
        Ok(requests)
    }
}
