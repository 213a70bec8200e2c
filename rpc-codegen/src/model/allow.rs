//! Allow: the roles that may call a procedure, as `allow` lists them.

use prost_reflect::Value;

use crate::error::Problem;

/// The roles in a value of the field `allow`; none if it is not set.
pub(super) fn roles(value: Option<Value>) -> Vec<String> {
    let Some(Value::List(roles)) = value else {
        return Vec::new();
    };
    roles
        .iter()
        .filter_map(|role| role.as_str().map(str::to_owned))
        .collect()
}

/// Finds what is wrong with the rule of `owner`, a service or a procedure.
pub(super) fn problem_of(owner: &str, roles: &[String]) -> Option<Problem> {
    let problem =
        |what: &str, help: &str| Some(Problem::new(format!("{owner} allows {what}")).with_help(help));
    for (at, role) in roles.iter().enumerate() {
        if role.is_empty() {
            return problem(
                "a role without a name",
                "name a role, or write \"anyone\" for every caller, \"authenticated\" for every caller that is known",
            );
        }
        if role == "*" {
            return problem(
                "`*`, which is no role",
                "write \"anyone\" for every caller, \"authenticated\" for every caller that is known",
            );
        }
        if let Some(wrong) = role.chars().find(|char| !is_of_a_role(*char)) {
            return problem(
                &format!("`{}`, which is no role", role.escape_debug()),
                &format!(
                    "write one role without `{}`; several roles are a list: [\"admin\", \"reader\"]",
                    wrong.escape_debug()
                ),
            );
        }
        if roles[..at].contains(role) {
            return problem(&format!("`{role}` twice"), "write it once");
        }
    }
    match roles.iter().find(|role| WHOLE_RULES.contains(&role.as_str())) {
        Some(all) if roles.len() > 1 => problem(
            &format!("`{all}` beside other roles"),
            &format!("write \"{all}\" alone, since it includes them, or remove it"),
        ),
        _ => None,
    }
}

/// True for a character that the name of a role may have.
fn is_of_a_role(char: char) -> bool {
    !(char.is_whitespace() || char.is_control() || matches!(char, ',' | ';' | '*' | '"' | '\''))
}

/// What stands for all callers, and for all that are known.
const WHOLE_RULES: [&str; 2] = ["anyone", "authenticated"];
