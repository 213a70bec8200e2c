//! Courses of some thousand calls, with cuts and restarts. For a million: `cargo run --release -p history -- --calls 1000000`.

use history::{
    course::{Course, Outcome, Stops},
    cuts::Cuts,
    host::{Place, Transport},
};

/// Makes a course with many cuts and stops in this process.
fn course(seed: u64) -> Course {
    Course {
        name: "a test",
        seed,
        calls: 4000,
        transport: Transport::Tcp,
        place: Place::Here,
        cuts: Cuts::many(),
        stops: Stops::Any,
        clients: 4,
        users: 3,
    }
}

fn process() -> Place {
    Place::Process(env!("CARGO_BIN_EXE_check-history").into())
}

async fn keeps_its_promises(course: Course) -> Outcome {
    println!("seed {}", course.seed);
    let outcome = course.run(|_| {}).await;
    let outcome = outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{outcome}");
    // A run without cuts and stops would prove nothing.
    assert!(
        outcome.summary.ok > 0 && outcome.summary.accepted > 0,
        "{outcome}"
    );
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_true_while_servers_stop_and_connections_are_cut() {
    for (seed, transport) in [(1, Transport::Tcp), (2, Transport::Unix), (8, Transport::Tls)] {
        let outcome = keeps_its_promises(Course {
            transport,
            ..course(seed)
        })
        .await;
        assert!(
            outcome.cuts.cuts() > 0 && outcome.stopped.aborted > 0,
            "{outcome}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_true_while_processes_are_killed_and_connections_are_cut() {
    for (seed, transport) in [(3, Transport::Tcp), (4, Transport::Unix), (9, Transport::Tls)] {
        let outcome = keeps_its_promises(Course {
            transport,
            place: process(),
            ..course(seed)
        })
        .await;
        assert!(outcome.stopped.killed > 0, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_covered_by_a_barrier_runs_despite_cuts() {
    let outcome = keeps_its_promises(Course {
        stops: Stops::Never,
        ..course(5)
    })
    .await;
    assert!(
        outcome.cuts.cuts() > 0 && outcome.summary.barriers > 0,
        "{outcome}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_servers_lose_no_reply() {
    for (seed, transport, place) in [
        (6, Transport::Tcp, Place::Here),
        (7, Transport::Tcp, process()),
        (10, Transport::Tls, process()),
    ] {
        let outcome = keeps_its_promises(Course {
            transport,
            place,
            cuts: Cuts::none(),
            stops: Stops::Drains,
            ..course(seed)
        })
        .await;
        assert!(outcome.stopped.drained > 0, "{outcome}");
    }
}
