//! Each attack, with a small number of frames or calls. For more: `cargo run --release -p attacks -- --seconds 10`.

use std::path::Path;

use attacks::{attack, door::Transport, report};

/// Runs one of `SHARES` equal shares of the attacks. Together the tests run all of them.
async fn withstands(transport: Transport, share: usize) {
    let program = Path::new(env!("CARGO_BIN_EXE_attacks"));
    println!("{}", report::HEAD);
    for attack in attack::all(transport).iter().skip(share).step_by(SHARES) {
        match report::run(program, attack, transport, None).await {
            Ok(report) => println!("{report}"),
            Err(failure) => panic!("{}: {failure}", attack.name),
        }
    }
}

const SHARES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_withstands_the_first_attacks() {
    withstands(Transport::Tcp, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_withstands_the_second_attacks() {
    withstands(Transport::Tcp, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_withstands_the_third_attacks() {
    withstands(Transport::Tcp, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_server_withstands_the_first_attacks() {
    withstands(Transport::Tls, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_server_withstands_the_second_attacks() {
    withstands(Transport::Tls, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_server_withstands_the_third_attacks() {
    withstands(Transport::Tls, 2).await;
}
