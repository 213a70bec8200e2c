//! Router: from the 64-bit id of a procedure to the service that has it.

mod later_routes;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

pub(crate) use self::later_routes::LaterRoutes;
use crate::{
    Code, Error, Priority, Procedure, Service, Status,
    api::{error::NO_PROCEDURE, priority::Priorities},
    base::log_limit::Seldom,
    message::{control, procedure::Run},
    session::{ProtocolConnection, priorities},
};

/// The procedures of the control service, in the order of the generated service.
pub(crate) static CONTROL_PROCEDURES: [Procedure; 3] = [control::TERMINATE, control::PING, control::SETTLE];

/// All procedures of a server.
pub(crate) struct Router {
    routes: Vec<Route>,
    by_id: HashMap<u64, usize, BuildHasherDefault<ProcedureIdHasher>>,
    /// The procedures of the user, for guests.
    by_path: HashMap<&'static str, &'static Procedure>,
    /// In the order in which they were added.
    services: Vec<Arc<dyn Service>>,
    priorities: Priorities,
    /// The routes of a bridge; none for a server.
    later: Option<Box<LaterRoutes>>,
}

impl Router {
    /// Makes the router of `services`, with the procedures of the built-in control service.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION, with the names, if there is no service, one is there twice or is named as the built-in one,
    /// two procedures have one id, a procedure has a rule and its service no policy, or a service refuses to be served with the others.
    pub(crate) fn new(services: Vec<Arc<dyn Service>>, terminate: TerminateProcedure) -> Result<Self, Error> {
        if services.is_empty() {
            return Err(refused(
                "a server needs a service: add one by .service(XServer::new(..))",
            ));
        }
        let mut router = Self {
            routes: Vec::new(),
            by_id: HashMap::default(),
            by_path: HashMap::new(),
            services: Vec::new(),
            priorities: priorities(&services),
            later: None,
        };
        for service in services {
            router.add(service)?;
        }
        router.add_control(terminate)?;
        let all: Vec<&dyn Service> = router.services.iter().map(|service| &**service).collect();
        for service in &all {
            service
                .served_with(&all)
                .map_err(|status| refused(format!("service {}: {}", service.name(), status.message())))?;
        }
        Ok(router)
    }

    /// Makes the router of a bridge, which has the built-in control service without terminate, and `later`.
    ///
    /// # Errors
    ///
    /// None: the procedures of the control service have different ids.
    pub(crate) fn of_bridge(later: LaterRoutes) -> Result<Self, Error> {
        let mut router = Self {
            routes: Vec::new(),
            by_id: HashMap::default(),
            by_path: HashMap::new(),
            services: Vec::new(),
            priorities: Priorities::default(),
            later: Some(Box::new(later)),
        };
        router.add_control(TerminateProcedure::Unknown)?;
        Ok(router)
    }

    /// True for the router of a bridge.
    pub(crate) fn is_bridge(&self) -> bool {
        self.later.is_some()
    }

    /// The connection that carries the calls of a bridge; none for a server.
    pub(crate) fn bridged(&self) -> Option<&Arc<dyn ProtocolConnection>> {
        self.later.as_ref().map(|later| later.connection())
    }

    /// The connection that polls the calls of a bridge itself; none if tasks do.
    pub(crate) fn call_taker(&self) -> Option<&Arc<dyn ProtocolConnection>> {
        self.bridged().filter(|connection| connection.takes_calls())
    }

    fn add(&mut self, service: Arc<dyn Service>) -> Result<(), Error> {
        let name = service.name();
        if name == control::SERVICE {
            return Err(refused(format!(
                "service {name} is built in: give yours another package or name"
            )));
        }
        if self.services.iter().any(|other| other.name() == name) {
            return Err(refused(format!("service {name} is added twice: add it once")));
        }
        check_policy(&*service)?;
        for (index, procedure) in service.procedures().iter().enumerate() {
            self.add_route(Route::new(Some(Arc::clone(&service)), index, procedure))?;
        }
        self.services.push(service);
        Ok(())
    }

    fn add_control(&mut self, terminate: TerminateProcedure) -> Result<(), Error> {
        for (index, procedure) in CONTROL_PROCEDURES.iter().enumerate() {
            let is_terminate = procedure.id() == control::TERMINATE.id();
            if is_terminate && terminate == TerminateProcedure::Unknown {
                continue;
            }
            let mut route = Route::new(None, index, procedure);
            if is_terminate {
                // What it starts must not stay in the queue of a worker that runs the next handler.
                route.run = Run::Spawn;
            }
            self.add_route(route)?;
        }
        Ok(())
    }

