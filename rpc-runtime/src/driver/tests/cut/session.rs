//! Session: what a client does in each run, and whether what it is told of it is true.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use super::*;
use crate::{
    Code,
    conn::{Flush, Uncovered},
    frame::control::Progress,
};

/// What one run is about.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Which side's stream is hit.
    pub(super) side: Side,
    pub(super) place: Place,
    pub(super) fault: Fault,
    pub(super) pace: Pace,
    /// Whether there are messages of several frames.
    pub(super) long: bool,
}

/// What the client was told.
#[derive(Default)]
struct Told {
    outcomes: Vec<(&'static str, Result<Reply, Failure>)>,
    /// The one-way requests that were accepted, in order, and those that were not.
    sends: Vec<&'static str>,
    refused: Vec<&'static str>,
    /// Those of them that an account covers.
    covered: usize,
    /// Those that a flush has seen with the OS.
    flushed: usize,
}

/// What went through the client's end, and the server's.
pub(super) struct Logs {
    pub(super) client: Arc<Mutex<Log>>,
    pub(super) server: Arc<Mutex<Log>>,
}

/// Runs a session.
pub(super) async fn session(plan: &Plan, host: &Arc<Host>) -> Logs {
    let (client, server) = (cut_link(Side::Connector), cut_link(Side::Acceptor));
    let place = |side| {
        if side == plan.side {
            plan.place
        } else {
            Place::Nowhere
        }
    };
    let (one, other) = duplex(64 * 1024);
    let (one, client_log) = Cut::new(one, place(Side::Connector), plan.fault, plan.pace.clone());
    let pace = match &plan.pace {
        Pace::Zones([written, read]) => Pace::Zones([Arc::clone(read), Arc::clone(written)]),
        pace => pace.clone(),
    };
    let (other, server_log) = Cut::new(other, place(Side::Acceptor), plan.fault, pace);
    // Little at once, so that long messages are in the middle of their fragments for long.
    let drive = |stream, link: &Arc<Link>| Driver::new(stream, Arc::clone(link), MAX_FRAME, 16 << 10);
    let driving = [
        tokio::spawn(drive(one, &client)),
        tokio::spawn(drive(other, &server)),
    ];
    let serving = tokio::spawn(Arc::clone(host).serve(Arc::clone(&server)));

    let told = if plan.long {
        act_long(&client).await
    } else {
        act(&client).await
    };
    client.with(|conn, now| conn.close(now));
    for task in driving {
        task.await.unwrap();
    }
    serving.await.unwrap();
    for (side, link) in [("client", &client), ("server", &server)] {
        assert_eq!(link.with(|conn, _| conn.leftovers()), [""; 0], "{side}: {plan:?}");
    }
    assert_eq!(host.running(), 0, "{plan:?}");
    let started = host.take_started();
    {
        let log = client_log.lock().unwrap();
        let uncovered = client.with(|conn, _| conn.uncovered());
        Check::new(plan, &log, &started).all(&told, uncovered);
    }
    Logs {
        client: client_log,
        server: server_log,
    }
}

/// The host still serves whoever comes next.
pub(super) async fn serves_another(host: &Arc<Host>) {
    let (one, other) = duplex(4096);
    let (client, server) = (cut_link(Side::Connector), cut_link(Side::Acceptor));
    let driving = [
        tokio::spawn(drive(one, Arc::clone(&client), MAX_FRAME)),
        tokio::spawn(drive(other, Arc::clone(&server), MAX_FRAME)),
    ];
    let serving = tokio::spawn(Arc::clone(host).serve(server));
    let id = begin(&client, ECHO, "fresh", 60).await.unwrap();
    assert!(outcome(&client, id).await.is_ok());
    client.with(|conn, now| conn.close(now));
    for task in driving {
        task.await.unwrap();
    }
    serving.await.unwrap();
    assert_eq!(host.take_started(), HashMap::from([("fresh".to_owned(), 1)]));
}

fn cut_link(side: Side) -> Arc<Link> {
    let limits = Limits::default().max_frame(64 << 10);
    let settings = limits.settings(Duration::from_secs(30), Bytes::from_static(b"cut"));
    Link::new(Connection::new(side, settings))
}

/// All kinds of requests: some before the peer's HELLO is here, some with others open, some after a barrier.
async fn act(link: &Arc<Link>) -> Told {
    let mut told = Told::default();
    told.send(link, "s1").await;
    let mut open = Vec::new();
    for (procedure, token, secs) in [
        (ECHO, "echo", 60),
        (FAIL, "fail", 60),
        (NEVER, "never", 5),
        (REFUSE, "refuse", 60),
        (NEVER, "gone", 60),
    ] {
        open.push((token, begin(link, procedure, token, secs).await));
    }
    told.send(link, "s2").await;
    // Its caller goes away before the end.
    let gone = open.pop().unwrap();
    let never = open.remove(2);
    for (token, id) in open {
        told.wait(link, token, id).await;
    }
    if let (_, Ok(id)) = gone {
        link.with(|conn, now| conn.drop_call(id, now));
    }
    told.barrier(link).await;
    told.send(link, "s3").await;
    let late = begin(link, ECHO, "late", 60).await;
    told.wait(link, "late", late).await;
    told.flush(link).await;
    told.wait(link, never.0, never.1).await;
    told.send(link, "s4").await;
    told
}

/// Messages of several frames, each way, and short ones between them.
async fn act_long(link: &Arc<Link>) -> Told {
    let mut told = Told::default();
    told.send(link, "s1").await;
    let first = begin(link, ECHO, "first", 60).await;
    told.wait(link, "first", first).await;
    let long = begin(link, COUNT, "long", 60).await;
    let fill = begin(link, FILL, "fill", 60).await;
    told.send(link, "slong").await;
    told.send(link, "s2").await;
    told.barrier(link).await;
    told.wait(link, "long", long).await;
    told.wait(link, "fill", fill).await;
    told.send(link, "s3").await;
    told
}

fn message(token: &str) -> String {
    match token {
        "long" | "slong" => format!("{token}{}", ".".repeat(LONG)),
        _ => token.to_owned(),
    }
}

fn request(procedure: u64, deadline: Option<Time>) -> Request<'static> {
    Request {
        procedure,
        deadline,
        ..Request::default()
    }
}

