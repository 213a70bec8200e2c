//! Simulations of a hundred seeds. For more: `cargo run --release -p history --bin simulate -- --seeds 20000`.

use history::simulation::simulate;

fn keep_their_promises(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(failure) = simulate(seed) {
            panic!("{failure}\nagain: cargo run -p history --bin simulate -- --from {seed} --seeds 1");
        }
    }
}

#[test]
fn simulated_servers_and_clients_keep_their_promises() {
    keep_their_promises(0..50);
}

#[test]
fn more_simulated_servers_and_clients_keep_their_promises() {
    keep_their_promises(50..100);
}

#[test]
fn a_seed_is_the_same_simulation_each_time() {
    for seed in [3, 7, 77, 1559] {
        let digests = [(); 3].map(|()| simulate(seed).unwrap().digest);
        assert_eq!(digests, [digests[0]; 3], "seed {seed}");
    }
}
