//! Lines: those who wait for credit, a slot or room, by priority.

use std::task::Context;

use crate::Priority;
use crate::conn::{
    Time,
    ours::credit::{Lane, Wanted},
    ours::queue::Gate,
    outbox::backlog::Passage,
    outbox::rotation::Turns,
    types::earliest,
    wakers::Woken,
};

/// One line for each priority, and one for the calls of the control service, which have credit of their own.
///
/// Who is first in its line passes when nobody of a higher priority could pass instead; of those that wait, one in eight
/// is of a lower one. Calls of [`Priority::Control`] wait for nobody but those before them in their own line.
#[derive(Debug)]
pub(in crate::conn) struct Lines {
    /// None as long as nobody ever waited.
    gates: Option<Box<Gates>>,
    turns: Turns,
    /// Whether those who can pass now must be looked for, and how far.
    news: News,
}

#[derive(Debug)]
struct Gates {
    service: Gate,
    others: [Gate; Priority::ALL.len()],
}

/// What has happened since the gate's callers were last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::conn) enum News {
    /// Nothing.
    #[default]
    None,
    /// Another caller is the first now.
    First,
    /// There is more of what they wait for.
    More,
}

/// The line in which a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conn) enum Line {
    /// Of the calls of the control service.
    Service,
    /// Of a priority.
    Of(Priority),
}

impl Line {
    /// The line of a request.
    pub(in crate::conn) fn new(lane: Lane, priority: Priority) -> Self {
        match lane {
            Lane::Control => Self::Service,
            Lane::Call | Lane::Send => Self::Of(priority),
        }
    }

    /// The number of its first ticket.
    const fn first(self) -> u64 {
        match self {
            Self::Service => 0,
            Self::Of(priority) => (1 + priority.rank() as u64) * TICKETS,
        }
    }
}

impl Lines {
    /// Empty lines.
    pub(in crate::conn) fn new() -> Self {
        Self {
            gates: None,
            turns: Turns::default(),
            news: News::None,
        }
    }

    /// Whether a request may pass now that holds `ticket`, or, without one, comes now.
    pub(in crate::conn) fn may_pass(
        &self,
        line: Line,
        ticket: Option<u64>,
        wanted: Wanted,
        passage: &Passage,
    ) -> bool {
        match line {
            Line::Service => self.is_turn(line, ticket) && passage.admits(wanted, Priority::Control),
            Line::Of(priority) => {
                self.is_turn(line, ticket)
                    && passage.admits(wanted, priority)
                    && (self.is_empty() || self.next(self.ready(priority, passage)) == Some(priority))
            }
        }
    }

    /// A request passes that holds `ticket`, or none.
    pub(in crate::conn) fn pass(&mut self, line: Line, ticket: Option<u64>, passage: &Passage) {
        if let Some(number) = ticket {
            self.remove(number);
        }
        if let (Line::Of(priority), false) = (line, self.is_empty()) {
            self.turns.took(priority, self.ready(priority, passage));
            // It may be the turn of another priority now.
            self.note(News::First);
        }
    }

    /// Lets a caller wait, and returns its ticket; `None` if `max` wait in its line already.
    pub(in crate::conn) fn push(
        &mut self,
        line: Line,
        wanted: Wanted,
        max: usize,
        deadline: Option<Time>,
        cx: &Context<'_>,
    ) -> Option<u64> {
        let gates = self.gates.get_or_insert_with(|| Box::new(Gates::new()));
        let gate = gates.of_mut(line);
        (gate.len() < max).then(|| gate.push(wanted, deadline, cx))
    }

    /// Renews the waker of a caller; false if it no longer waits here.
    #[must_use]
    pub(in crate::conn) fn renew(&mut self, number: u64, cx: &Context<'_>) -> bool {
        let gate = self.gates.as_mut().map(|gates| gates.having(number));
        gate.is_some_and(|gate| gate.renew(number, cx))
    }

    /// Lets a caller go that gives up, if it is here.
    pub(in crate::conn) fn remove(&mut self, number: u64) {
        let gate = self.gates.as_mut().map(|gates| gates.having(number));
        if gate.is_some_and(|gate| gate.remove(number)) {
            self.note(News::First);
        }
    }

    /// Lets all go whose deadline has passed; they are woken to find out.
    pub(in crate::conn) fn expire(&mut self, now: Time, woken: &mut Woken) {
        let mut moved = false;
        for gate in self.all_mut() {
            moved |= gate.expire(now, woken);
        }
        if moved {
            self.note(News::First);
        }
    }

    /// Lets all go; they are woken to find out why.
    pub(in crate::conn) fn clear_all(&mut self, woken: &mut Woken) {
        self.all_mut().for_each(|gate| gate.clear_all(woken));
        self.news = News::None;
    }

    /// Whether somebody may have to be woken.
    pub(in crate::conn) fn has_news(&self) -> bool {
        self.news != News::None
    }

    /// Notes that there is more of what they wait for.
    pub(in crate::conn) fn note_more(&mut self) {
        self.note(News::More);
    }

