//! Selection: which servers can take calls now, and what picks among them.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Backend, Balancer, Measured, Outliers, Pick, Picker, outliers::Standing};
use crate::{base::panic::Panic, discover::Endpoint};

/// One server of which a selection is made.
pub(crate) struct Candidate {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) measured: Arc<Measured>,
    standing: Standing,
    /// Since when it is connected; none if it is not.
    pub(crate) ready_at: Option<Instant>,
}

/// Whether a server gets calls, and if not, why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    In,
    /// Its weight is 0.
    NoWeight,
    NotReady,
    /// It is out as an outlier, for this reason.
    Out(String),
    /// It has not replied for this time.
    Hangs(Duration),
}

impl Place {
    /// True if it is the same but for what changes all the time.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// The servers that can take calls now, and what picks among them.
pub(crate) struct Selection {
    /// The servers in the client's zone; none without a zone.
    own: Option<Group>,
    /// The share of the calls that goes to the client's zone, from 0 to 1.
    own_share: f64,
    /// The servers in other zones; all servers without a zone.
    others: Option<Group>,
    /// True if servers take calls that should not, because no other is there.
    pub(crate) is_forced: bool,
}

struct Group {
    backends: Vec<Backend>,
    /// None if the balancer panicked.
    picker: Option<Picker>,
}

impl Candidate {
    pub(crate) fn new(endpoint: Arc<Endpoint>, now: Instant) -> Self {
        Self {
            endpoint,
            measured: Arc::new(Measured::new(now)),
            standing: Standing::default(),
            ready_at: None,
        }
    }

    /// True if something changes by time alone: it is out, or its weight grows.
    pub(crate) fn changes(&self, now: Instant) -> bool {
        self.standing.why_out().is_some() || self.new_since().is_some_and(|at| now < at + SLOW_START)
    }

    /// Since when it gets calls; none if it gets none.
    fn new_since(&self) -> Option<Instant> {
        let ready_at = self.ready_at?;
        Some(
            self.standing
                .back_at()
                .map_or(ready_at, |back_at| back_at.max(ready_at)),
        )
    }

    fn place(&self) -> Place {
        if self.endpoint.weight() == 0 {
            return Place::NoWeight;
        }
        if self.ready_at.is_none() {
            return Place::NotReady;
        }
        match self.standing.why_out() {
            Some(why) => Place::Out(why.to_owned()),
            None => Place::In,
        }
    }
}

impl Selection {
    /// Makes a selection without a server.
    pub(crate) fn none() -> Self {
        Self {
            own: None,
            own_share: 0.0,
            others: None,
            is_forced: false,
        }
    }

    /// Decides who gets calls. Beside the selection it returns what becomes of each candidate.
    pub(crate) fn make(
        candidates: &mut [Candidate],
        rule: Option<&Outliers>,
        zone: Option<&str>,
        balancer: &dyn Balancer,
        now: Instant,
    ) -> (Self, Vec<Place>) {
        if let Some(rule) = rule {
            find_outliers(candidates, rule, now);
        }
        let mut places: Vec<Place> = candidates.iter().map(Candidate::place).collect();
        find_hanging(candidates, &mut places, now);
        let is_in = |place: &Place| *place == Place::In;
        let is_forced = !places.iter().any(is_in);
        let takes =
            |place: &Place| is_in(place) || is_forced && matches!(place, Place::Out(_) | Place::Hangs(_));
        let taking: Vec<(usize, &Candidate)> = candidates
            .iter()
            .enumerate()
            .filter(|(index, _)| takes(&places[*index]))
            .collect();
        let has_old = taking
            .iter()
            .any(|(_, one)| one.new_since().is_some_and(|at| at + SLOW_START <= now));
        let is_own = |one: &Candidate| zone.is_some() && one.endpoint.zone() == zone;
        let group = |own: bool| {
            let members = taking.iter().filter(|(_, one)| is_own(one) == own);
            let backends = members
                .map(|(index, one)| one.backend(*index, has_old, now))
                .collect();
            Group::new(backends, balancer)
        };
        let usable = |own: bool| {
            let all = candidates
                .iter()
                .filter(|one| is_own(one) == own && one.endpoint.weight() > 0);
            let taking = taking.iter().filter(|(_, one)| is_own(one) == own);
            (taking.count(), all.count())
        };
        let (own, all_own) = usable(true);
        // While five of seven servers of our zone are there, they take all of its calls.
        let own_share = if all_own == 0 {
            0.0
        } else {
            (1.4 * own as f64 / all_own as f64).min(1.0)
        };
        let selection = Self {
            own: group(true),
            own_share,
            others: group(false),
            is_forced: is_forced && !taking.is_empty(),
        };
        (selection, places)
    }