async fn begin(link: &Link, procedure: u64, token: &str, secs: u64) -> Result<CallId, Failure> {
    let request = request(procedure, Some(link.now() + Duration::from_secs(secs)));
    let (message, mut ticket) = (message(token), Ticket::default());
    poll_fn(|cx| link.with(|conn, now| conn.poll_call(&mut ticket, &request, &message, now, cx))).await
}

async fn outcome(link: &Link, id: CallId) -> Result<Reply, Failure> {
    poll_fn(|cx| link.with(|conn, _| conn.poll_reply(id, cx))).await
}

impl Told {
    async fn wait(&mut self, link: &Link, token: &'static str, id: Result<CallId, Failure>) {
        let outcome = match id {
            Ok(id) => outcome(link, id).await,
            Err(failure) => Err(failure),
        };
        self.outcomes.push((token, outcome));
    }

    async fn send(&mut self, link: &Link, token: &'static str) {
        let request = request(ECHO, Some(link.now() + Duration::from_secs(60)));
        let (message, mut ticket) = (message(token), Ticket::default());
        let sent =
            poll_fn(|cx| link.with(|conn, now| conn.poll_send(&mut ticket, &request, &message, now, cx)));
        match sent.await {
            Ok(()) => self.sends.push(token),
            Err(failure) => {
                assert_eq!(failure.executed, Executed::No);
                self.refused.push(token);
            }
        }
    }

    async fn barrier(&mut self, link: &Link) {
        let sent = self.sends.len();
        let barrier = link.with(|conn, now| conn.start_barrier(now));
        let account: Result<Progress, Cause> =
            poll_fn(|cx| link.with(|conn, _| conn.poll_barrier(&barrier, cx))).await;
        if let Ok(account) = account {
            assert_eq!(account.received, sent as u64);
            self.covered = sent;
        }
    }

    async fn flush(&mut self, link: &Link) {
        let sent = self.sends.len();
        let flush: Flush = link.with(|conn, _| conn.start_flush());
        if poll_fn(|cx| link.with(|conn, _| conn.poll_flush(&flush, cx)))
            .await
            .is_ok()
        {
            self.flushed = sent;
        }
    }
}

/// Compares what the client was told with what went through its stream, and with what ran.
struct Check<'a> {
    plan: &'a Plan,
    started: &'a HashMap<String, usize>,
    /// The requests of which every byte counts as taken by the OS: their ids.
    taken: HashMap<String, u64>,
    /// The calls whose replies were read whole.
    replied: HashSet<u64>,
}

