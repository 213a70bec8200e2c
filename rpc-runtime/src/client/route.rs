//! Route: the addresses of one service, in the order in which they are tried.

use std::sync::Arc;

use super::{failure::Obstacle, keeper::Target};
use crate::Error;

/// The addresses of one service, in the order in which they are tried: one after the other, then the first again.
#[derive(Debug)]
pub(super) struct Route {
    places: Vec<Place>,
    /// The one that is tried next, or connected to.
    at: usize,
    /// How many before that have failed in this round.
    failed: usize,
}

/// One address.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) target: Target,
    /// As the user wrote it.
    pub(super) address: Arc<str>,
    /// Why it failed in this round.
    obstacle: Option<Obstacle>,
}

impl Place {
    pub(super) fn new(target: Target, address: Arc<str>) -> Self {
        Self {
            target,
            address,
            obstacle: None,
        }
    }
}

impl Route {
    /// A route that begins with the first of `places`, of which there is at least one.
    pub(super) fn new(places: Vec<Place>) -> Self {
        Self {
            places,
            at: 0,
            failed: 0,
        }
    }

    /// All addresses, as errors name them.
    pub(super) fn name(&self) -> Arc<str> {
        match &self.places[..] {
            [place] => Arc::clone(&place.address),
            places => {
                let addresses: Vec<&str> = places.iter().map(|place| &*place.address).collect();
                addresses.join(", ").into()
            }
        }
    }

    /// What is wrong with the first address that is none.
    pub(super) fn bad(&self) -> Option<&Error> {
        self.places.iter().find_map(|place| match &place.target {
            Target::Bad(error) => Some(error),
            Target::Address(_) | Target::Custom(..) | Target::InProcess(_) | Target::Lent => None,
        })
    }

    /// How many addresses there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What is tried next.
    pub(super) fn target(&self) -> &Target {
        &self.places[self.at].target
    }

    /// What was tried works: a later failure begins a new round.
    pub(super) fn arrive(&mut self) {
        self.failed = 0;
        self.places.iter_mut().for_each(|place| place.obstacle = None);
    }

    /// What was tried, or worked until now, does not: goes on to the next address. Returns what is in the way, as far
    /// as this round has shown.
    pub(super) fn fail(&mut self, obstacle: Obstacle) -> Obstacle {
        if self.is_over() {
            self.arrive();
        }
        self.places[self.at].obstacle = Some(obstacle);
        self.at = (self.at + 1) % self.places.len();
        self.failed += 1;
        self.obstacle()
    }

    /// Whether all addresses have failed in this round.
    pub(super) fn is_over(&self) -> bool {
        self.failed == self.places.len()
    }

    /// What is in the way of those that have failed.
    fn obstacle(&self) -> Obstacle {
        let len = self.places.len();
        let first = self.at + len - self.failed;
        let tried = (first..first + self.failed).map(|i| &self.places[i % len]);
        let obstacles: Vec<_> = tried
            .filter_map(|place| Some((&*place.address, place.obstacle.as_ref()?)))
            .collect();
        match (&obstacles[..], len) {
            ([(_, obstacle)], 1) => (*obstacle).clone(),
            (obstacles, _) => Obstacle::of_all(obstacles, self.is_over()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;
    use crate::{Code, conn::Cause, transport::Address};

    fn route(addresses: &[&str]) -> Route {
        let places = addresses.iter().map(|text| {
            let target = Address::parse(text).map_or_else(Target::Bad, Target::Address);
            Place::new(target, (*text).into())
        });
        Route::new(places.collect())
    }

    fn refused() -> Obstacle {
        Obstacle::unreachable(io::ErrorKind::ConnectionRefused.into())
    }

    fn rejected() -> Obstacle {
        Obstacle::of(&Cause::HelloRejected {
            text: "peer speaks HTTP/1".into(),
        })
    }

    fn at(route: &Route) -> String {
        match route.target() {
            Target::Address(address) => address.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn addresses_are_tried_in_order_and_then_again() {
        let mut route = route(&["mem:a", "mem:b", "mem:c"]);
        let mut order = Vec::new();
        for _ in 0..7 {
            order.push((at(&route), route.is_over()));
            route.fail(refused());
        }
        let expected = [
            ("mem:a", false),
            ("mem:b", false),
            ("mem:c", false),
            ("mem:a", true),
            ("mem:b", false),
            ("mem:c", false),
            ("mem:a", true),
        ];
        assert_eq!(order, expected.map(|(address, over)| (address.to_owned(), over)));
    }

    #[test]
    fn after_one_that_worked_a_round_begins_with_the_next() {
        let mut route = route(&["mem:a", "mem:b"]);
        route.fail(refused());
        assert_eq!(at(&route), "mem:b");
        route.arrive();
        assert_eq!(at(&route), "mem:b");
        route.fail(refused());
        assert_eq!((at(&route), route.is_over()), ("mem:a".to_owned(), false));
    }

    #[test]
    fn the_obstacle_names_each_address_that_failed() {
        let mut route = route(&["mem:a", "mem:b"]);
        assert_eq!(&*route.name(), "mem:a, mem:b");
        let first = route.fail(refused());
        assert_eq!(
            first.error().message(),
            "mem:a: cannot connect: nobody listens there: connection refused"
        );
        let both = route.fail(Obstacle::slow(Duration::from_secs(10)));
        assert_eq!(
            both.error().to_string(),
            "UNAVAILABLE: mem:a: cannot connect: nobody listens there: connection refused; \
             mem:b: cannot connect: no answer within 10s"
        );
        // A new round forgets the one before.
        assert!(!route.fail(refused()).error().message().contains("mem:b"));
    }

    #[test]
    fn only_all_of_them_stand_in_the_way_for_good() {
        let mut route = route(&["mem:a", "mem:b"]);
        assert!(!route.fail(rejected()).is_permanent());
        let both = route.fail(rejected());
        assert!(both.is_permanent());
        assert_eq!(both.error().code(), Code::FailedPrecondition);
        route.fail(refused());
        let both = route.fail(rejected());
        assert!(!both.is_permanent());
        assert_eq!(both.error().code(), Code::Unavailable);
    }

    #[test]
    fn one_address_is_named_by_the_error_itself() {
        let mut route = route(&["mem:a"]);
        let obstacle = route.fail(refused());
        assert!(route.is_over());
        assert_eq!(
            obstacle.error().to_string(),
            "UNAVAILABLE: cannot connect: nobody listens there: connection refused"
        );
    }

    #[test]
    fn one_bad_address_is_found_among_good_ones() {
        assert!(route(&["mem:a"]).bad().is_none());
        let error = route(&["mem:a", "localhost:80"]).bad().cloned().unwrap();
        assert!(error.message().contains("localhost:80"), "{error}");
    }
}
