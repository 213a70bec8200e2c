//! The demo's procedures, by package name. Both demos use them.

rpc_runtime::include_protos!();

/// Compiles the Rust blocks of the documents, and runs those that can run.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/tutorial.md")]
    mod tutorial {}
    #[doc = include_str!("../docs/how-to/balance-calls.md")]
    mod balance_calls {}
    #[doc = include_str!("../docs/how-to/behind-a-proxy.md")]
    mod behind_a_proxy {}
    #[doc = include_str!("../docs/how-to/behind-nginx.md")]
    mod behind_nginx {}
    #[doc = include_str!("../docs/how-to/call-back.md")]
    mod call_back {}
    #[doc = include_str!("../docs/how-to/call-grpc.md")]
    mod call_grpc {}
    #[doc = include_str!("../docs/how-to/compress.md")]
    mod compress {}
    #[doc = include_str!("../docs/how-to/etcd.md")]
    mod etcd {}
    #[doc = include_str!("../docs/how-to/evolve-a-schema.md")]
    mod evolve_a_schema {}
    #[doc = include_str!("../docs/how-to/fail-over.md")]
    mod fail_over {}
    #[doc = include_str!("../docs/how-to/find-servers.md")]
    mod find_servers {}
    #[doc = include_str!("../docs/how-to/from-tonic.md")]
    mod from_tonic {}
    #[doc = include_str!("../docs/how-to/handle-errors.md")]
    mod handle_errors {}
    #[doc = include_str!("../docs/how-to/health-and-reflection.md")]
    mod health_and_reflection {}
    #[doc = include_str!("../docs/how-to/hostile-peers.md")]
    mod hostile_peers {}
    #[doc = include_str!("../docs/how-to/json.md")]
    mod json {}
    #[doc = include_str!("../docs/how-to/limit-callers.md")]
    mod limit_callers {}
    #[doc = include_str!("../docs/how-to/look-into-a-server.md")]
    pub struct LookIntoAServer;
    #[doc = include_str!("../docs/how-to/middleware.md")]
    mod middleware {}
    #[doc = include_str!("../docs/how-to/one-way-calls.md")]
    mod one_way_calls {}
    #[doc = include_str!("../docs/how-to/priorities.md")]
    mod priorities {}
    #[doc = include_str!("../docs/how-to/serve-grpc.md")]
    mod serve_grpc {}
    #[doc = include_str!("../docs/how-to/replace-a-running-server.md")]
    mod replace_a_running_server {}
    #[doc = include_str!("../docs/how-to/run-in-kubernetes.md")]
    mod run_in_kubernetes {}
    #[doc = include_str!("../docs/how-to/run-under-systemd.md")]
    mod run_under_systemd {}
    #[doc = include_str!("../docs/how-to/roles.md")]
    mod roles {}
    #[doc = include_str!("../docs/how-to/set-deadlines.md")]
    mod set_deadlines {}
    #[doc = include_str!("../docs/how-to/stop-a-server.md")]
    mod stop_a_server {}
    #[doc = include_str!("../docs/how-to/streams.md")]
    mod streams {}
    #[doc = include_str!("../docs/how-to/tls.md")]
    mod tls {}
    #[doc = include_str!("../docs/how-to/test-with-a-fake.md")]
    mod test_with_a_fake {}
    #[doc = include_str!("../docs/how-to/tokens.md")]
    mod tokens {}
    #[doc = include_str!("../docs/how-to/unix-sockets.md")]
    mod unix_sockets {}
    #[doc = include_str!("../docs/how-to/watch-a-server.md")]
    mod watch_a_server {}
    #[doc = include_str!("../docs/how-to/workers.md")]
    mod workers {}
    #[doc = include_str!("../docs/explanation/performance.md")]
    mod performance {}
    #[doc = include_str!("../docs/explanation/reliability.md")]
    mod reliability {}
    #[doc = include_str!("../docs/reference/errors.md")]
    mod errors {}
    #[doc = include_str!("../docs/reference/generator.md")]
    mod generator {}
    #[doc = include_str!("../docs/reference/guarantees.md")]
    mod guarantees {}
    #[doc = include_str!("../docs/reference/limits.md")]
    mod limits {}
    #[doc = include_str!("../docs/reference/metadata.md")]
    mod metadata {}
    #[doc = include_str!("../docs/reference/metrics.md")]
    mod metrics {}
    #[doc = include_str!("../docs/reference/wire.md")]
    mod wire {}
}

