//! What to generate, and for whom.

use proc_macro2::TokenStream;

/// For whom the code is, and how.
pub(crate) struct Target<'a> {
    /// The path of rpc-runtime.
    pub(crate) runtime: &'a TokenStream,
    /// The same, as text.
    pub(crate) runtime_path: &'a str,
    pub(crate) parts: Parts,
    pub(crate) purpose: Purpose,
    pub(crate) type_attributes: &'a [(String, String)],
    pub(crate) field_attributes: &'a [(String, String)],
    /// Whether the files stand in Cargo's `OUT_DIR`.
    pub(crate) include_env: bool,
}

#[cfg(test)]
impl<'a> Target<'a> {
    /// Both halves, for users of the framework.
    pub(crate) fn for_users(runtime: &'a TokenStream) -> Self {
        Self {
            runtime,
            runtime_path: "::rpc_runtime",
            parts: Parts::Both,
            purpose: Purpose::User,
            type_attributes: &[],
            field_attributes: &[],
            include_env: true,
        }
    }
}

/// Which halves of a service are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    Both,
    Client,
    Server,
}

impl Parts {
    pub(crate) fn client(self) -> bool {
        self != Self::Server
    }

    pub(crate) fn server(self) -> bool {
        self != Self::Client
    }
}

/// For whom code is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For users of the framework.
    User,
    /// For rpc-runtime itself: `package rpc.*` is allowed, and so is `rpc_terminate`.
    Builtin,
}