    fn add_route(&mut self, route: Route) -> Result<(), Error> {
        match self.by_id.entry(route.procedure.id()) {
            Entry::Vacant(entry) => {
                entry.insert(self.routes.len());
                if !route.is_control() {
                    self.by_path.insert(route.procedure.path(), route.procedure);
                }
                self.routes.push(route);
                Ok(())
            }
            Entry::Occupied(entry) => {
                let other = self.routes[*entry.get()].procedure.path();
                let path = route.procedure.path();
                Err(refused(format!(
                    "{path} and {other} have the same 64-bit id: rename one of them"
                )))
            }
        }
    }

    /// Returns whether it is the router of a bridge.
    pub(crate) fn is_of_bridge(&self) -> bool {
        self.later.is_some()
    }

    /// The priorities of replies.
    pub(crate) fn priorities(&self) -> &Priorities {
        &self.priorities
    }

    /// The services, without the built-in control service.
    pub(crate) fn services(&self) -> &[Arc<dyn Service>] {
        &self.services
    }

    /// Returns the index of the route of procedure `id`.
    pub(crate) fn find(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).copied().or_else(|| self.find_later(id))
    }

    #[cold]
    fn find_later(&self, id: u64) -> Option<usize> {
        let index = self.later.as_ref()?.find(id)?;
        Some(self.routes.len() + index)
    }

    /// Returns the procedure of this path, if a service of the user has it.
    pub(crate) fn by_path(&self, path: &str) -> Option<&'static Procedure> {
        self.by_path.get(path).copied()
    }

    /// Returns the route at an index that [`Router::find`] returned.
    pub(crate) fn route(&self, index: usize) -> &Route {
        match self.routes.get(index) {
            Some(route) => route,
            None => self.later_route(index),
        }
    }

    #[cold]
    fn later_route(&self, index: usize) -> &Route {
        let later = self.later.as_ref();
        let route = later.and_then(|later| later.get(index - self.routes.len()));
        route.expect("`find` has returned the index")
    }

    /// Makes the status of a call of an unknown procedure.
    pub(crate) fn unknown(&self, id: u64) -> Status {
        if self.later.is_some() {
            let text = format!(
                "the client does not know the procedure with id {id:#018x}, and the protocol of its server needs the path: add it by \
                 Client::with_procedures"
            );
            return Status::new(Code::Unimplemented, text);
        }
        let shown = self.services.iter().take(NAMES_SHOWN);
        let mut names = shown.map(|service| service.name()).collect::<Vec<_>>().join(", ");
        if self.services.len() > NAMES_SHOWN {
            names.push_str(", ...");
        }
        Status::new(
            Code::Unimplemented,
            format!(
                "{NO_PROCEDURE}with id {id:#018x}: is it an older build, or was the service not added to it? It serves {names}"
            ),
        )
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.services.iter().map(|service| service.name());
        f.debug_list().entries(names).finish()
    }
}

/// Refuses a service that has rules if nothing decides by them.
fn check_policy(service: &dyn Service) -> Result<(), Error> {
    let ruled = || {
        let mut procedures = service.procedures().iter();
        procedures.find(|procedure| !procedure.allowed_roles().is_empty())
    };
    match ruled().filter(|_| !service.has_policy()) {
        None => Ok(()),
        Some(procedure) => Err(refused(format!(
            "{} has the rule `allow: {:?}` and no policy decides by it: add one by .policy(auth::Roles::new()), to the server or, \
             for a service in process or of a client, to Layered::new(service)",
            procedure.path(),
            procedure.allowed_roles(),
        ))),
    }
}

fn refused(text: impl Into<String>) -> Error {
    Error::local(Code::FailedPrecondition, text)
}

/// Whether a server has the terminate procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TerminateProcedure {
    Served,
    /// It is as unknown as any procedure that does not exist.
    Unknown,
}

/// One procedure of one service.
pub(crate) struct Route {
    /// None for the built-in control service.
    service: Option<Arc<dyn Service>>,
    index: usize,
    procedure: &'static Procedure,
    run: Run,
    is_for_operators: bool,
    /// Grows with each slow first poll, and shrinks with each quick one.
    slowness: AtomicU32,
    /// How many first polls in a row, of those that were timed, computed long enough to be worth a task.
    computing: AtomicU32,
    /// Limits the log lines about its handlers that block their threads.
    blocked_lines: Seldom,
}

impl Route {
    fn new(service: Option<Arc<dyn Service>>, index: usize, procedure: &'static Procedure) -> Self {
        Self {
            is_for_operators: service.as_ref().is_some_and(|service| service.is_for_operators()),
            service,
            index,
            procedure,
            run: procedure.run(),
            slowness: AtomicU32::new(0),
            computing: AtomicU32::new(0),
            blocked_lines: Seldom::new(BLOCKED_LINES),
        }
    }