#[cfg(test)]
mod limit_texts;

/// Checks that the page of limits agrees with the code.
#[cfg(test)]
mod limits_page {
    use rpc_runtime::{Client, Limits, Server};

    const PAGE: &str = include_str!("../docs/reference/limits.md");

    /// Name and default of each row in the section of PAGE with this heading.
    fn rows(heading: &str) -> Vec<(&'static str, &'static str)> {
        let (_, section) = PAGE.split_once(heading).expect("the page has this heading");
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((name, rest.split(" | ").next()?))
        });
        rows.collect()
    }

    /// The fields of a struct with their values, in the order of its `Debug`, up to the end of the struct.
    fn fields(debug: &str) -> Vec<(String, String)> {
        let body = debug.split_once(" { ").expect("fields").1;
        let mut depth = 0;
        let mut fields = vec![String::new()];
        for char in body.chars() {
            match char {
                '{' | '(' | '[' => depth += 1,
                '}' if depth == 0 => break,
                '}' | ')' | ']' => depth -= 1,
                ',' if depth == 0 => fields.push(String::new()),
                _ => {}
            }
            fields.last_mut().expect("one").push(char);
        }
        let fields = fields.iter().filter_map(|field| {
            let (name, value) = field.trim_start_matches([',', ' ']).split_once(": ")?;
            Some((name.to_owned(), value.trim_end().to_owned()))
        });
        fields.collect()
    }

    /// A default of the page, as `Debug` shows it: "4 MiB" is 4194304, "unlimited" is None.
    fn shown(default: &str) -> String {
        let (number, unit) = default.split_once(' ').unwrap_or((default, ""));
        let number = number.replace(',', "");
        let bytes = |shift: u32| format!("{}", number.parse::<u64>().expect("a number") << shift);
        match unit {
            "KiB" => bytes(10),
            "MiB" => bytes(20),
            "GiB" => bytes(30),
            "s" | "µs" => format!("{number}{unit}"),
            _ if number == "unlimited" => "None".to_owned(),
            _ => number,
        }
    }

    #[test]
    fn limits_of_a_connection_are_listed_with_their_defaults() {
        let code = fields(&format!("{:?}", Limits::default()));
        let page = rows("\n## One connection: `Limits`");
        for (name, value) in &code {
            let (_, default) = page
                .iter()
                .find(|row| row.0 == name)
                .unwrap_or_else(|| panic!("{name} is not listed"));
            // Its default depends on the side, and is no value of Limits.
            if name != "keep_alive" {
                assert_eq!(shown(default), *value, "the default of {name}");
            }
        }
        for (name, _) in page {
            assert!(
                code.iter().any(|field| field.0 == name),
                "there is no limit {name}"
            );
        }
    }

    #[test]
    fn limits_of_a_server_are_listed_with_their_defaults() {
        let mut code = fields(&format!("{:?}", Server::builder()));
        let options = code.iter().find(|field| field.0 == "options");
        code.extend(fields(&options.expect("a server has options").1.clone()));
        for (name, default) in rows("\n## A server: `ServerBuilder`") {
            let field = code.iter().find(|field| field.0 == name);
            let (_, value) = field.unwrap_or_else(|| panic!("there is no limit {name} in {code:?}"));
            // What depends on the machine is known when the server is bound, and not before.
            if !default.contains(" if that is less") {
                assert_eq!(shown(default), *value, "the default of {name}");
            }
        }
    }

    #[test]
    fn the_timeout_of_a_client_is_listed_with_its_default() {
        let code = fields(&format!("{:?}", Client::builder("mem:limits")));
        let page = rows("\n## A client: `ClientBuilder`");
        let (_, default) = page.iter().find(|row| row.0 == "timeout").expect("it is listed");
        let (_, value) = code
            .iter()
            .find(|field| field.0 == "timeout")
            .expect("a client has one");
        assert_eq!(format!("Some({})", shown(default)), *value);
    }
}
