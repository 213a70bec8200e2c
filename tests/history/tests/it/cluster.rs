//! Simulations of clients that balance. For more: `cargo run --release -p history --bin simulate -- --cluster --seeds 5000`.

use history::cluster::simulate;

fn keep_their_promises(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(failure) = simulate(seed) {
            panic!(
                "{failure}\nagain: cargo run -p history --bin simulate -- --cluster --from {seed} --seeds 1"
            );
        }
    }
}

#[test]
fn simulated_clusters_keep_their_promises() {
    keep_their_promises(0..15);
}

#[test]
fn more_simulated_clusters_keep_their_promises() {
    keep_their_promises(15..30);
}

#[test]
fn seeds_that_have_found_faults_keep_their_promises() {
    // Calls that went round without a wait: after their deadline, and beside a second connection. One-way calls that nobody told of.
    for seed in [36, 1075, 1502] {
        keep_their_promises(seed..seed + 1);
    }
}

#[test]
fn a_seed_is_the_same_cluster_each_time() {
    for seed in [2, 4, 8, 30] {
        let digests = [(); 2].map(|()| simulate(seed).unwrap().digest);
        assert_eq!(digests, [digests[0]; 2], "seed {seed}");
    }
}