    /// The route of a procedure whose calls `service` hands on. It neither computes nor blocks, whatever the procedure says of its handlers.
    pub(crate) fn relay(service: Arc<dyn Service>, procedure: &'static Procedure) -> Self {
        Self {
            run: Run::InOrder,
            ..Self::new(Some(service), 0, procedure)
        }
    }

    pub(crate) fn procedure(&self) -> &'static Procedure {
        self.procedure
    }

    /// Returns whether the procedure is of the built-in control service.
    pub(crate) fn is_control(&self) -> bool {
        self.service.is_none()
    }

    /// The service that makes the handlers; none for the built-in control service.
    pub(crate) fn service(&self) -> Option<&Arc<dyn Service>> {
        self.service.as_ref()
    }

    /// Returns whether only callers that may terminate the server may call it.
    pub(crate) fn is_for_operators(&self) -> bool {
        self.is_for_operators
    }

    /// Limits the log lines about its handlers that block their threads.
    pub(crate) fn blocked_lines(&self) -> &Seldom {
        &self.blocked_lines
    }

    /// The procedure's place in its service.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns where the next handler runs: as declared, or in a task of its own while the procedure is slow.
    pub(crate) fn run(&self) -> Run {
        if self.run == Run::InOrder && self.slowness.load(Ordering::Relaxed) >= SLOW {
            return Run::Spawn;
        }
        self.run
    }

    /// Returns whether one handler may handle several one-way calls that came together.
    pub(crate) fn takes_rows(&self) -> bool {
        let procedure = self.procedure;
        let has_streams = procedure.has_request_stream() || procedure.has_reply_stream();
        let is_plain = !has_streams && procedure.priority() != Priority::Control && !self.is_for_operators;
        is_plain
            && self.run() == Run::InOrder
            && self.service.as_ref().is_some_and(|service| service.takes_rows())
    }

    /// Notes a first poll that lost its turn.
    pub(crate) fn note_slow(&self) {
        // Concurrent notes may overwrite each other: this is an estimate.
        let slowness = self.slowness.load(Ordering::Relaxed);
        self.slowness
            .store((slowness + SLOW_POLL).min(2 * SLOW), Ordering::Relaxed);
    }

    /// Notes a first poll that was quick.
    pub(crate) fn note_quick(&self) {
        self.note_quick_polls(1);
    }

    /// Notes `count` first polls that were quick.
    pub(crate) fn note_quick_polls(&self, count: usize) {
        let slowness = self.slowness.load(Ordering::Relaxed);
        if slowness > 0 {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.slowness
                .store(slowness.saturating_sub(count), Ordering::Relaxed);
        }
    }

    /// Returns whether first polls compute so long that several calls are better spread over the workers.
    pub(crate) fn is_computing(&self) -> bool {
        self.computing.load(Ordering::Relaxed) >= COMPUTING
    }

    /// Notes a timed first poll that took `time`, and the time from the request's arrival here until then.
    pub(crate) fn note_time(&self, time: Duration, before: Duration) {
        let computing = self.computing.load(Ordering::Relaxed);
        let next = if time > COMPUTING_TIME.max(COMPUTING_FACTOR * before) {
            (computing + 1).min(COMPUTING)
        } else {
            0
        };
        if next != computing {
            self.computing.store(next, Ordering::Relaxed);
        }
    }

    /// Notes a first poll in a task of its own, which took `time`.
    pub(crate) fn note_poll(&self, time: Duration) {
        if time <= COMPUTING_TIME {
            self.computing.store(0, Ordering::Relaxed);
        }
        if time > SLOW_POLL_TIME {
            self.note_slow()
        } else {
            self.note_quick()
        }
    }
}

/// Passes ids through: they are hashes already, and only those of our own procedures are in the table.
#[derive(Default)]
struct ProcedureIdHasher(u64);

impl Hasher for ProcedureIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}

