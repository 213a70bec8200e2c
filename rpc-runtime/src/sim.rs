//! Simulation: servers and clients of yours under faults, from a seed, in virtual time and without sockets.
//!
//! A scenario starts nodes, lets things happen to them and to the links between them, and checks what came of it. All of it
//! runs in one thread; an idle minute takes a few milliseconds. What is random is drawn from the seed: which seed fails
//! once, fails again.
//!
//! Inside of it servers listen and clients connect as always: `tcp://NODE:PORT` is a port of the node of that name,
//! `tcp://127.0.0.1:PORT`, `unix:` and `mem:` addresses are those of the own node. Nothing leaves the simulation.
//!
//! ```
//! use std::time::Duration;
//!
//! use rpc_runtime::{Client, Executed, Server, sim};
//! # use rpc_runtime::{Context, Handler, Incoming, Procedure, Service};
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
//! // Once for each seed; a failure names its seed, and what had been done to the nodes.
//! sim::check(0..20, |sim| async move {
//!     let server = sim.node("echo", || async {
//!         let serving = Server::builder().service(EchoServer).listen("tcp://0.0.0.0:5005").serve();
//!         serving.await.unwrap();
//!     });
//!     let client: Client = Client::connect_lazy("tcp://echo:5005");
//!     // Generated stubs read `client.send_recv().timeout(minute).echo("hello")`.
//!     let minute = Duration::from_secs(60);
//!     let echo = || client.call().timeout(minute).send_recv::<_, String>(&RPC_ECHO, "hello".to_owned());
//!     assert_eq!(echo().await.unwrap(), "hello");
//!
//!     // Nobody is told that it is gone: the client has to find out.
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
//! What a seed fixes: the links, the faults, the order in which nodes run, and all that this crate draws. Not fixed is what
//! code of yours takes from elsewhere: threads, the system's clock, its random numbers, the order of a `HashMap`; nor what
//! tokio draws for `select!` (say `biased`) and `sync::watch`, unless everything is built with `--cfg tokio_unstable`.
//! Procedures that are declared `blocking` run as tasks, servers have no workers and obey no signals, and the monitor, which
//! measures real time, does not look.
//!
//! Time: all nodes have the same, but while nothing moves they go ahead of each other by up to 8 ms.

mod faults;
mod here;
mod link;
mod network;
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

use self::world::{Order, SCENARIO, World};
pub use self::{faults::Faults, link::Link};

/// Runs a scenario once for each of some seeds.
///
/// `RPC_SIM_SEED=17` in the environment has the seed 17 only, and `RPC_SIM_SEEDS=10000` has so many, from the first one of
/// `seeds` on.
///
/// # Panics
///
/// If the scenario panics, or the program of a node. Before that it prints the seed, what had been done to the nodes until
/// then, and how to have it again.
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

/// Runs a scenario with one seed, and returns what it returns.
///
/// # Panics
///
/// If the scenario panics, or the program of a node, or if it has not ended after an hour of virtual time. Inside of another
/// simulation.
pub fn run<T, S: Future<Output = T>>(seed: u64, scenario: impl FnOnce(Sim) -> S) -> T {
    let world = World::new(seed);
    world.run(scenario(Sim(Rc::clone(&world))), LIMIT)
}

/// Runs a scenario with one seed, and returns what it returns, or how it failed.
///
/// # Errors
///
/// The panic of the scenario or of a node, and what had been done to the nodes until then.
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

/// How a scenario failed.
pub struct Failure {
    seed: u64,
    at: Duration,
    log: Vec<String>,
    panic: Box<dyn std::any::Any + Send>,
}

