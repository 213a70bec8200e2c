//! User: a user of a load, who acts in turns.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    Mix, Party, Progress, allow,
    request::{Procedure, Request, Tries},
    within,
};
use crate::{
    history::{Outcome, Recorder, Ticket, UserLog},
    talk::Talk,
};

/// A user of a load.
pub(super) struct User {
    pub(super) party: Party,
    pub(super) log: UserLog,
    pub(super) mix: Mix,
    pub(super) random: fastrand::Rng,
    pub(super) progress: Arc<Progress>,
}

impl User {
    pub(super) async fn run(mut self) {
        let _present = Present(Arc::clone(&self.progress));
        while self.progress.goes_on() {
            let turn = self.random.u32(..100);
            if turn < self.mix.pings {
                let result = within(self.party.probe.ping()).await;
                let result = result.map(|result| result.map(drop));
                allow(self.log.recorder(), "a ping", result);
            } else if turn < self.mix.pings + self.mix.sends {
                self.sends().await;
            } else {
                self.calls().await;
            }
        }
    }

    /// Makes calls with replies: one, or many at once.
    async fn calls(&mut self) {
        let wanted = match self.random.u32(..4) {
            0 => 1,
            _ => self.random.u64(1..=self.mix.burst.max(1) as u64),
        };
        let mut calls = JoinSet::new();
        for _ in 0..self.progress.take(wanted) {
            match self.mix.talk(&mut self.random) {
                Some(talk) => calls.spawn(self.talk(talk)),
                None => calls.spawn(self.call()),
            };
        }
        while let Some(call) = calls.join_next().await {
            if let Err(error) = call {
                self.log.recorder().strange(format!("a call: {error}"));
            }
        }
    }

    fn call(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let request = self.mix.request(&mut self.random);
        let patience = self.patience();
        let hurried = request.timeout.is_some();
        let ticket = self
            .log
            .call(self.party.number, request.procedure.name(), hurried);
        let ticket = self.dated(ticket, request.timeout);
        let ticket = match request.tries {
            Tries::Once => ticket,
            Tries::Several(_) => ticket.may_repeat(),
        };
        let lasting = self.lasting(request.timeout);
        let probe = self.party.probe.clone();
        let recorder = self.log.recorder().clone();
        let progress = Arc::clone(&self.progress);
        async move {
            let token = ticket.token();
            let call = lasting.watch(&recorder, request.call(&probe, token));
            settle(&recorder, ticket, patience, call).await;
            progress.end();
        }
    }

    fn talk(&mut self, talk: Talk) -> impl Future<Output = ()> + Send + use<> {
        let patience = self.patience();
        let (name, limit) = (talk.way.name(), talk.limit());
        let number = self.party.number;
        let ticket = self.log.stream(number, name, talk.is_hurried(), limit);
        let ticket = self.dated(ticket, talk.timeout);
        // The caller itself pauses before each read, also of messages that came in time.
        let pause = Duration::from_micros(talk.micros.into()) * (self.mix.messages + 1);
        let lasting = self.lasting(Some(talk.timeout.unwrap_or(USUAL) + pause));
        let probe = self.party.probe.clone();
        let recorder = self.log.recorder().clone();
        let progress = Arc::clone(&self.progress);
        async move {
            let (token, moving) = (ticket.token(), ticket.moving());
            let call = lasting.watch(&recorder, talk.call(&probe, token, &moving));
            settle(&recorder, ticket, patience, call).await;
            progress.end();
        }
    }

    /// Makes one-way calls, and sometimes asks for their account.
    async fn sends(&mut self) {
        let wanted = self.random.u64(1..40);
        let wanted = self.progress.take(wanted);
        let party = self.party.clone();
        let shared = party.turn.read().await;
        for _ in 0..wanted {
            let request = self.sendable();
            let patience = self.patience();
            let hurried = request.timeout.is_some();
            let ticket = self.log.send(party.number, request.procedure.name(), hurried);
            let token = ticket.token();
            let lasting = self.lasting(request.timeout);
            let send = request.send(&party.probe, token);
            let send = lasting.watch(self.log.recorder(), send);
            settle(self.log.recorder(), ticket, patience, send).await;
            self.progress.end();
        }
        drop(shared);
        match self.random.u32(..10) {
            0..3 => party.barrier(self.log.recorder()).await,
            3..5 => party.flush(self.log.recorder()).await,
            5..8 => {
                // Half of the calls are dropped before a reply is possible.
                let patience = Duration::from_micros(self.random.u64(..1000).saturating_sub(500));
                party.abandoned_barrier(self.log.recorder(), patience).await;
            }
            8 if self.mix.settles => party.settled(self.log.recorder()).await,
            _ => {}
        }
    }

    /// Draws a request whose handler ends by itself, because no user would cancel one that hangs.
    fn sendable(&mut self) -> Request {
        let mut request = self.mix.request(&mut self.random);
        if request.procedure == Procedure::Hang && request.timeout.is_none() {
            request.procedure = Procedure::Echo;
        }
        request
    }

    /// Gives a call with a reply its deadline, if time is virtual.
    fn dated(&self, ticket: Ticket, timeout: Option<Duration>) -> Ticket {
        let Some(since) = self.mix.since else {
            return ticket;
        };
        let deadline = since.elapsed() + timeout.unwrap_or(USUAL);
        ticket.by(u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX))
    }

    /// The longest time that a call may take, if time is virtual.
    fn lasting(&self, timeout: Option<Duration>) -> Lasting {
        Lasting(self.mix.since.map(|_| timeout.unwrap_or(USUAL) + SLACK))
    }

    fn patience(&mut self) -> Patience {
        if self.random.u32(..100) >= self.mix.cancelled {
            Patience::Endless
        } else if self.random.bool() {
            Patience::Polls(self.random.u32(..4))
        } else {
            Patience::Time(Duration::from_micros(self.random.u64(..3000)))
        }
    }
}

/// The longest time that a call may take, if that is checked.
struct Lasting(Option<Duration>);

impl Lasting {
    /// Records it if `call` takes longer.
    async fn watch<T>(self, recorder: &Recorder, call: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let output = call.await;
        let took = began.elapsed();
        if let Some(most) = self.0.filter(|most| took > *most) {
            recorder.strange(format!("a call took {took:?}, and may take {most:?}"));
        }
        output
    }
}

/// A user that has not ended.
struct Present(Arc<Progress>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A caller's patience: when it drops its call.
enum Patience {
    Endless,
    /// After this number of polls.
    Polls(u32),
    Time(Duration),
}

/// Runs a call until its caller's patience ends, and records the outcome.
async fn settle(
    recorder: &Recorder,
    ticket: Ticket,
    patience: Patience,
    call: impl Future<Output = (Outcome, Option<String>)>,
) {
    let result = match patience {
        Patience::Endless => within(call).await.map(Some),
        Patience::Polls(polls) => within(polled(call, polls)).await,
        Patience::Time(time) => Some(timeout(time, call).await.ok()),
    };
    match result {
        Some(Some((outcome, strange))) => {
            ticket.end(outcome);
            strange.into_iter().for_each(|what| recorder.strange(what));
        }
        // A dropped ticket counts as cancelled. It is dropped after the call.
        Some(None) => drop(ticket),
        None => ticket.never_ended(),
    }
}

/// Polls a future `polls` times, and drops it if it has not ended.
async fn polled<T>(future: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The timeout of calls without one of their own: the default of a client.
const USUAL: Duration = Duration::from_secs(30);
/// What virtual timers may be late.
const SLACK: Duration = Duration::from_millis(50);
