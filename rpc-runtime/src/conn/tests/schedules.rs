//! Random schedules of calls, one-way calls, streams, barriers and flushes in both directions, with small windows. Each side
//! takes its requests one by one or in batches, and may give the rest of a batch back. One-way calls that are made at once share
//! frames, and so do messages of a stream: it holds a lease of the frame until something else is done to the connection, which may be
//! its drain or its loss.
//!
//! When all tasks go on, something moves. Each message arrives once and in order, or its stream ends with an error. Each call
//! ends once, and what its error says of its execution is true. One-way calls arrive in order and with their own messages, and
//! accounts count each. Nothing is left at the end, and an honest peer commits no fault.

mod caller;
mod handler;
mod log;
mod part;
mod taken;
mod waiter;
mod world;

use proptest::prelude::*;

use self::world::World;
use super::{settings, *};
use crate::wire::frame::control::Reason;

/// One step of a schedule. A `bool` chooses the side; a `u16` chooses one of several parts, modulo their number.
#[derive(Clone, Debug)]
enum Step {
    Start(Start),
    /// Starts one-way requests with messages of these lengths, one right behind the other.
    Burst {
        client: bool,
        lens: Vec<usize>,
    },
    /// Lets one stream send its messages, one right behind the other.
    Stream {
        client: bool,
        index: u16,
    },
    /// Drops a call with all its parts.
    Drop(u16),
    /// Polls one part that was woken or can go on.
    Run(u16),
    /// Polls each part that was woken or can go on.
    RunAll,
    Barrier {
        client: bool,
    },
    Flush {
        client: bool,
    },
    /// Drops a task that waits for a barrier or a flush.
    DropWaiter(u16),
    Transmit {
        client: bool,
        window: usize,
    },
    Deliver {
        client: bool,
        len: usize,
    },
    Accept {
        client: bool,
        /// False if the handler ends before its first poll.
        start: bool,
        plan: Plan,
    },
    /// Takes up to `most` requests under one lock. Gives the rest of an earlier batch back first.
    Take {
        client: bool,
        most: usize,
    },
    /// Takes the row that is next, if a row is. Handlers end well up to `ended`, modulo their number; with a plan, the next one is
    /// pending; the rest goes back.
    TakeRow {
        client: bool,
        ended: u16,
        pending: Option<Plan>,
    },
    /// Starts the handler of the next request of the batch.
    StartTaken {
        client: bool,
        start: bool,
        plan: Plan,
    },
    /// Gives the rest of the batch back.
    GiveBack {
        client: bool,
    },
    /// Drops a handler, as a panic does.
    Kill(u16),
    Advance(u64),
    Disturb {
        client: bool,
        how: Disturbance,
    },
}

/// A request of one side.
#[derive(Clone, Debug)]
struct Start {
    client: bool,
    way: Way,
    /// The lengths of its messages; a plain call has only the first one.
    lens: Vec<usize>,
    ending: Ending,
    timeout_ms: Option<u64>,
    idle_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Send,
    Call(Shape),
    Control,
}

/// What a caller does after its last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Finish,
    /// It finishes its stream when the schedule is over.
    FinishLate,
    Abandon,
}

/// What a handler does.
#[derive(Clone, Debug)]
struct Plan {
    /// The maximum number of messages that it reads.
    reads: usize,
    /// The lengths of the messages that it sends; with `echo`, it also sends one for each that it reads.
    lens: Vec<usize>,
    echo: bool,
    end: Finish,
}

#[derive(Clone, Copy, Debug)]
enum Finish {
    Reply(usize),
    Fail,
    /// Like `Fail` after a start; before it, the request is refused.
    Refuse,
    Drop,
}

#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Close,
    Drain(u64),
    Abort,
    Lose,
}

/// Settings with small limits.
fn narrow() -> Settings {
    Settings {
        max_frame: 64 << 10,
        max_message: 200 << 10,
        max_calls: 16,
        call_bytes: 64 << 10,
        send_bytes: 64 << 10,
        high_water: 8 << 10,
        max_waiting: 10,
        keep_alive: Some(secs(30)),
        stream_window: 2000,
        max_stream_window: 16_000,
        ..settings()
    }
}

