//! Unauthorised terminates, a few hundred of each kind. For a million: `cargo run --release -p attacks -- terminates`.

use std::path::Path;

use attacks::terminates;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_unauthorised_terminate_is_obeyed() {
    let rows = terminates::run(Path::new(env!("CARGO_BIN_EXE_attacks")), 7 * 600).await;
    let rows = rows.unwrap_or_else(|failure| panic!("{failure}"));
    for row in &rows {
        println!("{row}");
        // A user who is not root cannot become another one.
        assert!(row.refused.is_none_or(|refused| refused >= 600), "{row}");
    }
    let tried = rows.iter().filter(|row| row.refused.is_some()).count();
    assert!(tried >= 6, "{tried} of {} kinds were tried", rows.len());
}
