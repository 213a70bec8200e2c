//! World: the nodes of a simulation, their time, and the changes between two steps.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, poll_fn},
    panic::resume_unwind,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::{advance, sleep},
};

use crate::wire::codec;

use super::{
    here::Here,
    network::{Net, NodeId},
    order::{NodeFuture, Order, SCENARIO},
    storm::{Fault, Storm},
};

/// Makes the future that a node runs, each time it starts.
pub(super) type Program = Box<dyn Fn() -> NodeFuture>;

/// The nodes of a simulation, their time, and the network between them.
pub(super) struct World {
    pub(super) seed: u64,
    net: Arc<Net>,
    nodes: RefCell<Vec<NodeSlot>>,
    now: Cell<Duration>,
    random: RefCell<fastrand::Rng>,
    /// Orders of the scenario, executed at the end of its step.
    orders: RefCell<Vec<Order>>,
    storm: RefCell<Option<Storm>>,
    /// Orders for later, by time and number; they end faults.
    later: RefCell<BTreeMap<(Duration, u64), Order>>,
    last_order: Cell<u64>,
    log: RefCell<Vec<String>>,
}

struct NodeSlot {
    name: String,
    program: Option<Program>,
    life: Option<RunningNode>,
    /// Since when the node is frozen.
    frozen: Option<Duration>,
}

/// A node that runs.
struct RunningNode {
    runtime: Runtime,
    main: Option<JoinHandle<()>>,
}

/// The step of time while anything moves.
const STEP: Duration = Duration::from_millis(1);
/// The longest step of time, reached while nothing moves.
const LONG_STEP: Duration = Duration::from_millis(8);

