//! Keeper: the task that follows the resolver of a cluster, and decides which servers calls may pick.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, PoisonError, Weak, atomic::Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    task::JoinHandle,
    time::{self, Instant},
};
use tracing::{info, warn};

use super::{Cluster, Member, Selected, now, sends};
use crate::{
    Error,
    balance::{Candidate, Place, Selection},
    client::{ConnectionState, errors},
    discover::{Endpoint, Following},
};

/// The task of a keeper, which ends when this is dropped.
pub(super) struct KeeperTask(JoinHandle<()>);

impl Drop for KeeperTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the keeper, unless it runs.
///
/// # Errors
///
/// There is no runtime here.
pub(super) fn start(cluster: &Arc<Cluster>) -> Result<(), Error> {
    let mut keeper = cluster.keeper.lock().unwrap_or_else(PoisonError::into_inner);
    // The runtime in which it ran may be gone.
    if keeper.as_ref().is_none_or(|task| task.0.is_finished()) {
        let runtime = errors::check_runtime()?;
        let following = Following::of(Arc::clone(&cluster.plan.resolver));
        let wake = Arc::clone(&cluster.wake);
        let task = keep(Arc::downgrade(cluster), following, wake, runtime.clone());
        *keeper = Some(KeeperTask(runtime.spawn(task)));
    }
    Ok(())
}

enum Event {
    Found(Result<Vec<Endpoint>, Error>),
    Look,
}

async fn keep(cluster: Weak<Cluster>, mut following: Following, wake: Arc<Notify>, runtime: Handle) {
    let mut next_look = None;
    loop {
        let event = next_event(&mut following, &wake, next_look).await;
        let Some(cluster) = cluster.upgrade() else { return };
        if cluster.is_closed.load(SeqCst) {
            return;
        }
        match event {
            Event::Found(Ok(endpoints)) => cluster.set_endpoints(endpoints, &runtime),
            Event::Found(Err(error)) => {
                warn!(target = %cluster.plan.name, %error, "the resolver fails; the last endpoints stay");
                cluster.lock().failure = Some(error);
                cluster.changed.tell();
            }
            Event::Look => {}
        }
        let looked = cluster.look();
        if looked.wants_refresh {
            following.refresh();
        }
        next_look = looked.again;
    }
}

async fn next_event(following: &mut Following, wake: &Notify, next_look: Option<Instant>) -> Event {
    let mut found = pin!(following.next());
    let mut woken = pin!(wake.notified());
    let mut timer = pin!(next_look.map(time::sleep_until));
    poll_fn(|cx| {
        if let Poll::Ready(found) = found.as_mut().poll(cx) {
            return Poll::Ready(Event::Found(found));
        }
        let is_due = timer
            .as_mut()
            .as_pin_mut()
            .is_some_and(|timer| timer.poll(cx).is_ready());
        if is_due || woken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Look);
        }
        Poll::Pending
    })
    .await
}

/// What came of a look at all servers.
struct Looked {
    /// True if a server is lost, or none is there.
    wants_refresh: bool,
    /// When to look again, if time alone may change something.
    again: Option<Instant>,
}

impl Cluster {
    /// Takes a new set of endpoints: connects to those that are new, and leaves those that are gone.
    fn set_endpoints(self: &Arc<Self>, endpoints: Vec<Endpoint>, runtime: &Handle) {
        let now = now();
        let mut members = self.lock();
        // In an order of its own, so that a simulation of a seed is the same each time.
        let mut before: BTreeMap<String, (Arc<Member>, Candidate)> = BTreeMap::new();
        let (list, candidates) = (
            std::mem::take(&mut members.list),
            std::mem::take(&mut members.candidates),
        );
        for (member, candidate) in list.into_iter().zip(candidates) {
            before.insert(member.endpoint().address().to_owned(), (member, candidate));
        }
        let count = endpoints.len();
        let mut new = 0;
        for endpoint in endpoints {
            let (member, candidate) = match before.remove(endpoint.address()) {
                Some((member, mut candidate))
                    if member.endpoint().server_name() == endpoint.server_name() =>
                {
                    candidate.endpoint = Arc::new(endpoint);
                    (member, candidate)
                }
                other => {
                    if let Some((member, _)) = other {
                        before.insert(
                            member.endpoint().address().to_owned(),
                            (member, Candidate::new(Arc::new(endpoint.clone()), now)),
                        );
                    }
                    new += 1;
                    let client = (self.plan.make)(&endpoint);
                    let candidate = Candidate::new(Arc::new(endpoint), now);
                    let measured = Arc::clone(&candidate.measured);
                    let member = Member::new(
                        Arc::clone(&candidate.endpoint),
                        measured,
                        client,
                        &self.wake,
                        runtime,
                    );
                    (member, candidate)
                }
            };
            members.list.push(member);
            members.candidates.push(candidate);
        }
        members.has_set = true;
        members.failure = None;
        // A look makes new ones.
        members.places.clear();
        let gone: Vec<Arc<Member>> = before.into_values().map(|(member, _)| member).collect();
        info!(target = %self.plan.name, endpoints = count, new, gone = gone.len(), "the resolver found endpoints");
        members
            .leaving
            .extend(gone.iter().filter(|member| member.has_sends()).cloned());
        drop(members);
        for member in gone.into_iter().filter(|member| member.has_sends()) {
            runtime.spawn(sends::depart(Arc::downgrade(self), member));
        }
        self.changed.tell();
    }

