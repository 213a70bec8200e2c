//! The target: which code to generate.

use crate::{
    choices::{Choices, Parts},
    code::Code,
};

/// Everything about the generated code that does not depend on the .proto files.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// The path of rpc-runtime, as code.
    pub(crate) runtime: &'a Code,
    /// The path of rpc-runtime, as text.
    pub(crate) runtime_path: &'a str,
    pub(crate) purpose: Purpose,
    /// What holds for messages, fields and services by their paths.
    pub(crate) choices: &'a Choices,
    /// True if the files are written to Cargo's `OUT_DIR`.
    pub(crate) include_env: bool,
    /// True if servers carry descriptors.
    pub(crate) embeds_descriptors: bool,
}

impl<'a> Target<'a> {
    /// The default target of a build script.
    #[cfg(test)]
    pub(crate) fn for_users(runtime: &'a Code, choices: &'a Choices) -> Self {
        Self {
            runtime,
            runtime_path: "::rpc_runtime",
            purpose: Purpose::User,
            choices,
            include_env: true,
            embeds_descriptors: true,
        }
    }

    /// The halves of the service `full_name` to generate.
    pub(crate) fn parts(&self, full_name: &str) -> Parts {
        self.choices.parts.last(full_name).copied().unwrap_or(Parts::Both)
    }
}

/// Who uses the generated code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Users of the framework.
    User,
    /// rpc-runtime itself: `package rpc.control` and the procedure `rpc_terminate` are allowed.
    Builtin,
}
