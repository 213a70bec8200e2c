//! Addresses: the addresses of one service, and which of them is tried next.

use std::{fmt, sync::Arc};

use crate::{
    Error,
    client::{
        acceptor::{Bridge, BridgeSettings, StreamAcceptor},
        connection_failure::ConnectionFailure,
    },
    net::{Address, ClientSecurity, Connector, Spot},
};

/// What a channel connects to.
#[derive(Clone, Debug)]
pub(in crate::client) enum ConnectTarget {
    Address(Address, ClientSecurity),
    /// The user's connector, and the address for it.
    Custom(Connector, Arc<str>),
    InProcess(Arc<dyn StreamAcceptor>),
    /// A server that speaks another protocol.
    Bridged(Arc<BridgedTarget>),
    /// Nothing: the channel has a borrowed connection.
    Lent,
    /// An invalid address: every call fails with this error.
    Bad(Error),
}

/// An address whose server speaks another protocol.
pub(in crate::client) struct BridgedTarget {
    /// How a byte stream to the server is made.
    pub(in crate::client) way: ConnectTarget,
    /// The address, as the user wrote it.
    pub(in crate::client) address: Arc<str>,
    /// What speaks the protocol.
    pub(in crate::client) bridge: Arc<dyn Bridge>,
    pub(in crate::client) settings: BridgeSettings,
}

impl fmt::Debug for BridgedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgedTarget")
            .field("address", &self.address)
            .field("bridge", &self.bridge)
            .finish_non_exhaustive()
    }
}

impl ConnectTarget {
    /// How a byte stream is made: as for the target itself, unless its server speaks another protocol.
    pub(in crate::client) fn way(&self) -> &Self {
        match self {
            Self::Bridged(bridged) => &bridged.way,
            target => target,
        }
    }
}

/// The addresses of one service, in the order in which they are tried. After the last comes the first.
#[derive(Debug)]
pub(in crate::client) struct Addresses {
    places: Vec<AddressEntry>,
    /// The first that has not failed in this round.
    at: usize,
    /// The one that began this round, or that was connected last.
    first: usize,
}

/// One address, and how it failed.
#[derive(Clone, Debug)]
pub(in crate::client) struct AddressEntry {
    pub(in crate::client) target: ConnectTarget,
    /// As the user wrote it.
    pub(in crate::client) address: Arc<str>,
    /// Why it failed in this round.
    failure: Option<ConnectionFailure>,
    /// Which endpoint behind the address was tried last; the next try begins behind it.
    last: Option<Spot>,
}

/// One address that takes part in a race.
#[derive(Clone, Debug)]
pub(in crate::client) struct RaceAddress {
    /// Its index.
    pub(in crate::client) place: usize,
    pub(in crate::client) target: ConnectTarget,
    /// The endpoint that failed last; those behind it are tried first.
    pub(in crate::client) behind: Option<Spot>,
}

impl AddressEntry {
    pub(in crate::client) fn new(target: ConnectTarget, address: Arc<str>) -> Self {
        Self {
            target,
            address,
            failure: None,
            last: None,
        }
    }
}

impl Addresses {
    /// Begins with the first of `places`; there must be at least one.
    pub(in crate::client) fn new(places: Vec<AddressEntry>) -> Self {
        Self {
            places,
            at: 0,
            first: 0,
        }
    }

    /// All addresses, as errors name them.
    pub(in crate::client) fn name(&self) -> Arc<str> {
        match &self.places[..] {
            [place] => Arc::clone(&place.address),
            places => {
                let addresses: Vec<&str> = places.iter().map(|place| &*place.address).collect();
                addresses.join(", ").into()
            }
        }
    }

    /// The error of the first invalid address.
    pub(in crate::client) fn bad(&self) -> Option<&Error> {
        self.places.iter().find_map(|place| match &place.target {
            ConnectTarget::Bad(error) => Some(error),
            ConnectTarget::Address(..)
            | ConnectTarget::Custom(..)
            | ConnectTarget::InProcess(_)
            | ConnectTarget::Bridged(_)
            | ConnectTarget::Lent => None,
        })
    }