impl World {
    pub(super) fn new(seed: u64) -> Rc<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        // The library draws from the thread's generator.
        fastrand::seed(random.u64(..));
        codec::forget_spare();
        let net = Net::new(random.fork());
        let world = Self {
            seed,
            net,
            nodes: RefCell::default(),
            now: Cell::default(),
            random: RefCell::new(random),
            orders: RefCell::default(),
            storm: RefCell::default(),
            later: RefCell::default(),
            last_order: Cell::default(),
            log: RefCell::default(),
        };
        let world = Rc::new(world);
        world.add("scenario", None);
        world
    }

    pub(super) fn now(&self) -> Duration {
        self.now.get()
    }

    pub(super) fn digest(&self) -> u64 {
        self.net.with(|network| network.digest())
    }

    pub(super) fn random(&self) -> fastrand::Rng {
        self.random.borrow_mut().fork()
    }

    /// Returns the changes to nodes and links, in order.
    pub(super) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    pub(super) fn add(&self, name: &str, program: Option<Program>) -> NodeId {
        let id = self.net.with(|network| network.add_node(name));
        self.nodes.borrow_mut().push(NodeSlot {
            name: name.to_owned(),
            program,
            life: None,
            frozen: None,
        });
        id
    }

    pub(super) fn find(&self, name: &str) -> Option<NodeId> {
        self.net.with(|network| network.find_node(name))
    }

    pub(super) fn is_running(&self, node: NodeId) -> bool {
        self.nodes.borrow()[node].life.is_some()
    }

    /// The nodes that may fail: all but the scenario's.
    pub(super) fn others(&self) -> std::ops::Range<NodeId> {
        1..self.nodes.borrow().len()
    }

    /// Executes `order` at the end of this step.
    pub(super) fn order(&self, order: Order) {
        self.orders.borrow_mut().push(order);
    }

    /// Executes `order` at the time `at`.
    pub(super) fn order_at(&self, at: Duration, order: Order) {
        let number = self.last_order.get() + 1;
        self.last_order.set(number);
        self.later.borrow_mut().insert((at, number), order);
    }

    /// Runs the scenario to its end.
    ///
    /// # Panics
    ///
    /// Panics if the scenario or the program of a node panics, or after `limit` of virtual time.
    pub(super) fn run<T>(&self, scenario: impl Future<Output = T>, limit: Duration) -> T {
        let runtime = runtime();
        let here = Here::new(Arc::clone(&self.net), SCENARIO);
        let mut scenario = pin!(scenario);
        let mut step = STEP;
        loop {
            let now = self.now.get();
            self.net.with(|network| network.deliver(now));
            let output = here.enter(|| {
                runtime.block_on(async {
                    let mut over = pin!(sleep(step));
                    poll_fn(|cx| match scenario.as_mut().poll(cx) {
                        Poll::Ready(output) => Poll::Ready(Some(output)),
                        Poll::Pending => over.as_mut().poll(cx).map(|()| None),
                    })
                    .await
                })
            });
            if let Some(output) = output {
                self.end(&here, runtime);
                return output;
            }
            self.execute_orders();
            self.step_nodes(step);
            self.now.set(now + step);
            assert!(
                self.now.get() < limit,
                "the scenario has not ended within {limit:?}"
            );
            self.execute_due();
            step = self.next_step(step);
        }
    }

    /// Ends everything that still runs, so that this thread keeps nothing of it.
    fn end(&self, scenario: &Here, runtime: Runtime) {
        for node in self.others() {
            self.stop(node);
        }
        scenario.enter(|| runtime.shutdown_background());
    }

    /// The next step: short while anything moves, and no longer than the time until the next event.
    fn next_step(&self, last: Duration) -> Duration {
        let now = self.now.get();
        let (moved, arrival) = self
            .net
            .with(|network| (network.take_moved(), network.next_arrival()));
        let order = self.later.borrow().keys().next().map(|(at, _)| *at);
        let quiet = if moved { STEP } else { (last * 2).min(LONG_STEP) };
        let next = [arrival, order].into_iter().flatten().min();
        next.map_or(quiet, |next| next.saturating_sub(now).clamp(STEP, quiet))
    }

    fn step_nodes(&self, step: Duration) {
        let mut order: Vec<NodeId> = self.others().collect();
        self.random.borrow_mut().shuffle(&mut order);
        for id in order {
            // Outside of the table meanwhile, because the node's code may read the world.
            let life = {
                let node = &mut self.nodes.borrow_mut()[id];
                if node.frozen.is_some() {
                    None
                } else {
                    node.life.take()
                }
            };
            let Some(mut life) = life else { continue };
            let here = Here::new(Arc::clone(&self.net), id);
            here.enter(|| life.runtime.block_on(async { sleep(step).await }));
            let ended = life.main.take_if(|main| main.is_finished());
            if let Some(main) = ended {
                // A program that was cancelled from within is not a failure of the scenario.
                if let Err(error) = here.enter(|| life.runtime.block_on(main)) {
                    if let Ok(panic) = error.try_into_panic() {
                        resume_unwind(panic);
                    }
                }
            }
            self.nodes.borrow_mut()[id].life = Some(life);
        }
    }

    /// Executes the orders of the scenario.
    fn execute_orders(&self) {
        loop {
            let orders = self.orders.take();
            if orders.is_empty() {
                return;
            }
            for order in orders {
                self.execute(order);
            }
        }
    }

    /// Executes the orders that are due, and the next fault of the storm.
    fn execute_due(&self) {
        loop {
            let order = {
                let mut later = self.later.borrow_mut();
                match later.first_entry() {
                    Some(first) if first.key().0 <= self.now.get() => first.remove(),
                    _ => break,
                }
            };
            self.execute(order);
        }
        let storm = self.storm.take();
        if let Some(mut storm) = storm {
            if let Some(Fault { begin, end, end_at }) =
                storm.draw_fault(self.now(), self.others(), |node| self.is_running(node))
            {
                begin.into_iter().for_each(|order| self.execute(order));
                end.into_iter().for_each(|order| self.order_at(end_at, order));
            }
            self.storm.replace(Some(storm));
        }
        self.execute_orders();
    }

    pub(super) fn execute(&self, order: Order) {
        self.note(&order);
        match order {
            Order::Start(node) => self.start(node),
            Order::Kill(node) => {
                self.net.with(|network| network.kill(node));
                self.stop(node);
            }
            Order::CutPower(node) => {
                self.net.with(|network| network.cut_power(node));
                self.stop(node);
            }
            Order::Freeze(node) => {
                let frozen = &mut self.nodes.borrow_mut()[node].frozen;
                frozen.get_or_insert(self.now.get());
            }
            Order::Thaw(node) => self.thaw(node),
            Order::Block(from, to) => self
                .net
                .with(|network| network.direction(from, to).is_blocked = true),
            Order::Unblock(from, to) => self
                .net
                .with(|network| network.direction(from, to).is_blocked = false),
            Order::Reset(one, other) => self.net.with(|network| network.reset_between(one, other)),
            Order::Disturb(from, to, link) => {
                self.net
                    .with(|network| network.direction(from, to).faulty = Some(link));
            }
            Order::Undisturb(from, to) => self.net.with(|network| network.direction(from, to).faulty = None),
            Order::SetLink(one, other, link) => self.net.with(|network| {
                network.direction(one, other).link = Some(link.clone());
                network.direction(other, one).link = Some(link);
            }),
            Order::SetDefaultLink(link) => self.net.with(|network| network.set_default_link(link)),
            Order::Run(node, running) => {
                if let Some(life) = &self.nodes.borrow()[node].life {
                    life.runtime.spawn(running);
                }
            }
            Order::Storm(faults) => {
                let random = self.random();
                self.storm
                    .replace(Some(Storm::new(faults, random, self.now.get())));
            }
            Order::Calm => self.calm(),
        }
    }

    /// Ends all faults, and repairs what they broke.
    fn calm(&self) {
        self.storm.take();
        self.later.take();
        self.net.with(|network| network.heal());
        for node in self.others() {
            self.thaw(node);
            if !self.is_running(node) {
                self.start(node);
            }
        }
    }

    /// Starts a node, unless it runs.
    fn start(&self, node: NodeId) {
        if self.is_running(node) {
            return;
        }
        self.net.with(|network| network.start(node));
        let runtime = runtime();
        let here = Here::new(Arc::clone(&self.net), node);
        let main = here.enter(|| {
            let _entered = runtime.enter();
            let nodes = self.nodes.borrow();
            let program = nodes[node].program.as_ref();
            program.map(|program| runtime.spawn(program()))
        });
        let node = &mut self.nodes.borrow_mut()[node];
        node.frozen = None;
        node.life = Some(RunningNode { runtime, main });
    }

    fn stop(&self, id: NodeId) {
        let life = self.nodes.borrow_mut()[id].life.take();
        if let Some(life) = life {
            let here = Here::new(Arc::clone(&self.net), id);
            here.enter(|| life.runtime.shutdown_background());
        }
    }

    /// Resumes a frozen node; for it, the time in between passes at once.
    fn thaw(&self, id: NodeId) {
        let Some(since) = self.nodes.borrow_mut()[id].frozen.take() else {
            return;
        };
        let missed = self.now.get().saturating_sub(since);
        let here = Here::new(Arc::clone(&self.net), id);
        if let Some(life) = &self.nodes.borrow()[id].life {
            here.enter(|| life.runtime.block_on(async { advance(missed).await }));
        }
    }

    fn note(&self, order: &Order) {
        let nodes = self.nodes.borrow();
        let name = |node: &NodeId| nodes[*node].name.as_str();
        let text = match order {
            Order::Start(node) => format!("{} starts", name(node)),
            Order::Kill(node) => format!("{} is killed", name(node)),
            Order::CutPower(node) => format!("{} loses its power", name(node)),
            Order::Freeze(node) => format!("{} is frozen", name(node)),
            Order::Thaw(node) => format!("{} is thawed", name(node)),
            Order::Block(from, to) => format!("traffic from {} to {} is blocked", name(from), name(to)),
            Order::Unblock(from, to) => format!("traffic from {} to {} is unblocked", name(from), name(to)),
            Order::Reset(one, other) => format!("connections of {} and {} are reset", name(one), name(other)),
            Order::Disturb(from, to, link) => {
                format!("the link from {} to {} becomes {link:?}", name(from), name(to))
            }
            Order::Undisturb(from, to) => {
                format!("the link from {} to {} is normal again", name(from), name(to))
            }
            Order::Calm => "all faults end".to_owned(),
            Order::SetLink(..) | Order::SetDefaultLink(_) | Order::Run(..) | Order::Storm(_) => return,
        };
        tracing::debug!(at = ?self.now.get(), "{text}");
        self.log
            .borrow_mut()
            .push(format!("{:>9.3} s  {text}", self.now.get().as_secs_f64()));
    }
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("cannot make a runtime for a node of the simulation: {error}"),
    }
}
