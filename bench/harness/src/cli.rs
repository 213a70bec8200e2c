//! The command line of every peer binary.
//!
//! ```text
//! peer server                  prints "ADDR <address>", serves until stdin closes, then prints what it has had
//! peer load    --addr A --server-pid P [--conns N --inflight N --value CLASS
//!                               --warmup-ms N --window-ms N | --calls N]
//! peer handshakes, resumed
//!              --addr A --server-pid P [--inflight N --warmup-ms N --window-ms N]
//! peer one-way, upload, watch
//!              --addr A --server-pid P [--value CLASS --warmup-ms N --window-ms N | --calls N]
//! peer ping-pong
//!              --addr A --server-pid P [--inflight N --value CLASS --warmup-ms N --window-ms N | --calls N]
//! peer delay   --addr A --server-pid P [--value CLASS --warmup-ms N --window-ms N]
//! peer beside  --addr A --server-pid P [--warmup-ms N --window-ms N]
//! peer idle    --addr A --server-pid P [--conns N]
//! ```
//! The client commands print one line of JSON.

use crate::tokio_peer::OnTokio;
use crate::{Driver, Load, Peer, Store, delays, pace::Pace, proc, store, tls};
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
        let store = Arc::new(Store::filled());
        exit_when_stdin_closes(store.clone());
        return D::server(store, |addr| println!("ADDR {addr}"));
    }
    let addr = text("addr", "");
    let server_pid = number("server-pid", 0) as i32;
    let unpaced = || {
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
    let load = || Arc::new(unpaced());
    let report = |does: fn(&str, Arc<Load>) -> bool| {
        let load = load();
        match does(&addr, load.clone()) {
            true => println!("{}", load.report()),
            false => println!("null"),
        }
    };
    match command.as_str() {
        "load" => {
            let load = load();
            D::drive(&addr, load.clone());
            println!("{}", load.report());
        }
        "handshakes" => {
            tls::set_resumes(false);
            report(D::handshakes);
        }
        "resumed" => report(D::handshakes),
        "one-way" => report(D::one_way),
        "upload" => report(D::upload),
        "ping-pong" => report(D::ping_pong),
        "watch" => report(D::watch),
        "delay" => {
            let (mut top, mut tally) = (0.0, 0);
            let mut fields = String::new();
            for (mark, (name, rate)) in (1..).zip(delays::PHASES) {
                let per_s = rate(top);
                let load = Arc::new(unpaced().paced(Pace { mark, per_s }));
                if !D::paced(&addr, load.clone()) {
                    return println!("null");
                }
                match per_s {
                    // The share of the planned messages that it has sent.
                    Some(due) => fields += &format!(",\"{name}_sent\":{:.3}", load.per_s() / due),
                    None => top = load.per_s(),
                }
                tally = load.tally().wrapping_add(tally);
            }
            println!("{{\"per_s\":{top:.1},\"tally\":{tally}{fields}}}");
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
fn exit_when_stdin_closes(store: Arc<Store>) {
    std::thread::spawn(move || {
        let mut buf = [0; 64];
        while matches!(std::io::stdin().read(&mut buf), Ok(n) if n > 0) {}
        println!("{}", store.report());
        std::process::exit(0);
    });
}