impl Failure {
    /// What the scenario, or a node, said when it panicked.
    pub fn message(&self) -> &str {
        let text = self.panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| self.panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a text")
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

/// A simulation, as its scenario sees it: nodes, links, and what happens to them.
///
/// What it is told to do, it does when the scenario waits for something next.
#[derive(Clone)]
pub struct Sim(Rc<World>);

impl Sim {
    /// Makes a node, and starts it. `program` is what it runs, each time it starts.
    ///
    /// The name is that of its addresses: `tcp://NAME:PORT`. The scenario itself is the node `scenario`.
    ///
    /// # Panics
    ///
    /// If there is a node of that name.
    pub fn node<P>(&self, name: &str, program: impl Fn() -> P + 'static) -> Node
    where
        P: Future<Output = ()> + Send + 'static,
    {
        assert!(self.0.find(name).is_none(), "there are two nodes {name:?}");
        let id = self.0.add(name, Some(Box::new(move || Box::pin(program()))));
        self.0.order(Order::Start(id));
        Node {
            sim: self.clone(),
            id,
        }
    }

    /// The node that the scenario runs on: a client that it makes is a client there.
    pub fn scenario(&self) -> Node {
        Node {
            sim: self.clone(),
            id: SCENARIO,
        }
    }

    /// The seed that everything is drawn from.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// A number that is drawn from the seed.
    pub fn draw(&self, range: Range<u64>) -> u64 {
        self.0.random().u64(range)
    }

    /// How much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.0.now()
    }

    /// Lets nothing through between two nodes, as long as nobody calls [`Sim::heal`]. What was sent arrives then, as it does
    /// with TCP; who connects meanwhile waits.
    pub fn partition(&self, one: &Node, other: &Node) {
        self.partition_one_way(one, other);
        self.partition_one_way(other, one);
    }

    /// Lets nothing through from one node to another; the other way is open.
    pub fn partition_one_way(&self, from: &Node, to: &Node) {
        self.0.order(Order::Block(from.id, to.id));
    }

    /// Lets everything through between two nodes.
    pub fn heal(&self, one: &Node, other: &Node) {
        self.0.order(Order::Unblock(one.id, other.id));
        self.0.order(Order::Unblock(other.id, one.id));
    }

    /// Resets all connections between two nodes.
    pub fn reset(&self, one: &Node, other: &Node) {
        self.0.order(Order::Reset(one.id, other.id));
    }

    /// What the link between two nodes is like, from now on.
    pub fn set_link(&self, one: &Node, other: &Node, link: Link) {
        self.0.order(Order::SetLink(one.id, other.id, link));
    }

    /// What all links are like that nothing else was said of, from now on.
    pub fn set_links(&self, link: Link) {
        self.0.order(Order::SetUsual(link));
    }

    /// Lets faults happen at random, until [`Sim::calm`].
    pub fn storm(&self, faults: Faults) {
        self.0.order(Order::Storm(faults));
    }

    /// Ends all faults: links are whole again, and all nodes run.
    pub fn calm(&self) {
        self.0.order(Order::Calm);
    }

    /// A number that two runs have in common if and only if, with all likelihood, the same bytes arrived at the same times
    /// in both.
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

/// A machine of a simulation with one process.
#[derive(Clone, Debug)]
pub struct Node {
    sim: Sim,
    id: usize,
}

impl Node {
    /// Starts it again, unless it runs.
    pub fn start(&self) {
        self.order(Order::Start);
    }

    /// Kills its process, as SIGKILL does: its tasks are dropped, and the OS closes its sockets.
    ///
    /// # Panics
    ///
    /// If it is the scenario's; so does [`Node::cut_power`], [`Node::freeze`].
    pub fn kill(&self) {
        self.order(Order::Kill);
    }

    /// Cuts its power: its tasks are dropped, and nobody is told. When it has started again, it resets the connections that
    /// others believe to have.
    pub fn cut_power(&self) {
        self.order(Order::CutPower);
    }

    /// Stops its time, as SIGSTOP does, or a machine that is suspended. What is sent to it waits.
    pub fn freeze(&self) {
        self.order(Order::Freeze);
    }

    /// Lets it go on; for its process, all the time in between passes at once.
    pub fn thaw(&self) {
        self.order(Order::Thaw);
    }

    /// Whether its process runs; one that stands still does.
    pub fn is_running(&self) -> bool {
        self.id == SCENARIO || self.sim.0.is_running(self.id)
    }

    /// Runs `future` in its process, and waits for what comes of it; none if the process ended before, or `future` panicked.
    ///
    /// # Cancel safety
    ///
    /// `future` goes on when this one is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let running = async {
            // Who asked may not wait any more.
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
        assert!(self.id != SCENARIO, "this cannot be done to the scenario itself");
        self.sim.0.order(order(self.id));
    }
}

/// How much virtual time a scenario may take.
const LIMIT: Duration = Duration::from_secs(60 * 60);