    /// The number of addresses.
    pub(in crate::client) fn len(&self) -> usize {
        self.places.len()
    }

    /// The target at an index.
    pub(in crate::client) fn target(&self, place: usize) -> &ConnectTarget {
        &self.places[place].target
    }

    /// The addresses of the next attempt, in order: those that have not failed in this round.
    pub(in crate::client) fn next_round(&self) -> Vec<RaceAddress> {
        let is_over = self.is_over();
        self.from(self.at)
            .filter(|&place| is_over || self.places[place].failure.is_none())
            .map(|place| self.lane(place))
            .collect()
    }

    /// All addresses but one, beginning with the one behind it.
    pub(in crate::client) fn others(&self, place: usize) -> Vec<RaceAddress> {
        self.from(place).skip(1).map(|other| self.lane(other)).collect()
    }

    fn lane(&self, place: usize) -> RaceAddress {
        let AddressEntry { target, last, .. } = &self.places[place];
        RaceAddress {
            place,
            target: target.clone(),
            behind: *last,
        }
    }

    /// The first of the next attempt.
    pub(in crate::client) fn next(&self) -> usize {
        self.at
    }

    /// All indices once, beginning with `place`.
    fn from(&self, place: usize) -> impl Iterator<Item = usize> + use<> {
        let len = self.places.len();
        (place..place + len).map(move |at| at % len)
    }

    /// Notes which endpoint behind an address is connected, or failed last.
    pub(in crate::client) fn note_spot(&mut self, place: usize, spot: Spot) {
        self.places[place].last = Some(spot);
    }

    /// Notes that an address works. A later failure begins a new round, behind it if it fails itself.
    pub(in crate::client) fn arrive(&mut self, place: usize) {
        self.at = place;
        self.first = place;
        self.forget();
    }

    fn forget(&mut self) {
        self.places.iter_mut().for_each(|place| place.failure = None);
    }

    /// Notes that an address does not work, or works no longer. Returns how all addresses have failed in this round.
    pub(in crate::client) fn fail(&mut self, place: usize, failure: ConnectionFailure) -> ConnectionFailure {
        if self.is_over() {
            self.forget();
        }
        self.places[place].failure = Some(failure);
        let mut rest = self.from(self.at);
        self.at = rest
            .find(|&at| self.places[at].failure.is_none())
            .unwrap_or(self.first);
        self.failure()
    }

    /// True if all addresses have failed in this round.
    pub(in crate::client) fn is_over(&self) -> bool {
        self.places.iter().all(|place| place.failure.is_some())
    }