/// The length of a message; a few are too long.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        16 => 0..300usize,
        6 => 1000..5000usize,
        2 => 60_000..150_000usize,
        1 => 190_000..220_000usize,
    ]
}

fn lens() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(len(), 0..8)
}

fn start() -> impl Strategy<Value = Start> {
    let way = prop_oneof![
        3 => Just(Way::Send),
        3 => Just(Way::Call(Shape::Unary)),
        3 => Just(Way::Call(Shape::ReplyStream)),
        3 => Just(Way::Call(Shape::RequestStream)),
        4 => Just(Way::Call(Shape::Both)),
        1 => Just(Way::Control),
    ];
    let ending =
        prop_oneof![8 => Just(Ending::Finish), 2 => Just(Ending::FinishLate), 1 => Just(Ending::Abandon)];
    let timeout = prop_oneof![6 => Just(None), 1 => (0..3000u64).prop_map(Some)];
    let idle = prop_oneof![6 => Just(None), 1 => (1..2000u64).prop_map(Some)];
    (any::<bool>(), way, lens(), ending, timeout, idle).prop_map(
        |(client, way, lens, ending, timeout_ms, idle_ms)| Start {
            client,
            way,
            lens,
            ending,
            timeout_ms,
            idle_ms,
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    let reads = prop_oneof![4 => Just(usize::MAX), 1 => 0..5usize];
    let end = prop_oneof![
        8 => len().prop_map(Finish::Reply),
        1 => Just(Finish::Fail),
        1 => Just(Finish::Refuse),
        1 => Just(Finish::Drop),
    ];
    (reads, lens(), any::<bool>(), end).prop_map(|(reads, lens, echo, end)| Plan {
        reads,
        lens,
        echo,
        end,
    })
}

fn stream() -> impl Strategy<Value = Step> {
    (any::<bool>(), any::<u16>()).prop_map(|(client, index)| Step::Stream { client, index })
}

fn step() -> impl Strategy<Value = Step> {
    let window = prop_oneof![3 => Just(usize::MAX), 2 => 0..3000usize, 1 => 0..100_000usize];
    let side = any::<bool>;
    prop_oneof![
        12 => start().prop_map(Step::Start),
        2 => (side(), lens()).prop_map(|(client, lens)| Step::Burst { client, lens }),
        8 => stream(),
        2 => any::<u16>().prop_map(Step::Drop),
        30 => any::<u16>().prop_map(Step::Run),
        12 => Just(Step::RunAll),
        20 => (side(), window.clone()).prop_map(|(client, window)| Step::Transmit { client, window }),
        20 => (side(), window).prop_map(|(client, len)| Step::Deliver { client, len }),
        10 => (side(), prop::bool::weighted(0.9), plan())
            .prop_map(|(client, start, plan)| Step::Accept { client, start, plan }),
        6 => (side(), 1..8usize).prop_map(|(client, most)| Step::Take { client, most }),
        8 => (side(), prop::bool::weighted(0.9), plan())
            .prop_map(|(client, start, plan)| Step::StartTaken { client, start, plan }),
        6 => (side(), any::<u16>(), prop::option::of(plan()))
            .prop_map(|(client, ended, pending)| Step::TakeRow { client, ended, pending }),
        2 => side().prop_map(|client| Step::GiveBack { client }),
        1 => side().prop_map(|client| Step::Barrier { client }),
        1 => side().prop_map(|client| Step::Flush { client }),
        1 => any::<u16>().prop_map(Step::DropWaiter),
        1 => any::<u16>().prop_map(Step::Kill),
        4 => (1..600u64).prop_map(Step::Advance),
    ]
}

/// A disturbance. Streams may send right before it, and then hold leases.
fn disturbance() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![
        2 => Just(Disturbance::Close),
        3 => (0..3000u64).prop_map(Disturbance::Drain),
        1 => Just(Disturbance::Abort),
        2 => Just(Disturbance::Lose),
    ];
    let disturb = (any::<bool>(), how).prop_map(|(client, how)| Step::Disturb { client, how });
    (prop::collection::vec(stream(), 0..3), disturb).prop_map(|(mut steps, disturb)| {
        steps.push(disturb);
        steps
    })
}

fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("SCHEDULE_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(cases),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// All bytes of a side reach the other one.
fn pass(client: bool) -> [Step; 2] {
    let window = usize::MAX;
    [
        Step::Transmit { client, window },
        Step::Deliver { client, len: window },
    ]
}

/// Two connections after their HELLOs: nothing is packed before.
fn agreed() -> World {
    let mut world = World::new([narrow(), narrow()]);
    world.run_all(&pass(true));
    world.run_all(&pass(false));
    world
}

#[test]
fn one_way_requests_of_a_burst_share_a_frame() {
    let mut world = agreed();
    world.run_all(&[Step::Burst {
        client: true,
        lens: vec![1, 0, 3],
    }]);
    world.run_all(&pass(true));
    let sends = world
        .pair
        .server
        .seen
        .iter()
        .filter(|frame| frame.kind == Kind::Send);
    let flags: Vec<_> = sends.map(|frame| frame.flags).collect();
    assert_eq!(flags, [Flags::PACKED | Flags::END]);
    world.settle();
    world.check_all_ended();
    world.check_accounts();
}

/// Two connections, each with a stream that holds a lease and has added messages that are not charged.
fn leased() -> World {
    // No message goes the long way, but for the first.
    let lens = vec![2, 3, 5, 6, 8];
    let mut world = agreed();
    let call = Start {
        client: true,
        way: Way::Call(Shape::Both),
        lens: lens.clone(),
        ending: Ending::FinishLate,
        timeout_ms: None,
        idle_ms: None,
    };
    world.run_all(&[Step::Start(call), Step::Run(0)]);
    world.run_all(&pass(true));
    let plan = Plan {
        reads: usize::MAX,
        lens,
        echo: true,
        end: Finish::Reply(0),
    };
    world.run(&Step::Accept {
        client: false,
        start: true,
        plan,
    });
    for client in [true, false] {
        world.run(&Step::Stream { client, index: 0 });
    }
    world
}

#[test]
fn no_message_on_a_lease_is_lost_when_its_connection_drains_nor_invented_when_that_is_lost() {
    for client in [true, false] {
        for how in [
            Disturbance::Close,
            Disturbance::Drain(3000),
            Disturbance::Abort,
            Disturbance::Lose,
        ] {
            let mut world = leased();
            assert_eq!(world.leases(), [true; 2], "both streams have leases");
            world.run(&Step::Disturb { client, how });
            // The lease of the other side is open while the news comes.
            assert_eq!(world.leases(), [!client, client]);
            world.run_all(&pass(client));
            world.settle_with_time();
            world.check_all_ended();
            world.check_gone();
            let is_ok = matches!(world.callers[0].outcome, Some(Ok(_)));
            assert_eq!(
                is_ok,
                matches!(how, Disturbance::Close | Disturbance::Drain(_)),
                "{how:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn every_schedule_ends_all_calls_without_time_passing(
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new([narrow(), narrow()]);
        world.run_all(&steps);
        world.settle();
        world.check_all_ended();
        world.check_accounts();
        world.check_quiet();
    }

    #[test]
    fn streams_that_fill_the_inbox_fail_alone(
        steps in prop::collection::vec(step(), 1..250),
        inbox_bytes in 1000..100_000u64,
    ) {
        let tight = Settings { inbox_bytes, ..narrow() };
        let mut world = World::new([tight.clone(), tight]);
        world.run_all(&steps);
        world.settle();
        world.check_all_ended();
        world.check_accounts();
        world.check_quiet();
    }

    #[test]
    fn no_end_of_a_connection_makes_a_stream_a_short_success(
        before in prop::collection::vec(step(), 1..120),
        disturbances in prop::collection::vec(disturbance(), 1..3),
        after in prop::collection::vec(step(), 1..80),
        ages in prop::array::uniform2(prop::option::weighted(0.2, 1..20_000u64)),
    ) {
        let mut world = World::new(ages.map(|age| Settings {
            max_age: age.map(ms),
            max_age_grace: secs(2),
            ..narrow()
        }));
        world.run_all(&before);
        world.run_all(&disturbances.concat());
        world.run_all(&after);
        world.settle_with_time();
        world.check_all_ended();
        world.check_waiters_ended();
        world.check_sends();
        world.check_gone();
    }
}