    /// True if there is no server for a call.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_none() && self.others.is_none()
    }

    /// Picks a server that is not among `tried`; none if there is none.
    ///
    /// # Errors
    ///
    /// The balancer has panicked.
    pub(crate) fn pick(
        &self,
        pick: &Pick<'_>,
        tried: &[Arc<Measured>],
    ) -> Result<Option<&Backend>, Panicked> {
        let own_first = self.own_share >= 1.0 || fastrand::f64() < self.own_share;
        let (one, other) = match own_first {
            true => (&self.own, &self.others),
            false => (&self.others, &self.own),
        };
        for group in [one, other].into_iter().flatten() {
            if let Some(backend) = group.pick(pick, tried)? {
                return Ok(Some(backend));
            }
        }
        Ok(None)
    }
}

/// The balancer of the user has panicked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panicked;

impl Group {
    /// Makes a group; none if there is no backend.
    fn new(backends: Vec<Backend>, balancer: &dyn Balancer) -> Option<Self> {
        if backends.is_empty() {
            return None;
        }
        let picker = Panic::catch(|| balancer.picker(&backends)).ok();
        Some(Self { backends, picker })
    }

    fn pick(&self, pick: &Pick<'_>, tried: &[Arc<Measured>]) -> Result<Option<&Backend>, Panicked> {
        let picker = self.picker.as_ref().ok_or(Panicked)?;
        let first = Panic::catch(|| picker(pick)).map_err(|_| Panicked)? % self.backends.len();
        let (behind, before) = (&self.backends[first..], &self.backends[..first]);
        let is_tried = |backend: &Backend| tried.iter().any(|tried| Arc::ptr_eq(tried, backend.measured()));
        Ok(behind.iter().chain(before).find(|backend| !is_tried(backend)))
    }
}

impl Candidate {
    /// The backend that balancers see; its weight grows while it is new beside others that are not.
    fn backend(&self, index: usize, has_old: bool, now: Instant) -> Backend {
        let age = self
            .new_since()
            .map_or(SLOW_START, |at| now.saturating_duration_since(at));
        let grown = if has_old {
            (age.as_secs_f64() / SLOW_START.as_secs_f64()).min(1.0)
        } else {
            1.0
        };
        let weight = f64::from(self.endpoint.weight()) * (0.1 + 0.9 * grown);
        Backend::new(
            Arc::clone(&self.endpoint),
            weight,
            Arc::clone(&self.measured),
            index,
        )
    }
}

/// Puts outliers out, and lets those back whose time is over.
fn find_outliers(candidates: &mut [Candidate], rule: &Outliers, now: Instant) {
    let median = median_latency(candidates, now);
    let most = rule.most(candidates.len());
    for candidate in &mut *candidates {
        candidate.standing.look_back(&candidate.measured, rule, now);
    }
    let mut out = candidates
        .iter()
        .filter(|one| one.standing.why_out().is_some())
        .count();
    for candidate in candidates {
        let why = candidate.standing.judge(&candidate.measured, rule, now);
        let why = why.or_else(|| candidate.is_far_slower(median?, now));
        if let Some(why) = why.filter(|_| out < most) {
            candidate.standing.eject(why, rule, now);
            out += 1;
        }
    }
}