    /// Wakes those who can pass now: as many as `passage` lets through, one after the other, each in its turn.
    ///
    /// After a mere change of the first, only one: the others were woken with it, and whoever came too early is woken
    /// when its turn has come.
    pub(in crate::conn) fn wake(&mut self, woken: &mut Woken, passage: impl FnOnce() -> Passage) {
        let limit = match std::mem::take(&mut self.news) {
            News::None => return,
            News::First => 1,
            News::More => usize::MAX,
        };
        if self.is_empty() && self.is_service_empty() {
            return;
        }
        let Some(gates) = &mut self.gates else { return };
        let mut passage = passage();
        gates.wake_service(woken, &mut passage, limit);
        let mut turns = self.turns;
        let mut places = [0; Priority::ALL.len()];
        for _ in 0..limit {
            let firsts = Priority::ALL.map(|priority| {
                let gate = &gates.others[priority.rank()];
                let first = gate.waiting_from(places[priority.rank()]);
                first.filter(|&(_, wanted)| passage.admits(wanted, priority))
            });
            let ready = firsts.map(|first| first.is_some());
            let Some(priority) = next(&turns, ready) else {
                return;
            };
            let Some((index, wanted)) = firsts[priority.rank()] else {
                return;
            };
            turns.took(priority, ready);
            passage.take(wanted, priority);
            gates.others[priority.rank()].wake(index, woken);
            places[priority.rank()] = index + 1;
        }
    }

    /// The earliest deadline of all who wait.
    pub(in crate::conn) fn deadline(&self) -> Option<Time> {
        let Gates {
            service,
            others: [control, normal, bulk],
        } = &**self.gates.as_ref()?;
        earliest([
            service.deadline(),
            control.deadline(),
            normal.deadline(),
            bulk.deadline(),
        ])
    }

    /// How many wait.
    pub(in crate::conn) fn len(&self) -> usize {
        let gates = self.gates.iter();
        let lens = gates.map(|gates| gates.service.len() + gates.others.iter().map(Gate::len).sum::<usize>());
        lens.sum()
    }

    /// Whether nobody waits, calls of the control service left out.
    pub(in crate::conn) fn is_empty(&self) -> bool {
        let gates = self.gates.as_ref();
        gates.is_none_or(|gates| gates.others.iter().all(Gate::is_empty))
    }

    /// Whether no call of the control service waits.
    pub(in crate::conn) fn is_service_empty(&self) -> bool {
        self.gates.as_ref().is_none_or(|gates| gates.service.is_empty())
    }

    fn is_turn(&self, line: Line, ticket: Option<u64>) -> bool {
        match &self.gates {
            Some(gates) => gates.of(line).is_turn(ticket),
            None => ticket.is_none(),
        }
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Gate> {
        let gates = self.gates.iter_mut();
        gates.flat_map(|gates| std::iter::once(&mut gates.service).chain(&mut gates.others))
    }

    /// Who could pass now, `priority` among them.
    fn ready(&self, priority: Priority, passage: &Passage) -> [bool; Priority::ALL.len()] {
        Priority::ALL.map(|other| {
            let first = || self.gates.as_ref()?.others[other.rank()].waiting_from(0);
            other == priority || first().is_some_and(|(_, wanted)| passage.admits(wanted, other))
        })
    }

    fn next(&self, ready: [bool; Priority::ALL.len()]) -> Option<Priority> {
        next(&self.turns, ready)
    }

    fn note(&mut self, news: News) {
        self.news = self.news.max(news);
    }
}

impl Gates {
    fn new() -> Self {
        Self {
            service: Gate::new(Line::Service.first()),
            others: Priority::ALL.map(|priority| Gate::new(Line::Of(priority).first())),
        }
    }

    fn of(&self, line: Line) -> &Gate {
        match line {
            Line::Service => &self.service,
            Line::Of(priority) => &self.others[priority.rank()],
        }
    }

    fn of_mut(&mut self, line: Line) -> &mut Gate {
        match line {
            Line::Service => &mut self.service,
            Line::Of(priority) => &mut self.others[priority.rank()],
        }
    }

    /// The one that gave a ticket.
    fn having(&mut self, number: u64) -> &mut Gate {
        match number / TICKETS {
            0 => &mut self.service,
            line => &mut self.others[(line as usize - 1).min(Priority::ALL.len() - 1)],
        }
    }

    fn wake_service(&mut self, woken: &mut Woken, passage: &mut Passage, limit: usize) {
        let mut place = 0;
        for _ in 0..limit {
            let first = self.service.waiting_from(place);
            let Some((index, wanted)) =
                first.filter(|&(_, wanted)| passage.admits(wanted, Priority::Control))
            else {
                return;
            };
            passage.take(wanted, Priority::Control);
            self.service.wake(index, woken);
            place = index + 1;
        }
    }
}

/// Whose turn it is: control does not wait for others.
fn next(turns: &Turns, ready: [bool; Priority::ALL.len()]) -> Option<Priority> {
    match ready {
        [true, ..] => Some(Priority::Control),
        _ => turns.next(ready),
    }
}

/// Each line gives so many tickets.
const TICKETS: u64 = 1 << 61;