/// What one slow first poll adds to the slowness; a quick one takes 1 away. So more than one slow poll in 16 adds up.
const SLOW_POLL: u32 = 16;
/// The slowness from which a procedure counts as slow: four slow polls among few others. On a busy machine the OS stops a
/// worker for a moment now and then, which looks slow, too, and must not make a quick procedure count as slow. A procedure that
/// has become quick stops counting as slow.
const SLOW: u32 = 4 * SLOW_POLL - 12;
/// A first poll that takes longer than this is slow.
const SLOW_POLL_TIME: Duration = Duration::from_millis(1);
/// A first poll that takes longer than this costs more than a task of its own would: one to two microseconds, and a wake-up.
const COMPUTING_TIME: Duration = Duration::from_micros(30);
/// It must also take longer than this many times what starting it took: in a debug build, or under a profiler, everything is slow.
const COMPUTING_FACTOR: u32 = 16;
/// After this many slow samples in a row, calls of the procedure run in their own tasks while others wait.
const COMPUTING: u32 = 4;
/// The shortest time between two log lines about handlers of a procedure that block their threads.
const BLOCKED_LINES: Duration = Duration::from_secs(10);
/// The number of services that the text about an unknown procedure names.
const NAMES_SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Handler, Incoming};

    struct FakeService(&'static str, &'static [Procedure]);

    impl Service for FakeService {
        fn name(&self) -> &'static str {
            self.0
        }
        fn procedures(&self) -> &'static [Procedure] {
            self.1
        }
        fn call(&self, _: usize, call: Incoming) -> Handler {
            call.unknown()
        }
    }

    fn router(services: Vec<FakeService>) -> Result<Router, Error> {
        Router::new(
            services
                .into_iter()
                .map(|service| Arc::new(service) as Arc<dyn Service>)
                .collect(),
            TerminateProcedure::Served,
        )
    }

    const ONE: &[Procedure] = &[Procedure::new("a.One/x", 1)];
    const TWO: &[Procedure] = &[Procedure::new("a.Two/y", 1)];

    #[test]
    fn unservable_services_are_refused_by_name() {
        for (services, text) in [
            (vec![], "a server needs a service"),
            (
                vec![FakeService("a.One", ONE), FakeService("a.One", ONE)],
                "service a.One is added twice",
            ),
            (
                vec![FakeService("a.One", ONE), FakeService("a.Two", TWO)],
                "a.Two/y and a.One/x have the same 64-bit id",
            ),
            (
                vec![FakeService("rpc.control.v1.Control", ONE)],
                "service rpc.control.v1.Control is built in",
            ),
        ] {
            let error = router(services).unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
    }

    #[test]
    fn a_disabled_terminate_is_as_unknown_as_any_procedure() {
        let service: Arc<dyn Service> = Arc::new(FakeService("a.One", ONE));
        let router = Router::new(vec![service], TerminateProcedure::Unknown).unwrap();
        assert_eq!(router.find(control::TERMINATE.id()), None);
        assert!(router.find(control::PING.id()).is_some());
        assert_eq!(
            router.unknown(7).message(),
            "this server has no procedure with id 0x0000000000000007: is it an older build, or was the service not added to \
             it? It serves a.One"
        );
    }

    #[test]
    fn slow_polls_in_a_row_make_a_procedure_slow_and_many_quick_ones_forgive_it() {
        let router = router(vec![FakeService("a.One", ONE)]).unwrap();
        let route = router.route(router.find(1).unwrap());
        for _ in 0..3 {
            route.note_slow();
            assert_eq!(route.run(), Run::InOrder);
        }
        route.note_slow();
        assert_eq!(route.run(), Run::Spawn);
        for _ in 0..SLOW_POLL {
            route.note_poll(Duration::ZERO);
        }
        assert_eq!(route.run(), Run::InOrder);
    }

    #[test]
    fn only_a_procedure_that_always_computes_is_spread() {
        let router = router(vec![FakeService("a.One", ONE)]).unwrap();
        let route = router.route(router.find(1).unwrap());
        let long = 2 * COMPUTING_TIME;
        for _ in 0..100 {
            for _ in 0..COMPUTING - 1 {
                route.note_time(long, Duration::ZERO);
                assert!(!route.is_computing());
            }
            route.note_time(Duration::ZERO, Duration::ZERO);
        }
        for _ in 0..2 * COMPUTING {
            route.note_time(long, Duration::ZERO);
        }
        assert!(route.is_computing());
        assert_eq!(route.run(), Run::InOrder, "its one-ways keep their place");
        route.note_poll(Duration::ZERO);
        assert!(!route.is_computing());
        for _ in 0..2 * COMPUTING {
            route.note_time(long, long / COMPUTING_FACTOR);
        }
        assert!(!route.is_computing(), "everything is slow here");
    }

    #[test]
    fn rare_slow_polls_do_not_add_up() {
        let router = router(vec![FakeService("a.One", ONE)]).unwrap();
        let route = router.route(router.find(1).unwrap());
        for _ in 0..100 {
            route.note_slow();
            assert_eq!(route.run(), Run::InOrder);
            for _ in 0..SLOW_POLL {
                route.note_quick();
            }
        }
    }
}
