//! Random schedules of streams, calls and one-ways in both directions, over small windows and torn writes.
//!
//! Nothing waits for ever: whenever all who use the connection go on, something moves. Each message comes once and in
//! order, or its stream ends with an error; each call ends once; nothing is left, and honest peers commit no fault.

mod actors;
mod world;

use proptest::prelude::*;

use self::world::World;
use super::{settings, *};
use crate::wire::frame::control::Reason;

/// One step of a schedule; `bool` chooses the side, a `u16` one of those that there are.
#[derive(Clone, Debug)]
enum Step {
    Start(Start),
    /// Drops a call, with all who use it.
    Drop(u16),
    /// One of those who have been woken, or can go on, does one thing.
    Run(u16),
    /// Each of them does one thing.
    RunAll,
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
        plan: Plan,
    },
    /// A handler is dropped: it has panicked, say.
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
    /// How long its messages are, or its only one.
    lens: Vec<usize>,
    ending: Ending,
    timeout_ms: Option<u64>,
    idle_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Send,
    Call(Shape),
}

/// What a caller does behind its last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Finish,
    /// It says so when everybody is to come to an end.
    FinishLate,
    Abandon,
}

/// What a handler does.
#[derive(Clone, Debug)]
struct Plan {
    /// How many messages it reads at most.
    reads: usize,
    /// It sends these, and with `echo` one for each that it reads.
    lens: Vec<usize>,
    echo: bool,
    end: Finish,
}

#[derive(Clone, Copy, Debug)]
enum Finish {
    Reply(usize),
    Fail,
    Drop,
}

#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Close,
    Drain(u64),
    Abort,
    Lose,
}

/// How much the two sides take.
fn narrow() -> Settings {
    Settings {
        max_frame: 64 << 10,
        max_message: 200 << 10,
        max_calls: 16,
        call_bytes: 64 << 10,
        send_bytes: 64 << 10,
        high_water: 8 << 10,
        max_waiting: 50,
        stream_window: 2000,
        max_stream_window: 16_000,
        ..settings()
    }
}

fn lens() -> impl Strategy<Value = Vec<usize>> {
    let len = prop_oneof![8 => 0..300usize, 3 => 1000..5000usize, 1 => 60_000..150_000usize];
    prop::collection::vec(len, 0..8)
}

fn start() -> impl Strategy<Value = Start> {
    let way = prop_oneof![
        3 => Just(Way::Send),
        3 => Just(Way::Call(Shape::Unary)),
        3 => Just(Way::Call(Shape::ReplyStream)),
        3 => Just(Way::Call(Shape::RequestStream)),
        4 => Just(Way::Call(Shape::Both)),
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
    let end = prop_oneof![8 => (0..300usize).prop_map(Finish::Reply), 1 => Just(Finish::Fail), 1 => Just(Finish::Drop)];
    (reads, lens(), any::<bool>(), end).prop_map(|(reads, lens, echo, end)| Plan {
        reads,
        lens,
        echo,
        end,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let window = prop_oneof![3 => Just(usize::MAX), 2 => 0..3000usize, 1 => 0..100_000usize];
    let side = any::<bool>;
    prop_oneof![
        12 => start().prop_map(Step::Start),
        2 => any::<u16>().prop_map(Step::Drop),
        30 => any::<u16>().prop_map(Step::Run),
        12 => Just(Step::RunAll),
        20 => (side(), window.clone()).prop_map(|(client, window)| Step::Transmit { client, window }),
        20 => (side(), window).prop_map(|(client, len)| Step::Deliver { client, len }),
        10 => (side(), plan()).prop_map(|(client, plan)| Step::Accept { client, plan }),
        1 => any::<u16>().prop_map(Step::Kill),
        4 => (1..600u64).prop_map(Step::Advance),
    ]
}

fn disturbance() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        2 => Just(Disturbance::Close),
        3 => (0..3000u64).prop_map(Disturbance::Drain),
        1 => Just(Disturbance::Abort),
        2 => Just(Disturbance::Lose),
    ];
    (any::<bool>(), how).prop_map(|(client, how)| Step::Disturb { client, how })
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

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn every_schedule_ends_all_calls_without_time_passing(
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new(narrow());
        world.run_all(&steps);
        world.settle();
        world.check_all_ended();
        world.check_quiet();
    }

    #[test]
    fn streams_that_fill_the_inbox_fail_alone(
        steps in prop::collection::vec(step(), 1..250),
        inbox_bytes in 1000..100_000u64,
    ) {
        let mut world = World::new(Settings { inbox_bytes, ..narrow() });
        world.run_all(&steps);
        world.settle();
        world.check_all_ended();
        world.check_quiet();
    }

    #[test]
    fn no_end_of_a_connection_makes_a_stream_a_short_success(
        before in prop::collection::vec(step(), 1..120),
        disturbances in prop::collection::vec(disturbance(), 1..3),
        after in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(narrow());
        world.run_all(&before);
        world.run_all(&disturbances);
        world.run_all(&after);
        world.settle_with_time();
        world.check_all_ended();
        world.check_gone();
    }
}