    /// How the addresses have failed in this round.
    fn failure(&self) -> ConnectionFailure {
        let tried = self.from(self.first).map(|at| &self.places[at]);
        let failures: Vec<_> = tried
            .filter_map(|place| Some((&*place.address, place.failure.as_ref()?)))
            .collect();
        match (&failures[..], self.places.len()) {
            ([(_, failure)], 1) => (*failure).clone(),
            (failures, _) => ConnectionFailure::of_all(failures, self.is_over()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;
    use crate::{Code, conn::Cause, net::Address};

    fn route(addresses: &[&str]) -> Addresses {
        let places = addresses.iter().map(|text| {
            let target = Address::parse(text).map_or_else(ConnectTarget::Bad, |address| {
                ConnectTarget::Address(address, ClientSecurity::default())
            });
            AddressEntry::new(target, (*text).into())
        });
        Addresses::new(places.collect())
    }

    fn refused() -> ConnectionFailure {
        ConnectionFailure::unreachable(io::ErrorKind::ConnectionRefused.into())
    }

    fn rejected() -> ConnectionFailure {
        ConnectionFailure::of(&Cause::HelloRejected {
            text: "peer speaks HTTP/1".into(),
        })
    }

    fn at(route: &Addresses) -> String {
        match route.target(route.at) {
            ConnectTarget::Address(address, _) => address.to_string(),
            other => format!("{other:?}"),
        }
    }

    /// Lets the next one fail.
    fn fail(route: &mut Addresses, failure: ConnectionFailure) -> ConnectionFailure {
        route.fail(route.at, failure)
    }

    #[test]
    fn addresses_are_tried_in_order_and_then_again() {
        let mut route = route(&["mem:a", "mem:b", "mem:c"]);
        let mut order = Vec::new();
        for _ in 0..7 {
            order.push((at(&route), route.is_over()));
            fail(&mut route, refused());
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
    fn after_an_address_that_worked_a_round_begins_with_the_next() {
        let mut route = route(&["mem:a", "mem:b"]);
        fail(&mut route, refused());
        assert_eq!(at(&route), "mem:b");
        route.arrive(1);
        assert_eq!(at(&route), "mem:b");
        fail(&mut route, refused());
        assert_eq!((at(&route), route.is_over()), ("mem:a".to_owned(), false));
    }

    #[test]
    fn a_round_whose_addresses_fail_out_of_order_ends_where_it_began() {
        let mut route = route(&["mem:a", "mem:b", "mem:c"]);
        let lanes = |lanes: Vec<RaceAddress>| lanes.iter().map(|lane| lane.place).collect::<Vec<_>>();
        route.arrive(1);
        assert_eq!(lanes(route.others(1)), [2, 0]);
        // The connection is lost: the next address comes first, and those that fail meanwhile are skipped.
        route.fail(1, refused());
        assert_eq!(lanes(route.next_round()), [2, 0]);
        route.fail(0, refused());
        assert_eq!(lanes(route.next_round()), [2]);
        route.fail(2, refused());
        assert!(route.is_over());
        assert_eq!(lanes(route.next_round()), [1, 2, 0]);
    }

    #[test]
    fn the_obstacle_names_each_address_that_failed() {
        let mut route = route(&["mem:a", "mem:b"]);
        assert_eq!(&*route.name(), "mem:a, mem:b");
        let first = fail(&mut route, refused());
        assert_eq!(
            first.error().message(),
            "mem:a: cannot connect: no server listens there: connection refused"
        );
        let both = fail(&mut route, ConnectionFailure::slow(Duration::from_secs(10)));
        assert_eq!(
            both.error().to_string(),
            "UNAVAILABLE: mem:a: cannot connect: no server listens there: connection refused; \
             mem:b: cannot connect: no answer within 10s: ClientBuilder::connect_timeout"
        );
        // A new round forgets the one before.
        assert!(!fail(&mut route, refused()).error().message().contains("mem:b"));
    }

    #[test]
    fn only_the_permanent_failure_of_all_addresses_is_final() {
        let mut route = route(&["mem:a", "mem:b"]);
        assert!(!fail(&mut route, rejected()).is_permanent());
        let both = fail(&mut route, rejected());
        assert!(both.is_permanent());
        assert_eq!(both.error().code(), Code::FailedPrecondition);
        fail(&mut route, refused());
        let both = fail(&mut route, rejected());
        assert!(!both.is_permanent());
        assert_eq!(both.error().code(), Code::Unavailable);
    }

    #[test]
    fn one_address_is_named_by_the_error_itself() {
        let mut route = route(&["mem:a"]);
        let failure = fail(&mut route, refused());
        assert!(route.is_over());
        assert_eq!(
            format!("{:#}", failure.error()),
            "UNAVAILABLE: cannot connect: no server listens there: connection refused"
        );
    }

    #[test]
    fn one_bad_address_is_found_among_good_ones() {
        assert!(route(&["mem:a"]).bad().is_none());
        let error = route(&["mem:a", "localhost:80"]).bad().cloned().unwrap();
        assert!(error.message().contains("localhost:80"), "{error}");
    }
}
