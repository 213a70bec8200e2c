//! Each attack, with a small number of frames or calls. For more: `cargo run --release -p attacks -- --seconds 10`.

use std::path::Path;

use attacks::{attack, report};

/// Runs one of `SHARES` equal shares of the attacks. Together the tests run all of them.
async fn withstands(share: usize) {
    let program = Path::new(env!("CARGO_BIN_EXE_attacks"));
    println!("{}", report::HEAD);
    for attack in attack::all().iter().skip(share).step_by(SHARES) {
        match report::run(program, attack, None).await {
            Ok(report) => println!("{report}"),
            Err(failure) => panic!("{}: {failure}", attack.name),
        }
    }
}

const SHARES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_withstands_the_first_attacks() {
    withstands(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_withstands_the_second_attacks() {
    withstands(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_withstands_the_third_attacks() {
    withstands(2).await;
}
