//! Handlers of the odd services. The test is that their signatures compile.

use std::{collections::HashMap, sync::Arc};

use rpc_runtime::{
    Bytes, Context, Open, Result,
    codegen::prost_types::{Any, Duration, NullValue, Struct, Timestamp},
};

use crate::{
    Corpus, Legacy,
    acme::{
        common::v1::{Color, Ledger, Money, Outer, outer::Inner},
        shop::v1::{
            Choice, Many, NoFields, Numbers, Option as OptionMessage, Orders, Result as ResultMessage, Size,
            Stock, T, Tree,
        },
    },
    search_request,
};

/// Returns its arguments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Orders for Echo {
    async fn rpc_noop(&self, _: &Context) -> Result<()> {
        Ok(())
    }
    async fn rpc_nothing(&self, _: &Context) -> Result<NoFields> {
        Ok(NoFields {})
    }
    async fn rpc_numbers(&self, _: &Context, a: i32, _: u64, _: f64, _: f32, _: bool, _: i32) -> Result<u32> {
        Ok(a.unsigned_abs())
    }
    async fn rpc_texts(&self, _: &Context, text: String, _: Bytes) -> Result<String> {
        Ok(text)
    }
    async fn rpc_options(
        &self,
        _: &Context,
        _: Option<String>,
        data: Option<Bytes>,
        _: Option<u32>,
    ) -> Result<Option<Bytes>> {
        Ok(data)
    }
    async fn rpc_enums(
        &self,
        _: &Context,
        color: Open<Color>,
        maybe: Option<Open<Color>>,
        _: Vec<i32>,
        _: String,
    ) -> Result<Open<Size>> {
        Ok(if maybe == Some(color) {
            Size::Big.into()
        } else {
            Size::Small.into()
        })
    }
    async fn rpc_maybe_enum(&self, _: &Context, size: Open<Size>) -> Result<Option<Open<Size>>> {
        Ok(Some(size))
    }
    async fn rpc_lists(
        &self,
        _: &Context,
        texts: Vec<String>,
        _: Vec<Bytes>,
        _: Vec<Money>,
        _: Vec<i32>,
    ) -> Result<Vec<String>> {
        Ok(texts)
    }
    async fn rpc_maps(
        &self,
        _: &Context,
        _: HashMap<String, Bytes>,
        _: HashMap<i32, Money>,
        _: HashMap<String, i32>,
    ) -> Result<HashMap<String, String>> {
        Ok(HashMap::new())
    }
    async fn rpc_messages(
        &self,
        _: &Context,
        money: Option<Money>,
        _: Option<Inner>,
        _: Option<Timestamp>,
        _: Option<Duration>,
        _: Option<String>,
        _: Option<Struct>,
        _: Open<NullValue>,
    ) -> Result<Option<Money>> {
        Ok(money)
    }
    async fn rpc_keywords(
        &self,
        _: &Context,
        r#type: String,
        _: bool,
        _: Bytes,
        _: u32,
        _: String,
        _: String,
    ) -> Result<String> {
        Ok(r#type)
    }
    async fn rpc_choice(&self, _: &Context, request: Choice) -> Result<Choice> {
        Ok(request)
    }
    async fn rpc_tree(&self, _: &Context, request: Tree) -> Result<Tree> {
        Ok(request)
    }
    async fn rpc_many(&self, _: &Context, request: Many) -> Result<Numbers> {
        Ok(Numbers {
            a: request.h,
            ..Numbers::default()
        })
    }
    async fn rpc_wrapped(&self, _: &Context, _: String) -> Result<Timestamp> {
        Ok(Timestamp::default())
    }
    async fn rpc_stock(&self, _: &Context, worth: Option<Money>, _: Open<Color>) -> Result<Money> {
        Ok(worth.unwrap_or_default())
    }
    async fn rpc_context(
        &self,
        _: &Context,
        cx_: String,
        _: String,
        _: String,
        _: String,
        _: String,
        _: String,
        _: String,
    ) -> Result<String> {
        Ok(cx_)
    }
    async fn rpc_old(&self, _: &Context, text: String) -> Result<String> {
        Ok(text)
    }
    async fn rpc_set_timeout(&self, _: &Context, _: u32) -> Result<()> {
        Ok(())
    }
    async fn rpc_add(&self, _: &Context, number: u32) -> Result<u32> {
        Ok(number)
    }
    async fn rpc_timeout(&self, _: &Context, _: u32) -> Result<()> {
        Ok(())
    }
    async fn rpc_terminate(&self, _: &Context) -> Result<()> {
        Ok(())
    }
    async fn rpc_type(&self, _: &Context, text: String, other: bool) -> Result<T> {
        Ok(T { text, other })
    }
    async fn rpc_result(&self, _: &Context, text: String, code: i32) -> Result<OptionMessage> {
        let _ = ResultMessage::default();
        Ok(OptionMessage { text, code })
    }
    async fn rpc_bytes_value(&self, _: &Context, value: Vec<u8>) -> Result<Any> {
        Ok(Any {
            type_url: String::new(),
            value,
        })
    }
}

impl crate::acme::shop::v1::Into for Echo {
    async fn rpc_get(&self, _: &Context, request: Stock) -> Result<Stock> {
        Ok(request)
    }
}

impl Ledger for Echo {
    async fn rpc_book(&self, _: &Context, request: Money) -> Result<Money> {
        Ok(request)
    }
    async fn rpc_nested(&self, _: &Context, request: Inner) -> Result<Outer> {
        Ok(Outer { inner: Some(request) })
    }
}

impl Legacy for Echo {
    async fn rpc_search(
        &self,
        _: &Context,
        _: String,
        _: Option<i32>,
        _: Option<Open<Corpus>>,
        _: Vec<search_request::Hint>,
        _: Option<Bytes>,
        _: Option<search_request::Single>,
    ) -> Result<Money> {
        Ok(Money::default())
    }
    async fn rpc_again(&self, _: &Context, cost: Money) -> Result<Option<String>> {
        Ok(Some(cost.currency))
    }
}

/// Makes two servers that share one implementation.
pub fn shared() -> (
    crate::LegacyServer<Arc<Echo>>,
    crate::acme::shop::v1::OrdersServer<Arc<Echo>>,
) {
    let echo = Arc::new(Echo);
    (
        crate::LegacyServer::new(Arc::clone(&echo)),
        crate::acme::shop::v1::OrdersServer::new(echo),
    )
}
