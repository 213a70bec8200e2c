//! near_paths: what to write in place of a path that a server does not have.

/// Says what to write in place of `wrong`: the procedure of the server's `paths` that differs only in its spelling, or else what the service
/// has, or else which services there are.
pub(super) fn suggest(wrong: &str, paths: &[&str]) -> String {
    if let Some(near) = paths.iter().find(|path| is_near(path, wrong)) {
        return format!("write {near}");
    }
    let wanted = wrong.split_once('/').map(|(service, _)| service);
    let names = paths.iter().filter_map(|path| path.split_once('/'));
    let of_service: Vec<_> = names
        .clone()
        .filter(|(service, _)| Some(*service) == wanted)
        .map(|(_, name)| name)
        .collect();
    if let (Some(service), false) = (wanted, of_service.is_empty()) {
        return format!("{service} has {}", list(&of_service));
    }
    let mut services: Vec<_> = names.map(|(service, _)| service).collect();
    services.sort_unstable();
    services.dedup();
    let there = match services.is_empty() {
        true => String::new(),
        false => format!("; it has {}", list(&services)),
    };
    format!("name a service, as package.Service, or a procedure, as package.Service/Name{there}")
}

/// True if both are procedures of one service, and their names are the same but for case, `_`, and a leading `rpc`.
fn is_near(path: &str, other: &str) -> bool {
    match (path.split_once('/'), other.split_once('/')) {
        (Some((service, name)), Some((other_service, other_name))) => {
            service == other_service && bare(name) == bare(other_name)
        }
        _ => false,
    }
}

/// A name without what people misspell.
fn bare(name: &str) -> String {
    let name = name.replace('_', "").to_ascii_lowercase();
    match name.strip_prefix("rpc") {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => name,
    }
}

/// The first names.
fn list(names: &[&str]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        left => format!("{shown} and {left} others"),
    }
}

/// So many names are listed.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_answered_with_what_is_there() {
        const PATHS: &[&str] = &["a.v1.A/Clear", "a.v1.A/rpc_read_all", "b.v1.B/Clear"];
        for (wrong, says) in [
            ("a.v1.A/rpc_clear", "write a.v1.A/Clear"),
            ("a.v1.A/ReadAll", "write a.v1.A/rpc_read_all"),
            ("b.v1.B/clear", "write b.v1.B/Clear"),
            ("a.v1.A/claer", "a.v1.A has Clear, rpc_read_all"),
            ("a.v1.A/rpc_", "a.v1.A has Clear, rpc_read_all"),
            (
                "c.v1.C/Clear",
                "name a service, as package.Service, or a procedure, as package.Service/Name; it has a.v1.A, b.v1.B",
            ),
        ] {
            assert_eq!(suggest(wrong, PATHS), says);
        }
        assert_eq!(
            suggest("", &[]),
            "name a service, as package.Service, or a procedure, as package.Service/Name"
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        let paths: Vec<_> = (0..25).map(|at| format!("a.v1.A/p{at}")).collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        let says = suggest("a.v1.A/q", &paths);
        assert!(says.ends_with("p18, p19 and 5 others"), "{says}");
    }
}
