//! Simulation: tests your servers and clients under faults, in virtual time, from a seed and without sockets.
//!
//! A scenario starts nodes, causes faults of nodes and of the links between them, and checks the results. All of it
//! runs in one thread; an idle minute takes a few milliseconds. All random numbers come from the seed, so a seed that
//! fails once fails again.
//!
//! In a simulation servers listen and clients connect as usual. `tcp://NODE:PORT` is a port of the node with that name;
//! `tcp://127.0.0.1:PORT`, `unix:` and `mem:` addresses belong to the node that uses them. Nothing leaves the
//! simulation.
//!
//! ```
//! use std::time::Duration;
//!
//! use rpc_runtime::{Client, Executed, Server, sim};
//! # use rpc_runtime::{Context, server::{Handler, Incoming, Procedure, Service}};
//! # const RPC_ECHO: Procedure = Procedure::new("doc.v1.Echo/rpc_echo", 0x5a1c_66d0_17b5_11ee);
//! # struct EchoServer;
//! # impl Service for EchoServer {
//! #     fn name(&self) -> &'static str { "doc.v1.Echo" }
//! #     fn procedures(&self) -> &'static [Procedure] { &[RPC_ECHO] }
//! #     fn call(&self, _: usize, call: Incoming) -> Handler {
//! #         call.handle(|_: Context, text: String| async move { Ok(text) })
//! #     }
//! # }
//!
//! // Runs once for each seed. A failure names its seed and lists the faults until then.
//! sim::check(0..20, |sim| async move {
//!     let server = sim.node("echo", || async {
//!         let serving = Server::builder().service(EchoServer).listener("tcp://0.0.0.0:5005").serve();
//!         serving.await.unwrap();
//!     });
//!     let client: Client = Client::connect_lazy("tcp://echo:5005");
//!     // Generated stubs read `client.send_recv().timeout(minute).echo("hello")`.
//!     let minute = Duration::from_secs(60);
//!     let echo = || client.call().timeout(minute).send_recv::<_, String>(&RPC_ECHO, "hello".to_owned());
//!     assert_eq!(echo().await.unwrap(), "hello");
//!
//!     // Nothing tells the client that the node is gone: it has to find out.
//!     server.cut_power();
//!     let error = echo().await.unwrap_err();
//!     assert_eq!(error.executed(), Executed::Maybe);
//!     assert!(sim.elapsed() < Duration::from_secs(61));
//!
//!     server.start();
//!     assert_eq!(echo().await.unwrap(), "hello");
//! });
//! ```
//!
//! A seed fixes the links, the faults, the order in which nodes run, and all random numbers of this crate. It does not
//! fix what your code takes from elsewhere: threads, the system's clock, its random numbers, the order of a `HashMap`.
//! Nor does it fix the random choices of tokio's `select!` (write `biased`) and `sync::watch`, unless everything is
//! built with `--cfg tokio_unstable`.
//!
//! Procedures that are declared `blocking` run as tasks. Servers have no workers and ignore signals. The stall monitor
//! is off, because it measures real time.
//!
//! All nodes share one clock, but while nothing moves a node may run up to 8 ms ahead of another.

mod faults;
mod here;
mod link;
mod network;
mod order;
mod storm;
mod world;

use std::{
    env, fmt,
    future::Future,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
    time::Duration,
};

use tokio::sync::oneshot;

pub use self::{faults::Faults, link::Link};
use self::{
    order::{Order, SCENARIO},
    world::World,
};

