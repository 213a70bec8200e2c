//! Handlers of requests with one field. Each replies with the text of that field.

use std::fmt;

use rpc_runtime::{Context, Result, Stream, stream};

use crate::acme::values::{
    All, Choice, Color, Count, Data, Empty, Flag, Itself, Loop, Map, MaybeColor, MaybeData, MaybeText,
    MoreValues, Pay, Ratio, Size, Text, Told, Two, Values, Wait, Wrapped,
};

/// Replies with the `Debug` text of the request's field.
#[derive(Clone, Copy, Debug)]
pub struct Teller;

fn told(value: impl fmt::Debug) -> Result<Told> {
    let told = format!("{value:?}");
    Ok(Told { told })
}

impl Values for Teller {
    async fn rpc_text(&self, _: &Context, request: Text) -> Result<Told> {
        told(request.text)
    }
    async fn rpc_text_again(&self, _: &Context, request: Text) -> Result<Told> {
        told(request.text)
    }
    async fn rpc_maybe_text(&self, _: &Context, request: MaybeText) -> Result<Told> {
        told(request.r#type)
    }
    async fn rpc_wrapped(&self, _: &Context, request: Wrapped) -> Result<Told> {
        told(request.text)
    }
    async fn rpc_data(&self, _: &Context, request: Data) -> Result<Told> {
        told(request.data)
    }
    async fn rpc_maybe_data(&self, _: &Context, request: MaybeData) -> Result<Told> {
        told(request.data)
    }
    async fn rpc_count(&self, _: &Context, request: Count) -> Result<Told> {
        told(request.count)
    }
    async fn rpc_ratio(&self, _: &Context, request: Ratio) -> Result<Told> {
        told(request.ratio)
    }
    async fn rpc_flag(&self, _: &Context, request: Flag) -> Result<Told> {
        told(request.flag)
    }
    async fn rpc_color(&self, _: &Context, request: Color) -> Result<Told> {
        told(request.color)
    }
    async fn rpc_maybe_color(&self, _: &Context, request: MaybeColor) -> Result<Told> {
        told(request.color)
    }
    async fn rpc_money(&self, _: &Context, request: Pay) -> Result<Told> {
        told(request.money.map(|money| money.units))
    }
    async fn rpc_wait(&self, _: &Context, request: Wait) -> Result<Told> {
        told(request.wait.map(|wait| wait.seconds))
    }
    async fn rpc_all(&self, _: &Context, request: All) -> Result<Told> {
        told(request.all)
    }
    async fn rpc_map(&self, _: &Context, request: Map) -> Result<Told> {
        told(request.map)
    }
    async fn rpc_loop(&self, _: &Context, request: Loop) -> Result<Told> {
        told(request.back.is_some())
    }
    async fn rpc_stream(
        &self,
        _: &Context,
        request: Text,
    ) -> Result<impl Stream<Item = Result<Told>> + Send> {
        Ok(stream(async move |out| {
            out.send(told(request.text)?).await;
            Ok(())
        }))
    }
    async fn rpc_size(&self, _: &Context, request: Size) -> Result<Told> {
        told(request.size)
    }
    async fn rpc_itself(&self, _: &Context, request: Itself) -> Result<Told> {
        told(request.itself.is_some())
    }
    async fn rpc_choice(&self, _: &Context, request: Choice) -> Result<Told> {
        told(request.choice.is_some())
    }
    async fn rpc_empty(&self, _: &Context, request: Empty) -> Result<Told> {
        told(request.empty)
    }
    async fn rpc_google(&self, _: &Context, request: String) -> Result<Told> {
        told(request)
    }
    async fn rpc_two(&self, _: &Context, request: Two) -> Result<Told> {
        told((request.one, request.two))
    }
}

impl MoreValues for Teller {
    async fn rpc_text(&self, _: &Context, request: Text) -> Result<Told> {
        told(request.text)
    }
}
