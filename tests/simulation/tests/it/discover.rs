//! Resolvers in a simulation, where names are nodes.

use std::{env, fs, process, time::Duration};

use rpc_runtime::{
    discover::{Dns, Endpoint, File, Following},
    sim,
};

#[test]
fn a_name_is_a_node_and_is_not_looked_up() {
    sim::check(0..3, |sim| async move {
        let mut following = Following::new(Dns::new("counter:5005").unwrap());
        assert_eq!(following.next().await.unwrap(), [Endpoint::new("counter:5005")]);
        assert_eq!(sim.elapsed(), Duration::ZERO);
    });
}

#[test]
fn a_file_is_read_in_place_each_second() {
    let path = env::temp_dir().join(format!("rpc-{}-sim.endpoints", process::id()));
    sim::check(0..3, |sim| {
        let path = path.clone();
        async move {
            fs::write(&path, "one:5005").unwrap();
            let mut following = Following::new(File::new(&path));
            assert_eq!(following.next().await.unwrap(), [Endpoint::new("one:5005")]);
            assert_eq!(sim.elapsed(), Duration::ZERO);
            fs::write(&path, "two:5005").unwrap();
            assert_eq!(following.next().await.unwrap(), [Endpoint::new("two:5005")]);
            // The clock goes by steps of a few milliseconds.
            let waited = sim.elapsed().as_millis();
            assert!((980..1020).contains(&waited), "{waited}");
        }
    });
    fs::remove_file(&path).unwrap();
}