/// Runs a scenario once for each seed in `seeds`.
///
/// The environment variable `RPC_SIM_SEED=17` runs only the seed 17. `RPC_SIM_SEEDS=10000` runs 10,000 seeds, from the
/// first one of `seeds` on.
///
/// # Panics
///
/// Panics if the scenario or the program of a node panics. Before that it prints the seed, the faults until then, and
/// how to run that seed again.
pub fn check<S: Future<Output = ()>>(seeds: Range<u64>, scenario: impl Fn(Sim) -> S) {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match (number("RPC_SIM_SEED"), number("RPC_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed.saturating_add(1),
        (None, Some(count)) => seeds.start..seeds.start.saturating_add(count),
        (None, None) => seeds,
    };
    for seed in seeds {
        if let Err(failure) = try_run(seed, &scenario) {
            eprintln!("{failure}\nagain: RPC_SIM_SEED={seed} cargo test ...");
            resume_unwind(failure.panic);
        }
    }
}

/// Runs a scenario with one seed, and returns its result.
///
/// # Panics
///
/// Panics if the scenario or the program of a node panics, if the scenario has not ended after an hour of virtual time,
/// or inside of another simulation.
pub fn run<T, S: Future<Output = T>>(seed: u64, scenario: impl FnOnce(Sim) -> S) -> T {
    let world = World::new(seed);
    world.run(scenario(Sim(Rc::clone(&world))), LIMIT)
}

/// Runs a scenario with one seed, and returns its result or its failure.
///
/// # Errors
///
/// The panic of the scenario or of a node, and the faults until then.
pub fn try_run<T, S: Future<Output = T>>(seed: u64, scenario: impl FnOnce(Sim) -> S) -> Result<T, Failure> {
    let world = World::new(seed);
    let result = catch_unwind(AssertUnwindSafe(|| {
        world.run(scenario(Sim(Rc::clone(&world))), LIMIT)
    }));
    result.map_err(|panic| Failure {
        seed,
        at: world.now(),
        log: world.log(),
        panic,
    })
}

/// The failure of a scenario: its seed, its time, the faults until then, and the panic.
pub struct Failure {
    seed: u64,
    at: Duration,
    log: Vec<String>,
    panic: Box<dyn std::any::Any + Send>,
}

impl Failure {
    /// Returns the text of the panic of the scenario or of a node.
    pub fn message(&self) -> &str {
        let text = self.panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| self.panic.downcast_ref::<&str>().copied())
            .unwrap_or("panic without a text")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.log {
            writeln!(f, "{line}")?;
        }
        write!(
            f,
            "seed {} failed at {:.3} s: {}",
            self.seed,
            self.at.as_secs_f64(),
            self.message()
        )
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The simulation as its scenario uses it: nodes, links, and their faults.
///
/// The methods take effect when the scenario next waits for something.
#[derive(Clone)]
pub struct Sim(Rc<World>);

impl Sim {
    /// Adds a node and starts it; it runs `program` each time it starts.
    ///
    /// The name is the host of its addresses: `tcp://NAME:PORT`. The scenario itself is the node `scenario`.
    ///
    /// # Panics
    ///
    /// Panics if a node of that name exists.
    pub fn node<P>(&self, name: &str, program: impl Fn() -> P + 'static) -> Node
    where
        P: Future<Output = ()> + Send + 'static,
    {
        assert!(
            self.0.find(name).is_none(),
            "the simulation already has a node named {name:?}"
        );
        let id = self.0.add(name, Some(Box::new(move || Box::pin(program()))));
        self.0.order(Order::Start(id));
        Node {
            sim: self.clone(),
            id,
        }
    }

    /// Returns the node on which the scenario and its clients run.
    pub fn scenario(&self) -> Node {
        Node {
            sim: self.clone(),
            id: SCENARIO,
        }
    }

    /// Returns the seed of all random numbers.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// Draws a number from the seed.
    pub fn draw(&self, range: Range<u64>) -> u64 {
        self.0.random().u64(range)
    }

    /// Returns how much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.0.now()
    }

    /// Blocks all traffic between two nodes until [`Sim::heal`].
    ///
    /// Data that was sent arrives after that, as with TCP. Connection attempts wait until then.
    pub fn partition(&self, one: &Node, other: &Node) {
        self.partition_one_way(one, other);
        self.partition_one_way(other, one);
    }

    /// Blocks the traffic from one node to another; the opposite direction stays open.
    pub fn partition_one_way(&self, from: &Node, to: &Node) {
        self.0.order(Order::Block(from.id, to.id));
    }

    /// Unblocks the traffic between two nodes.
    pub fn heal(&self, one: &Node, other: &Node) {
        self.0.order(Order::Unblock(one.id, other.id));
        self.0.order(Order::Unblock(other.id, one.id));
    }

    /// Resets all connections between two nodes.
    pub fn reset(&self, one: &Node, other: &Node) {
        self.0.order(Order::Reset(one.id, other.id));
    }

    /// Sets the properties of the link between two nodes, from now on.
    pub fn set_link(&self, one: &Node, other: &Node, link: Link) {
        self.0.order(Order::SetLink(one.id, other.id, link));
    }

    /// Sets the properties of all links that [`Sim::set_link`] did not set, from now on.
    pub fn set_links(&self, link: Link) {
        self.0.order(Order::SetDefaultLink(link));
    }

    /// Starts random faults, until [`Sim::calm`].
    pub fn storm(&self, faults: Faults) {
        self.0.order(Order::Storm(faults));
    }

    /// Ends all faults: repairs the links, and lets all nodes run.
    pub fn calm(&self) {
        self.0.order(Order::Calm);
    }

    /// Returns a digest of all deliveries.
    ///
    /// Two runs have the same digest if the same bytes arrived at the same times in both, and almost certainly only
    /// then.
    pub fn digest(&self) -> u64 {
        self.0.digest()
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("seed", &self.0.seed)
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}

/// A machine in a simulation, with one process.
#[derive(Clone, Debug)]
pub struct Node {
    sim: Sim,
    id: usize,
}

impl Node {
    /// Starts the node again, unless it runs.
    pub fn start(&self) {
        self.order(Order::Start);
    }

    /// Kills its process like SIGKILL: its tasks are dropped, and the OS closes its sockets.
    ///
    /// # Panics
    ///
    /// Panics on the scenario's node; so do [`Node::cut_power`], [`Node::freeze`] and [`Node::thaw`].
    pub fn kill(&self) {
        self.order(Order::Kill);
    }

    /// Cuts its power: its tasks are dropped, and no peer is told.
    ///
    /// Once it has started again, it resets the connections that its peers still believe to have.
    pub fn cut_power(&self) {
        self.order(Order::CutPower);
    }

    /// Stops its time, like SIGSTOP or a suspended machine; data sent to it waits.
    pub fn freeze(&self) {
        self.order(Order::Freeze);
    }

    /// Resumes it after [`Node::freeze`]; for its process, all the time in between passes at once.
    pub fn thaw(&self) {
        self.order(Order::Thaw);
    }

    /// Returns true if its process runs; a frozen process counts as running.
    pub fn is_running(&self) -> bool {
        self.id == SCENARIO || self.sim.0.is_running(self.id)
    }

    /// Runs `future` in its process and returns its result.
    ///
    /// Returns `None` if the process ended first or `future` panicked.
    ///
    /// # Cancel safety
    ///
    /// `future` continues if this future is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let running = async {
            // The caller may have stopped waiting.
            let _ = sender.send(future.await);
        };
        if self.id == SCENARIO {
            tokio::spawn(running);
        } else {
            self.sim.0.order(Order::Run(self.id, Box::pin(running)));
        }
        receiver.await.ok()
    }

    fn order(&self, order: impl Fn(usize) -> Order) {
        assert!(
            self.id != SCENARIO,
            "the node of the scenario cannot be started, stopped or frozen"
        );
        self.sim.0.order(order(self.id));
    }
}

/// Maximum virtual time of a scenario.
const LIMIT: Duration = Duration::from_secs(60 * 60);
