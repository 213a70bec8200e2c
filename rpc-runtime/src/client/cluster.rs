//! Cluster: a client of several servers at a time. It follows a resolver, keeps a connection to each endpoint, and picks one for each call.
//!
//! `keeper` has the task that does so, `member` one server and its connections, `sends` what flush, barrier, close and terminate do with
//! several servers, `view` what users see. How a call is made, and made again elsewhere, stands in `call/balanced.rs`.

mod keeper;
mod member;
mod sends;
mod view;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{sync::Notify, time::Instant};

pub(super) use self::member::{CallOnMember, Member, SendOnMember};
pub use self::view::{EndpointState, EndpointStatus};
use self::{keeper::KeeperTask, sends::Departed};
use super::{
    Channel, Client, ConnectionState, deadline::Deadline, errors, known_procedures::KnownProcedures, timer,
};
use crate::{
    Code, Error, Load, Phase,
    balance::{Balancer, Candidate, Measured, Outliers, Pick, Place, Selection},
    base::ordered_wakes::Changes,
    discover::{DynResolver, Endpoint},
};

/// Several servers of one service, of which each call picks one.
pub(super) struct Cluster {
    plan: ClusterPlan,
    members: Mutex<Members>,
    /// What calls pick from.
    selected: RwLock<Arc<Selected>>,
    /// Told when calls that wait may find something new.
    changed: Arc<Changes>,
    /// Wakes the keeper.
    wake: Arc<Notify>,
    keeper: Mutex<Option<KeeperTask>>,
    /// True while the keeper looks at the time, because calls are in flight.
    is_watched: AtomicBool,
    is_closed: AtomicBool,
    /// How many calls wait for a server.
    waiting: AtomicUsize,
}

/// How a cluster is made.
pub(super) struct ClusterPlan {
    /// The target, as the user wrote it.
    pub(super) name: Arc<str>,
    pub(super) resolver: Arc<dyn DynResolver>,
    pub(super) balancer: Arc<dyn Balancer>,
    pub(super) outliers: Option<Outliers>,
    pub(super) zone: Option<String>,
    /// Makes the client of one server.
    pub(super) make: Box<dyn Fn(&Endpoint) -> Client + Send + Sync>,
    /// What may be called where servers speak another protocol.
    pub(super) procedures: Arc<KnownProcedures>,
    /// Shows the state to those that watch it.
    pub(super) front: Arc<Channel>,
    pub(super) max_waiting: usize,
}

/// All servers, and what is known of the resolver.
struct Members {
    /// In the resolver's order.
    list: Vec<Arc<Member>>,
    /// Of each of them: what it is judged by.
    candidates: Vec<Candidate>,
    /// Of each of them: what became of it when it was judged last.
    places: Vec<Place>,
    /// True once the resolver has found a set.
    has_set: bool,
    /// Why the resolver finds nothing now.
    failure: Option<Error>,
    /// Servers that the resolver has no more, until their one-way calls are accounted for.
    leaving: Vec<Arc<Member>>,
    departed: Departed,
}

/// What calls pick from.
struct Selected {
    selection: Selection,
    /// The servers of which the selection was made, by `Backend::index`. In a simulation they are dropped in the same order each time.
    members: Vec<Arc<Member>>,
}

impl Cluster {
    pub(super) fn new(plan: ClusterPlan) -> Arc<Self> {
        Arc::new(Self {
            plan,
            members: Mutex::new(Members {
                list: Vec::new(),
                candidates: Vec::new(),
                places: Vec::new(),
                has_set: false,
                failure: None,
                leaving: Vec::new(),
                departed: Departed::default(),
            }),
            selected: RwLock::new(Arc::new(Selected {
                selection: Selection::none(),
                members: Vec::new(),
            })),
            changed: Arc::default(),
            wake: Arc::default(),
            keeper: Mutex::default(),
            is_watched: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        })
    }

    /// What may be called where servers speak another protocol.
    pub(super) fn procedures(&self) -> &KnownProcedures {
        &self.plan.procedures
    }