impl Candidate {
    fn is_far_slower(&self, median: Duration, now: Instant) -> Option<String> {
        if self.standing.why_out().is_some() {
            return None;
        }
        let latency = self.measured.latency(now)?;
        let is_slow = latency >= SLOW && latency > median * FAR_SLOWER;
        is_slow.then(|| format!("its replies take {latency:?}, and those of others {median:?}"))
    }
}

/// The median of the latencies of enough servers.
fn median_latency(candidates: &[Candidate], now: Instant) -> Option<Duration> {
    let known = candidates.iter().filter(|one| one.ready_at.is_some());
    let mut known: Vec<Duration> = known.filter_map(|one| one.measured.latency(now)).collect();
    known.sort_unstable();
    (known.len() >= ENOUGH_SERVERS).then(|| known[known.len() / 2])
}

/// Leaves servers alone that do not reply while others do.
fn find_hanging(candidates: &[Candidate], places: &mut [Place], now: Instant) {
    let replies = |one: &Candidate| one.measured.quiet(now) < REPLIES;
    let mut others = candidates.iter().zip(&*places);
    if !others.any(|(one, place)| *place == Place::In && replies(one)) {
        return;
    }
    for (candidate, place) in candidates.iter().zip(places) {
        if *place == Place::In && candidate.measured.hangs(now) {
            *place = Place::Hangs(candidate.measured.quiet(now));
        }
    }
}

