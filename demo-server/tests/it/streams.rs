//! The streams of the demo's store, for services that wrap one in a field `store`.

/// The procedures of `Kv` with streams, and the subscription: what the store in `self.store` does.
macro_rules! streams_of_the_store {
    () => {
        async fn rpc_watch(
            &self,
            cx: &rpc_runtime::Context,
            prefix: String,
        ) -> rpc_runtime::Result<
            impl rpc_runtime::Stream<Item = rpc_runtime::Result<demo_api::demo::kv::v1::WatchEvent>> + Send,
        > {
            self.store.rpc_watch(cx, prefix).await
        }

        async fn rpc_import(
            &self,
            cx: &rpc_runtime::Context,
            requests: rpc_runtime::Requests<demo_api::demo::kv::v1::UpdateRequest>,
        ) -> rpc_runtime::Result<u64> {
            self.store.rpc_import(cx, requests).await
        }

        async fn rpc_session(
            &self,
            cx: &rpc_runtime::Context,
            requests: rpc_runtime::Requests<demo_api::demo::kv::v1::Command>,
        ) -> rpc_runtime::Result<
            impl rpc_runtime::Stream<Item = rpc_runtime::Result<demo_api::demo::kv::v1::Answer>> + Send,
        > {
            self.store.rpc_session(cx, requests).await
        }

        async fn rpc_subscribe(&self, cx: &rpc_runtime::Context, prefix: String) -> rpc_runtime::Result<()> {
            self.store.rpc_subscribe(cx, prefix).await
        }
    };
}

pub(crate) use streams_of_the_store;
