//! Naming: Rust identifiers for the names in .proto files.

use heck::{ToSnakeCase, ToUpperCamelCase};

/// The stem of a procedure's name, which its trait method and its stub share.
///
/// `rpc_fetch` and `Fetch` both have the stem `fetch`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stem(String);

impl Stem {
    /// The stem of the procedure `name`.
    pub(crate) fn new(name: &str) -> Self {
        let snake = name.to_snake_case();
        Self(
            snake
                .strip_prefix("rpc_")
                .map_or_else(|| snake.clone(), str::to_owned),
        )
    }

    /// The name of the trait method.
    pub(crate) fn method(&self) -> String {
        format!("rpc_{}", self.0)
    }

    /// The name of the method of the trait for `dyn`.
    pub(crate) fn dyn_method(&self) -> String {
        format!("dyn_{}", self.0)
    }

    /// The name of the stub.
    pub(crate) fn stub(&self) -> String {
        if self.is_taken() {
            format!("{}_", self.0)
        } else {
            escape(&self.0)
        }
    }

    /// True if the types that hold the stubs have a method of this name.
    pub(crate) fn is_taken(&self) -> bool {
        TAKEN_STUBS.contains(&self.0.as_str())
    }
}

/// The methods of `XSend` and `XSendRecv` that are not stubs; see rpc-runtime/src/codegen/methods.rs.
pub(crate) const TAKEN_STUBS: [&str; 13] = [
    "attempt_timeout",
    "detached",
    "fail_fast",
    "hash_key",
    "idempotent",
    "idle_timeout",
    "metadata",
    "priority",
    "terminate",
    "timeout",
    "trace_context",
    "wait_for_ready",
    "within",
];

/// The identifier of a field, module or argument, exactly as prost-build writes it.
pub(crate) fn snake(name: &str) -> String {
    escape(&name.to_snake_case())
}

/// The identifier of a type or enum value, exactly as prost-build writes it.
pub(crate) fn camel(name: &str) -> String {
    escape(&name.to_upper_camel_case())
}

/// The identifier of a type that belongs to the service `name`, such as its client.
pub(crate) fn camel_with(name: &str, suffix: &str) -> String {
    escape(&format!("{}{suffix}", name.to_upper_camel_case()))
}

/// The identifier of the procedure list of the service `name`.
pub(crate) fn procedures_of(name: &str) -> String {
    escape(&format!("{}_PROCEDURES", name.to_snake_case().to_uppercase()))
}

/// The identifier of a variant as prost-build writes it, without the enum's name as a prefix.
pub(crate) fn variant(enum_name: &str, value_name: &str) -> String {
    let prefix = camel(enum_name);
    let value = camel(value_name);
    match value.strip_prefix(&prefix) {
        Some(rest) if rest.starts_with(char::is_uppercase) => escape(rest),
        _ => escape(&value),
    }
}

/// The full name of the item `name` inside of `outer`, a package or a type.
pub(crate) fn full_name(outer: &str, name: &str) -> String {
    if outer.is_empty() {
        name.to_owned()
    } else {
        format!("{outer}.{name}")
    }
}

/// The Rust module path of a package, part by part.
pub(crate) fn module_path(package: &str) -> Vec<String> {
    package
        .split('.')
        .filter(|part| !part.is_empty())
        .map(snake)
        .collect()
}

/// True if a name has a letter or a digit, which an identifier needs.
pub(crate) fn is_nameable(name: &str) -> bool {
    name.chars().any(char::is_alphanumeric)
}

/// Turns `identifier` into one that Rust accepts, as prost-build does.
fn escape(identifier: &str) -> String {
    match identifier {
        // The model reports such a name as an error: see `is_nameable`.
        "" => "__".to_owned(),
        // Rust has no raw identifiers for these.
        "_" | "super" | "self" | "Self" | "extern" | "crate" => format!("{identifier}_"),
        _ if KEYWORDS.contains(&identifier) => format!("r#{identifier}"),
        _ if identifier.starts_with(|c: char| c.is_numeric()) => format!("_{identifier}"),
        _ => identifier.to_owned(),
    }
}

const KEYWORDS: [&str; 47] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else",
    "enum", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "try",
    "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpc_prefix_and_grpc_case_have_one_stem() {
        for name in ["rpc_get_user", "GetUser", "getUser", "RpcGetUser", "get_user"] {
            let stem = Stem::new(name);
            assert_eq!(
                (stem.method().as_str(), stem.stub().as_str()),
                ("rpc_get_user", "get_user"),
                "{name}"
            );
        }
    }

    #[test]
    fn acronyms_and_digits_follow_prost() {
        assert_eq!(Stem::new("GetHTTPStatus").stub(), "get_http_status");
        assert_eq!(Stem::new("GetV2").stub(), "get_v2");
        assert_eq!(Stem::new("rpc_2nd").stub(), "_2nd");
        assert_eq!(Stem::new("rpc").method(), "rpc_rpc");
    }

    #[test]
    fn a_keyword_becomes_raw_or_gets_an_underscore() {
        assert_eq!(Stem::new("Type").stub(), "r#type");
        assert_eq!(Stem::new("Type").method(), "rpc_type");
        assert_eq!(Stem::new("Self").stub(), "self_");
        assert_eq!(camel("self"), "Self_");
        assert_eq!(module_path("acme.type.v1"), ["acme", "r#type", "v1"]);
    }

    #[test]
    fn a_taken_stub_gets_an_underscore() {
        assert_eq!(Stem::new("Terminate").stub(), "terminate_");
        assert_eq!(Stem::new("SetTimeout").stub(), "set_timeout");
        assert!(Stem::new("Within").is_taken());
        assert!(Stem::new("rpc_detached").is_taken());
        assert_eq!(Stem::new("FailFast").stub(), "fail_fast_");
        assert_eq!(Stem::new("rpc_wait_for_ready").stub(), "wait_for_ready_");
    }

    #[test]
    fn variants_lose_their_enum_prefix_only_as_a_whole_word() {
        assert_eq!(variant("Color", "COLOR_RED"), "Red");
        assert_eq!(variant("Color", "COLORFUL"), "Colorful");
        assert_eq!(variant("Color", "COLOR_SELF"), "Self_");
    }

    #[test]
    fn types_of_a_service_carry_its_name() {
        assert_eq!(camel_with("user_store", "Client"), "UserStoreClient");
        assert_eq!(camel_with("Self", "Client"), "SelfClient");
        assert_eq!(procedures_of("UserStore"), "USER_STORE_PROCEDURES");
    }

    #[test]
    fn a_name_of_underscores_is_no_name() {
        assert!(!is_nameable("__"));
        assert!(is_nameable("_a"));
    }
}
