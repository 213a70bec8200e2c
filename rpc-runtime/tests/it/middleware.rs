//! Middleware: code of users around calls, on both sides.

mod client;
mod server;
#[cfg(feature = "tower")]
mod tower;

use rpc_runtime::middleware::{Answer, AnyCall, Middleware, Next};
use test_support::Lab;

/// Notes each call in the lab's log when it begins and when it ends, for both sides.
struct Noting(&'static str, Lab);

impl<C: AnyCall> Middleware<C> for Noting {
    async fn handle(&self, call: C, next: Next<C>) -> Result<Answer, C::Error> {
        let Self(name, lab) = self;
        let procedure = call.procedure().rsplit('/').next().unwrap_or_default();
        lab.note(format!("{name}: {procedure} begins"));
        let result = next.run(call).await;
        match &result {
            Ok(_) => lab.note(format!("{name}: {procedure} ends")),
            Err(error) => lab.note(format!("{name}: {procedure} fails: {error}")),
        }
        result
    }
}

/// Notes in the lab's log when it is dropped.
struct NoteDrop(&'static str, Lab);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        self.1.note(self.0);
    }
}
