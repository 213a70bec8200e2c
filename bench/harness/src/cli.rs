//! The command line of every peer binary.
//!
//! ```text
//! peer server                  prints "ADDR <address>", serves until stdin closes
//! peer load    --addr A --server-pid P [--conns N --inflight N --value CLASS
//!                               --warmup-ms N --window-ms N | --calls N]
//! peer one-way --addr A --server-pid P [--value CLASS --warmup-ms N --window-ms N]
//! peer watch   --addr A --server-pid P [--warmup-ms N --window-ms N]
//! peer beside  --addr A --server-pid P [--warmup-ms N --window-ms N]
//! peer idle    --addr A --server-pid P [--conns N]
//! ```
//! The client commands print one line of JSON.

use crate::tokio_peer::OnTokio;
use crate::{Driver, Load, Peer, Store, proc, store};
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

pub fn run<P: Peer>() {
    run_driver::<OnTokio<P>>();
}

pub fn run_driver<D: Driver>() {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let options: HashMap<&str, &str> = rest
        .chunks(2)
        .map(|c| (c[0].trim_start_matches('-'), c[1].as_str()))
        .collect();
    let text = |name: &str, default: &str| options.get(name).unwrap_or(&default).to_string();
    let number = |name: &str, default: u64| -> u64 {
        options
            .get(name)
            .map_or(default, |v| v.parse().expect("a number"))
    };

    if command == "server" {
        exit_when_stdin_closes();
        return D::server(Arc::new(Store::filled()), |addr| println!("ADDR {addr}"));
    }
    let addr = text("addr", "");
    let server_pid = number("server-pid", 0) as i32;
    let load = || {
        Load::new(
            number("conns", 1) as usize,
            number("inflight", 1) as usize,
            store::keys(&text("value", "64B")),
            Duration::from_millis(number("warmup-ms", 500)),
            Duration::from_millis(number("window-ms", 3000)),
            options.get("calls").map(|n| n.parse().unwrap()),
            server_pid,
        )
    };
    match command.as_str() {
        "load" => {
            let load = load();
            D::drive(&addr, load.clone());
            println!("{}", load.report());
        }
        "one-way" => {
            let load = load();
            match D::one_way(&addr, load.clone()) {
                true => println!("{}", load.report()),
                false => println!("null"),
            }
        }
        "watch" => {
            let load = load();
            match D::watch(&addr, load.clone()) {
                true => println!("{}", load.report()),
                false => println!("null"),
            }
        }
        "beside" => {
            let (quiet, busy) = (load(), load());
            if !D::beside(&addr, quiet.clone(), busy.clone(), store::keys("4MiB")) {
                return println!("null");
            }
            let [p50, p99] = [0.5, 0.99].map(|share| busy.quantile_us(share));
            let [quiet_p50, quiet_p99] = [0.5, 0.99].map(|share| quiet.quantile_us(share));
            println!(
                "{{\"p50_us\":{p50},\"p99_us\":{p99},\"quiet_p50_us\":{quiet_p50},\"quiet_p99_us\":{quiet_p99}}}"
            );
        }
        "idle" => {
            let key = &store::keys("64B")[0];
            let conns = number("conns", 1000) as usize;
            let rss = || proc::status_bytes(server_pid, "VmRSS");
            D::idle(&addr, 8, key, || ()); // so that lazy set-up is not counted
            let before = rss();
            let mut after = 0;
            D::idle(&addr, conns, key, || after = rss());
            println!(
                "{{\"rss_before\":{before},\"rss_idle\":{after},\"rss_peak\":{},\"per_conn\":{}}}",
                proc::status_bytes(server_pid, "VmHWM"),
                after.saturating_sub(before) / conns as u64
            );
        }
        other => panic!("unknown command {other:?} for {}", D::NAME),
    }
}

/// No server outlives the runner that holds its stdin.
fn exit_when_stdin_closes() {
    std::thread::spawn(|| {
        let mut buf = [0; 64];
        while matches!(std::io::stdin().read(&mut buf), Ok(n) if n > 0) {}
        std::process::exit(0);
    });
}