impl<'a> Check<'a> {
    fn new(plan: &'a Plan, log: &Log, started: &'a HashMap<String, usize>) -> Self {
        Self {
            plan,
            started,
            taken: record::requests(&log.counted),
            replied: record::replies(&log.read),
        }
    }

    fn all(&self, told: &Told, uncovered: Uncovered) {
        assert!(
            self.started.values().all(|&starts| starts == 1),
            "{:?}",
            self.started
        );
        for (token, outcome) in &told.outcomes {
            self.outcome(token, outcome);
        }
        self.sends(told, uncovered);
        if matches!(self.plan.place, Place::Nowhere) {
            self.undisturbed(told, uncovered);
        }
    }

    fn outcome(&self, token: &str, outcome: &Result<Reply, Failure>) {
        let ran = self.started.contains_key(token);
        let what = format!("{token}: ran {ran}, {outcome:?}; {:?}", self.plan);
        let failure = match outcome {
            Ok(reply) => {
                let message = <String as prost::Message>::decode(reply.payload.clone()).unwrap();
                assert_eq!(super::token(&message), token, "{what}");
                assert!(ran, "{what}");
                return;
            }
            Err(failure) => failure,
        };
        match failure.executed {
            Executed::No => assert!(!ran, "{what}"),
            Executed::Yes => assert!(ran, "{what}"),
            Executed::Maybe => {}
        }
        let id = self.taken.get(token);
        let says_no = failure.executed == Executed::No;
        match &failure.cause {
            Cause::Replied(_) => {}
            Cause::Deadline => assert!(!says_no || id.is_none(), "{what}"),
            // What is in the output then may still be written.
            Cause::Lost { text, .. } if text.starts_with("no HELLO") => {
                assert!(!says_no || id.is_none(), "{what}");
            }
            Cause::Lost { .. } => {
                // G3, to the byte.
                assert_eq!(says_no, id.is_none(), "{what}");
                let replied = id.is_some_and(|id| self.replied.contains(id));
                assert!(!replied, "its reply was read: {what}");
            }
            _ => panic!("{what}"),
        }
    }

    fn sends(&self, told: &Told, uncovered: Uncovered) {
        let what = format!(
            "{:?}, {uncovered:?}; {:?}; {:?}",
            told.sends, self.started, self.plan
        );
        let ran = |token: &&&str| self.started.contains_key(**token);
        let accepted = told.sends.len() as u64;
        let covered = accepted - uncovered.no - uncovered.maybe;
        let started = told.sends.iter().filter(ran).count() as u64;
        assert!(
            covered <= started && started <= covered + uncovered.maybe,
            "{what}"
        );
        assert!(covered >= told.covered as u64, "{what}");
        assert_eq!(told.refused.iter().filter(ran).count(), 0, "{what}");
        let is_taken = |token: &&&str| self.taken.contains_key(**token);
        let taken = told.sends.iter().filter(is_taken).count() as u64;
        // To the byte.
        assert_eq!(uncovered.no, accepted - taken, "{what}");
        assert!(
            told.sends[..told.flushed].iter().all(|token| is_taken(&token)),
            "{what}"
        );
    }

    /// Nothing was cut: all is as it should be.
    fn undisturbed(&self, told: &Told, uncovered: Uncovered) {
        assert_eq!(uncovered, Uncovered::default(), "a graceful end covers all sends");
        assert!(told.refused.is_empty() && told.covered > 0);
        for (token, outcome) in &told.outcomes {
            let is = match (*token, outcome) {
                (
                    "fail",
                    Err(Failure {
                        cause: Cause::Replied(status),
                        executed: Executed::Yes,
                        ..
                    }),
                ) => status.code() == Code::NotFound,
                (
                    "refuse",
                    Err(Failure {
                        cause: Cause::Replied(status),
                        executed: Executed::No,
                        ..
                    }),
                ) => status.code() == Code::Unimplemented,
                ("never", Err(failure)) => {
                    matches!(failure.cause, Cause::Deadline) && failure.executed == Executed::Maybe
                }
                (_, outcome) => outcome.is_ok(),
            };
            assert!(is, "{token}: {outcome:?}");
        }
    }
}