    /// Picks a server for a call, and waits for one if there is none. Returns none if only servers among `tried` are there.
    ///
    /// # Errors
    ///
    /// There is no server, and the call fails fast, or its deadline has passed; or the client is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn pick(
        self: &Arc<Self>,
        pick: &Pick<'_>,
        tried: &[Arc<Measured>],
        fails_fast: bool,
        deadline: &Deadline,
    ) -> Result<Option<Arc<Member>>, Error> {
        let mut changed = self.changed.subscribe();
        if let Some(picked) = self.pick_now(pick, tried)? {
            return Ok(picked);
        }
        let _waiting = Waiting::join(self)?;
        let wait = async {
            // The resolver is asked again while calls find no server.
            self.wake.notify_one();
            loop {
                keeper::start(self)?;
                if let Some(picked) = self.pick_now(pick, tried)? {
                    return Ok(picked);
                }
                if let Some(why) = self.refusal().filter(|_| fails_fast) {
                    return Err(why);
                }
                changed.changed().await;
            }
        };
        let picked = match deadline.at() {
            None => wait.await,
            Some(at) => {
                errors::check_runtime()?;
                timer::until(at, wait)
                    .await
                    .unwrap_or_else(|| Err(self.late(deadline)))
            }
        };
        picked.map_err(|error| self.locate(error))
    }

    /// Picks a server; none if there is none at all, and `Some(None)` if all of them were tried.
    fn pick_now(
        &self,
        pick: &Pick<'_>,
        tried: &[Arc<Measured>],
    ) -> Result<Option<Option<Arc<Member>>>, Error> {
        if self.is_closed.load(SeqCst) {
            return Err(errors::closed());
        }
        let selected = Arc::clone(&self.selected.read().unwrap_or_else(PoisonError::into_inner));
        if selected.selection.is_empty() {
            return Ok(None);
        }
        let picked = selected.selection.pick(pick, tried).map_err(|_| {
            Error::local(Code::Internal, "the balancer panicked: ClientBuilder::balancer")
                .with_phase(Phase::Connect)
        })?;
        let member = picked.and_then(|backend| selected.members.get(backend.index()));
        Ok(Some(member.cloned()))
    }

    /// True if there is a server that is not among `tried`.
    pub(super) fn has_other(&self, pick: &Pick<'_>, tried: &[Arc<Measured>]) -> bool {
        matches!(self.pick_now(pick, tried), Ok(Some(Some(_))))
    }

    /// Waits until there are other servers to pick from than now, or until the deadline: false then.
    pub(super) async fn changes_by(&self, deadline: &Deadline) -> bool {
        let mut changed = self.changed.subscribe();
        match deadline.at() {
            None => {
                changed.changed().await;
                true
            }
            Some(at) => timer::until(at, changed.changed()).await.is_some(),
        }
    }

    /// Notes a one-way call to a server, until a queue has it.
    ///
    /// # Errors
    ///
    /// There is no runtime here.
    pub(super) fn begin_send(self: &Arc<Self>, member: &Arc<Member>) -> Result<SendOnMember, Error> {
        let (sending, is_first) = member.begin_send();
        if is_first {
            let mut members = self.lock();
            let mut all = members.list.iter().chain(&members.leaving);
            // It has left since it was picked.
            if !all.any(|one| Arc::ptr_eq(one, member)) {
                let runtime = errors::check_runtime()?;
                members.leaving.push(Arc::clone(member));
                runtime.spawn(sends::depart(Arc::downgrade(self), Arc::clone(member)));
            }
        }
        Ok(sending)
    }

    /// Notes that a call begins: while calls are in flight, the keeper looks at the time now and then.
    fn note_call(&self) {
        if !self.is_watched.swap(true, SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Why there is no server, if it is known that there is none.
    fn refusal(&self) -> Option<Error> {
        let members = self.lock();
        if members.list.is_empty() {
            let known = members.has_set.then(|| {
                let text = format!(
                    "there is no server of {}: its resolver found none",
                    self.plan.name
                );
                Error::local(Code::Unavailable, text)
            });
            return members.failure.clone().map(no_endpoints).or(known);
        }
        let failures: Option<Vec<_>> = members.list.iter().map(|member| member.failure()).collect();
        let failures = failures?;
        let some: Vec<String> = failures
            .iter()
            .take(SHOWN)
            .map(|(address, error)| format!("{address}: {}", error.message()))
            .collect();
        let more = failures.len().saturating_sub(SHOWN);
        let more = if more > 0 {
            format!("; and {more} more")
        } else {
            String::new()
        };
        let count = failures.len();
        let text = format!(
            "none of {count} servers can be reached: {}{more}",
            some.join("; ")
        );
        Some(Error::local(Code::Unavailable, text))
    }

    /// The error of a call that found no server by its deadline.
    fn late(&self, deadline: &Deadline) -> Error {
        match self.refusal() {
            Some(why) => {
                let text = format!("no server within {deadline}: {}", why.message());
                Error::local(Code::Unavailable, text)
            }
            None => {
                let text = format!("no server within {deadline}: none has answered yet");
                Error::local(Code::DeadlineExceeded, text)
            }
        }
    }

    fn locate(&self, error: Error) -> Error {
        error
            .with_peer(Arc::clone(&self.plan.name))
            .with_phase(Phase::Connect)
    }

    /// The state of the best connection.
    pub(super) fn state(&self) -> ConnectionState {
        if self.is_closed.load(SeqCst) {
            return ConnectionState::Closed;
        }
        let members = self.lock();
        let states: Vec<_> = members.list.iter().map(|member| member.state()).collect();
        let has = |state| states.contains(&state);
        if has(ConnectionState::Ready) {
            ConnectionState::Ready
        } else if has(ConnectionState::Connecting) || has(ConnectionState::Idle) {
            ConnectionState::Connecting
        } else if has(ConnectionState::BackingOff) || members.failure.is_some() {
            ConnectionState::BackingOff
        } else if self.is_started() {
            ConnectionState::Connecting
        } else {
            ConnectionState::Idle
        }
    }

    /// Why there is no server; none if there is one, or if nothing has failed.
    pub(super) fn last_failure(&self) -> Option<Error> {
        match self.state() {
            ConnectionState::Ready => None,
            _ => self.refusal().map(|error| self.locate(error)),
        }
    }

    /// Connects, and waits for a server.
    ///
    /// # Errors
    ///
    /// The resolver has failed, or found no server, or no server can be reached.
    pub(super) async fn connect(self: &Arc<Self>, deadline: &Deadline) -> Result<(), Error> {
        let pick = Pick {
            procedure: "",
            hash: None,
        };
        self.pick(&pick, &[], true, deadline).await.map(drop)
    }

    /// The client of one server that can take calls.
    pub(super) async fn client_of_one(
        self: &Arc<Self>,
        fails_fast: bool,
        deadline: &Deadline,
    ) -> Result<Client, Error> {
        let pick = Pick {
            procedure: "",
            hash: None,
        };
        let picked = self.pick(&pick, &[], fails_fast, deadline).await?;
        picked
            .map(|member| member.client().clone())
            .ok_or_else(errors::not_connected)
    }

    /// The sum of what all connections hold.
    pub(super) fn load(&self) -> Load {
        let waiting = Load {
            waiting: self.waiting.load(SeqCst),
            ..Load::default()
        };
        self.all()
            .iter()
            .map(|member| member.client().load())
            .fold(waiting, Load::and)
    }

    fn is_started(&self) -> bool {
        self.keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members of now, and those that leave.
    fn all(&self) -> Vec<Arc<Member>> {
        let members = self.lock();
        members.list.iter().chain(&members.leaving).cloned().collect()
    }

    fn member_at(&self, address: &str) -> Option<Arc<Member>> {
        let members = self.lock();
        let mut list = members.list.iter();
        list.find(|member| member.endpoint().address() == address || member.address() == address)
            .cloned()
    }
}

fn no_endpoints(error: Error) -> Error {
    let text = format!("the resolver fails: {}", error.message());
    Error::local(Code::Unavailable, text)
}

/// One of the calls that wait for a server.
struct Waiting<'a>(&'a Cluster);

impl<'a> Waiting<'a> {
    fn join(cluster: &'a Cluster) -> Result<Self, Error> {
        let max = cluster.plan.max_waiting;
        if cluster.waiting.fetch_add(1, SeqCst) >= max {
            cluster.waiting.fetch_sub(1, SeqCst);
            return Err(errors::too_many_waiting(max));
        }
        Ok(Self(cluster))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.plan.name)
            .finish_non_exhaustive()
    }
}

/// How many servers an error names.
const SHOWN: usize = 3;

/// When something happened; in one place, so that it is the clock of tokio everywhere.
fn now() -> Instant {
    Instant::now()
}