/// For how long the weight of a new server grows.
const SLOW_START: Duration = Duration::from_secs(10);
/// Of how many servers a median says something.
const ENOUGH_SERVERS: usize = 5;
/// Replies that take less are no reason to leave a server alone.
const SLOW: Duration = Duration::from_millis(200);
/// How many times longer than the median the replies of an outlier take.
const FAR_SLOWER: u32 = 10;
/// A server replies if no call has waited longer.
const REPLIES: Duration = Duration::from_millis(500);

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::balance::{Ended, First, RoundRobin};

    /// Backends with these weights.
    pub(in crate::balance) fn backends(weights: &[f64]) -> Vec<Backend> {
        let backend = |(index, weight): (usize, &f64)| {
            let endpoint = Arc::new(Endpoint::new(format!("mem:{index}")));
            Backend::new(endpoint, *weight, Arc::new(Measured::new(Instant::now())), index)
        };
        weights.iter().enumerate().map(backend).collect()
    }

    /// How often each backend is picked.
    pub(in crate::balance) fn counts(
        balancer: &dyn Balancer,
        backends: &[Backend],
        picks: usize,
    ) -> Vec<usize> {
        let picker = balancer.picker(backends);
        let mut counts = vec![0; backends.len()];
        let pick = Pick {
            procedure: "",
            hash: None,
        };
        (0..picks).for_each(|_| counts[picker(&pick)] += 1);
        counts
    }

    const SECOND: Duration = Duration::from_secs(1);

    struct Servers {
        candidates: Vec<Candidate>,
        now: Instant,
        zone: Option<&'static str>,
    }

    impl Servers {
        /// Servers that are connected for long.
        fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
            let begin = Instant::now();
            let candidate = |endpoint| {
                let mut candidate = Candidate::new(Arc::new(endpoint), begin);
                candidate.ready_at = Some(begin);
                candidate
            };
            Self {
                candidates: endpoints.into_iter().map(candidate).collect(),
                now: begin + 60 * SECOND,
                zone: None,
            }
        }

        fn of(count: usize) -> Self {
            Self::new((0..count).map(|index| Endpoint::new(format!("mem:{index}"))))
        }

        fn select(&mut self) -> (Selection, Vec<Place>) {
            let rule = Outliers::default();
            Selection::make(
                &mut self.candidates,
                Some(&rule),
                self.zone,
                &RoundRobin,
                self.now,
            )
        }

        fn places(&mut self) -> Vec<Place> {
            self.select().1
        }

        fn calls(&self, index: usize, count: u32, ended: Ended) {
            for _ in 0..count {
                let measured = &self.candidates[index].measured;
                measured.begin(true, self.now);
                measured.end(true, Duration::from_millis(1), ended, self.now);
            }
        }

        /// How many of 1000 calls each gets.
        fn shares(&mut self) -> Vec<usize> {
            let (selection, _) = self.select();
            let mut shares = vec![0; self.candidates.len()];
            for _ in 0..1000 {
                let pick = Pick {
                    procedure: "",
                    hash: None,
                };
                let backend = selection.pick(&pick, &[]).unwrap().unwrap();
                let is_picked = |one: &Candidate| Arc::ptr_eq(&one.measured, backend.measured());
                shares[self.candidates.iter().position(is_picked).unwrap()] += 1;
            }
            shares
        }
    }

    fn out(why: &str) -> Place {
        Place::Out(why.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_put_a_server_out_and_each_time_for_longer() {
        let mut servers = Servers::of(3);
        servers.calls(1, 4, Ended::Bad);
        assert_eq!(servers.places()[1], Place::In);
        servers.calls(1, 1, Ended::Bad);
        assert_eq!(servers.places()[1], out("5 calls in a row have failed"));
        servers.now += 29 * SECOND;
        assert_eq!(servers.shares()[1], 0);
        servers.now += SECOND;
        assert_eq!(servers.places()[1], Place::In);
        servers.calls(1, 1, Ended::Bad);
        assert_ne!(servers.places()[1], Place::In);
        servers.now += 59 * SECOND;
        assert_ne!(servers.places()[1], Place::In);
        servers.now += SECOND;
        assert_eq!(servers.places()[1], Place::In);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_whose_calls_fail_more_often_than_not_is_out() {
        let mut servers = Servers::of(4);
        let _ = servers.places();
        for _ in 0..10 {
            servers.calls(0, 2, Ended::Bad);
            servers.calls(0, 1, Ended::Good);
        }
        servers.now += 10 * SECOND;
        assert_eq!(servers.places()[0], out("20 of 30 calls have failed"));
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_half_of_the_servers_are_out() {
        let mut servers = Servers::of(5);
        (0..5).for_each(|index| servers.calls(index, 9, Ended::Bad));
        let is_out = |place: &&Place| matches!(place, Place::Out(_));
        assert_eq!(servers.places().iter().filter(is_out).count(), 2);
        let mut alone = Servers::of(1);
        alone.calls(0, 9, Ended::Bad);
        assert_eq!(alone.places(), [Place::In]);
    }

    #[tokio::test(start_paused = true)]
    async fn if_all_others_are_lost_those_that_are_out_take_calls() {
        let mut servers = Servers::of(2);
        servers.calls(0, 5, Ended::Bad);
        assert!(!servers.select().0.is_forced);
        servers.candidates[1].ready_at = None;
        let (selection, places) = servers.select();
        assert_eq!(places, [out("5 calls in a row have failed"), Place::NotReady]);
        assert!(selection.is_forced);
        assert_eq!(servers.shares(), [1000, 0]);
        servers.candidates[0].ready_at = None;
        assert!(servers.select().0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_far_slower_than_the_median_is_out() {
        let mut servers = Servers::of(5);
        (0..5).for_each(|index| servers.calls(index, 1, Ended::Good));
        let measured = Arc::clone(&servers.candidates[3].measured);
        measured.begin(true, servers.now);
        measured.end(true, SECOND, Ended::Good, servers.now);
        assert_eq!(
            servers.places()[3],
            out("its replies take 1s, and those of others 1ms")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_left_alone_while_others_reply() {
        let mut servers = Servers::of(2);
        servers.candidates[0].measured.begin(true, servers.now);
        servers.now += 2 * SECOND;
        assert_eq!(servers.places(), [Place::Hangs(2 * SECOND), Place::In]);
        assert_eq!(servers.shares(), [0, 1000]);
        // If all hang, none of them is worse than the others.
        servers.candidates[1].measured.begin(true, servers.now);
        servers.now += 2 * SECOND;
        assert_eq!(servers.places(), [Place::In, Place::In]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_always_slow_does_not_hang() {
        let mut servers = Servers::of(2);
        let measured = Arc::clone(&servers.candidates[0].measured);
        measured.begin(true, servers.now);
        measured.end(true, 5 * SECOND, Ended::Good, servers.now);
        measured.begin(true, servers.now);
        servers.now += 4 * SECOND;
        assert_eq!(servers.places()[0], Place::In);
    }

    #[tokio::test(start_paused = true)]
    async fn the_weight_of_a_new_server_grows_beside_old_ones() {
        let mut servers = Servers::of(2);
        servers.candidates[1].ready_at = Some(servers.now);
        let share = servers.shares()[1];
        assert!((85..=95).contains(&share), "{share}");
        servers.now += 5 * SECOND;
        let share = servers.shares()[1];
        assert!((345..=365).contains(&share), "{share}");
        servers.now += 5 * SECOND;
        assert_eq!(servers.shares(), [500, 500]);
        // Where all are new, none of them is slower.
        let now = servers.now;
        servers
            .candidates
            .iter_mut()
            .for_each(|one| one.ready_at = Some(now));
        assert_eq!(servers.shares(), [500, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_stay_in_their_zone_while_most_of_its_servers_are_there() {
        let zoned =
            |index: usize| Endpoint::new(format!("mem:{index}")).with_zone(if index < 4 { "a" } else { "b" });
        let mut servers = Servers::new((0..8).map(zoned));
        servers.zone = Some("a");
        assert_eq!(servers.shares()[4..], [0; 4]);
        servers.candidates[0].ready_at = None;
        assert_eq!(servers.shares()[4..], [0; 4]);
        // With half of them, seven of ten calls stay.
        servers.candidates[1].ready_at = None;
        let stay: usize = servers.shares()[..4].iter().sum();
        assert!((620..780).contains(&stay), "{stay}");
        servers.candidates[2].ready_at = None;
        servers.candidates[3].ready_at = None;
        assert_eq!(servers.shares()[4..].iter().sum::<usize>(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_weight_of_zero_gets_no_calls() {
        let mut servers = Servers::new([Endpoint::new("mem:0").with_weight(0), Endpoint::new("mem:1")]);
        assert_eq!(servers.places()[0], Place::NoWeight);
        assert_eq!(servers.shares(), [0, 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn servers_that_were_tried_are_not_picked_again() {
        let mut servers = Servers::of(3);
        let (selection, _) = servers.select();
        let pick = Pick {
            procedure: "",
            hash: None,
        };
        let mut tried = Vec::new();
        while let Some(backend) = selection.pick(&pick, &tried).unwrap() {
            tried.push(Arc::clone(backend.measured()));
        }
        assert_eq!(tried.len(), 3);
    }

    struct Broken;

    impl Balancer for Broken {
        fn picker(&self, _: &[Backend]) -> Picker {
            Box::new(|_: &Pick<'_>| panic!("no backend is good enough"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_balancer_may_panic_or_return_any_index() {
        let mut servers = Servers::of(3);
        let pick = Pick {
            procedure: "",
            hash: None,
        };
        let make = |servers: &mut Servers, balancer: &dyn Balancer| {
            Selection::make(&mut servers.candidates, None, None, balancer, servers.now).0
        };
        assert!(make(&mut servers, &Broken).pick(&pick, &[]).is_err());
        assert!(make(&mut servers, &First).pick(&pick, &[]).is_ok());
    }
}