    /// Looks at all servers, and decides which of them calls may pick.
    fn look(&self) -> Looked {
        let now = now();
        let mut members = self.lock();
        let members = &mut *members;
        let mut is_lost = false;
        for (member, candidate) in members.list.iter().zip(&mut members.candidates) {
            match (member.state() == ConnectionState::Ready, candidate.ready_at) {
                (true, None) => candidate.ready_at = Some(now),
                (false, Some(_)) => {
                    is_lost = true;
                    candidate.ready_at = None;
                }
                _ => {}
            }
        }
        let was_growing = members.candidates.iter().any(|candidate| candidate.changes(now));
        let plan = &self.plan;
        let (selection, places) = Selection::make(
            &mut members.candidates,
            plan.outliers.as_ref(),
            plan.zone.as_deref(),
            &*plan.balancer,
            now,
        );
        self.say_changes(members, &places, selection.is_forced);
        let is_same = members.places.len() == places.len()
            && members
                .places
                .iter()
                .zip(&places)
                .all(|(before, after)| before.is_like(after));
        let is_empty = selection.is_empty();
        if !is_same || was_growing || places.is_empty() {
            let ids = members.candidates.iter();
            let ids = ids.map(|candidate| Arc::as_ptr(&candidate.measured).addr());
            let selected = Arc::new(Selected {
                selection,
                members: members.list.clone(),
                places: ids.zip(0..).collect(),
            });
            *self.selected.write().unwrap_or_else(PoisonError::into_inner) = selected;
        }
        members.places = places;
        let changes = members.candidates.iter().any(|candidate| candidate.changes(now));
        let is_busy = members
            .candidates
            .iter()
            .any(|candidate| candidate.measured.in_flight() > 0);
        self.is_watched.store(is_busy || changes, SeqCst);
        // A call may have begun meanwhile, and not have woken the keeper.
        let is_busy = is_busy
            || members
                .candidates
                .iter()
                .any(|candidate| candidate.measured.in_flight() > 0);
        // The resolver is asked again while calls wait, even if it has returned.
        let is_awaited = is_empty && self.waiting.load(SeqCst) > 0;
        self.changed.tell();
        let _ = members;
        Looked {
            wants_refresh: is_lost || is_empty,
            again: (is_busy || changes || is_awaited).then(|| now + LOOK_EVERY),
        }
    }

    /// Logs which servers are out, and which are back.
    fn say_changes(&self, members: &super::Members, places: &[Place], is_forced: bool) {
        if members.places.len() != places.len() {
            return;
        }
        let changes = members.places.iter().zip(places).zip(&members.list);
        for ((before, after), member) in changes.filter(|((before, after), _)| !before.is_like(after)) {
            let (target, server) = (&self.plan.name, member.address());
            match (before, after) {
                (_, Place::Out(why)) => {
                    warn!(%target, server, why, is_forced, "a server gets no calls for a while")
                }
                (_, Place::Hangs(time)) => {
                    warn!(%target, server, quiet = ?time, is_forced, "a server hangs, and gets no calls")
                }
                (Place::Out(_) | Place::Hangs(_), Place::In) => {
                    info!(%target, server, "a server gets calls again")
                }
                _ => {}
            }
        }
    }
}

/// How often servers are looked at while calls are in flight.
const LOOK_EVERY: Duration = Duration::from_millis(500);
