//! The target: which code to generate.

use proc_macro2::TokenStream;

/// Everything about the generated code that does not depend on the .proto files.
pub(crate) struct Target<'a> {
    /// The path of rpc-runtime, as tokens.
    pub(crate) runtime: &'a TokenStream,
    /// The path of rpc-runtime, as text.
    pub(crate) runtime_path: &'a str,
    pub(crate) parts: Parts,
    pub(crate) purpose: Purpose,
    pub(crate) type_attributes: &'a [(String, String)],
    pub(crate) field_attributes: &'a [(String, String)],
    /// The paths of the messages and enums that get serde's traits.
    pub(crate) json_paths: &'a [String],
    /// True if reading JSON skips unknown fields.
    pub(crate) json_skips_unknown: bool,
    /// True if the files are written to Cargo's `OUT_DIR`.
    pub(crate) include_env: bool,
}

#[cfg(test)]
impl<'a> Target<'a> {
    /// The default target of a build script.
    pub(crate) fn for_users(runtime: &'a TokenStream) -> Self {
        Self {
            runtime,
            runtime_path: "::rpc_runtime",
            parts: Parts::Both,
            purpose: Purpose::User,
            type_attributes: &[],
            field_attributes: &[],
            json_paths: &[],
            json_skips_unknown: false,
            include_env: true,
        }
    }
}

/// The halves of a service that are generated.
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

/// Who uses the generated code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Users of the framework.
    User,
    /// rpc-runtime itself: `package rpc.*` and the procedure `rpc_terminate` are allowed.
    Builtin,
}
