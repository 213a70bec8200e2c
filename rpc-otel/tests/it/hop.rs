//! A service that calls another one in each way.

use rpc_runtime::{
    Client, Context, Result, Status,
    server::{Handler, Incoming, Procedure, Service},
    stream,
};

/// Calls the next server by `ECHO`, by `NOTE` one-way, and by `WATCH`. Fails if there is none.
pub(crate) static HOP: Procedure = Procedure::new("otel.v1.Hop/rpc_hop", 701);
static ECHO: Procedure = Procedure::new("otel.v1.Hop/rpc_echo", 702);
static NOTE: Procedure = Procedure::new("otel.v1.Hop/rpc_note", 703);
static WATCH: Procedure = Procedure::new("otel.v1.Hop/rpc_watch", 704).with_reply_stream();
static PROCEDURES: [Procedure; 4] = [HOP, ECHO, NOTE, WATCH];

#[derive(Clone, Default)]
pub(crate) struct Hop(pub(crate) Option<Client>);

impl Hop {
    async fn hop(&self) -> Result<()> {
        let client = self
            .0
            .as_ref()
            .ok_or_else(|| Status::internal("there is no next server"))?;
        let _: String = client.call().send_recv(&ECHO, "dog".to_owned()).await?;
        client.call().send(&NOTE, ()).await?;
        let mut texts = client.call().reply_stream::<_, String>(&WATCH, ()).await?;
        while texts.message().await?.is_some() {}
        client.barrier().await?;
        Ok(())
    }
}

impl Service for Hop {
    fn name(&self) -> &'static str {
        "otel.v1.Hop"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let hop = self.clone();
        match index {
            0 => call.handle(move |_: Context, ()| async move { hop.hop().await }),
            1 => call.handle(|_: Context, text: String| async move { Ok(text) }),
            2 => call.handle(|_: Context, ()| async move { Ok(()) }),
            3 => call.handle_reply_stream(|_: Context, (), replies| async move {
                let texts = stream(async |out| {
                    out.send("one".to_owned()).await;
                    out.send("two".to_owned()).await;
                    Ok(())
                });
                replies.forward(texts).await
            }),
            _ => call.unknown(),
        }
    }
}
