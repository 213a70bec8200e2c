//! Session: what a client does in each run, and whether what it is told of it is true.

use std::{collections::HashMap, sync::Mutex};

use super::{check::Check, *};
use crate::{
    conn::{Flush, Settings},
    wire::frame::control::Progress,
};

/// What one run is about.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Which side makes the requests.
    pub(super) caller: Side,
    pub(super) talk: Talks,
    /// Which side's stream is hit.
    pub(super) side: Side,
    pub(super) place: Place,
    pub(super) fault: Fault,
    pub(super) pace: Pace,
    /// Whether both ends keep what they take until they are flushed.
    pub(super) keeps: bool,
}

/// Which requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Talks {
    /// Those without streams.
    Unary,
    /// Some of them with messages of several frames.
    LongUnary,
    /// All kinds of streams.
    Streams,
    /// Some of them with messages of several frames.
    LongStreams,
}

/// The one-way requests of one frame.
pub(super) const SHARING: [&str; 3] = ["p1", "p2", "p3"];

/// What the caller was told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) outcomes: Vec<(&'static str, Result<ReceivedReply, CallFailure>)>,
    /// The calls with streams.
    pub(super) talks: Vec<Talk>,
    /// The one-way requests that were accepted, in order, and those that were not.
    pub(super) sends: Vec<&'static str>,
    pub(super) refused: Vec<&'static str>,
    /// Those of them that an account covers.
    pub(super) covered: usize,
    /// Those that a flush has seen with the OS.
    pub(super) flushed: usize,
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
    let (one, client_log) = Cut::new(
        one,
        place(Side::Connector),
        plan.fault,
        plan.pace.clone(),
        plan.keeps,
    );
    let pace = match &plan.pace {
        Pace::Zones([written, read]) => Pace::Zones([Arc::clone(read), Arc::clone(written)]),
        pace => pace.clone(),
    };
    let (other, server_log) = Cut::new(other, place(Side::Acceptor), plan.fault, pace, plan.keeps);
    // Little at once, so that long messages are in the middle of their fragments for long.
    let drive = |stream, shared: &Arc<SharedConnection>| {
        Drive::new(Baton::of(Driver::new(
            stream,
            Arc::clone(shared),
            MAX_FRAME,
            16 << 10,
        )))
    };
    let driving = [
        tokio::spawn(drive(one, &client)),
        tokio::spawn(drive(other, &server)),
    ];
    let (caller, server, log) = match plan.caller {
        Side::Connector => (client, server, &client_log),
        Side::Acceptor => (server, client, &server_log),
    };
    let serving = tokio::spawn(Arc::clone(host).serve(Arc::clone(&server)));
    let told = match plan.talk {
        Talks::Unary => act(&caller).await,
        Talks::LongUnary => act_long(&caller).await,
        Talks::Streams => act_streams(&caller).await,
        Talks::LongStreams => act_long_streams(&caller).await,
    };
    caller.with(|conn, now| conn.close(now));
    for task in driving {
        task.await.unwrap();
    }
    serving.await.unwrap();
    for (side, shared) in [("caller", &caller), ("server", &server)] {
        assert_eq!(
            shared.with(|conn, _| conn.leftovers()),
            [""; 0],
            "{side}: {plan:?}"
        );
    }
    assert_eq!(host.running(), 0, "{plan:?}");
    let ran = host.take_ran();
    {
        let log = log.lock().unwrap();
        let uncovered = caller.with(|conn, _| conn.uncovered());
        Check::new(plan, &log, &ran).all(&told, uncovered);
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
    let once = Ran {
        starts: 1,
        ..Ran::default()
    };
    assert_eq!(host.take_ran(), HashMap::from([("fresh".to_owned(), once)]));
}

fn cut_link(side: Side) -> Arc<SharedConnection> {
    let limits = Limits::default().max_frame(64 << 10);
    let settings = Settings::new(
        &limits,
        Duration::from_secs(30),
        Bytes::from_static(b"cut"),
        fastrand::u32(..),
    );
    let settings = Settings {
        // A few messages of a packed frame, so that streams wait for credit.
        stream_window: 280,
        max_stream_window: 560,
        serves: true,
        ..settings
    };
    SharedConnection::new(Connection::new(side, settings))
}

/// All kinds of requests: some before the peer's HELLO is here, some with others open, some after a barrier.
async fn act(shared: &Arc<SharedConnection>) -> Told {
    let mut told = Told::default();
    told.send(shared, "s1").await;
    let mut open = Vec::new();
    for (procedure, token, secs) in [
        (ECHO, "echo", 60),
        (FAIL, "fail", 60),
        (NEVER, "never", 5),
        (REFUSE, "refuse", 60),
        (NEVER, "gone", 60),
    ] {
        open.push((token, begin(shared, procedure, token, secs).await));
    }
    told.send(shared, "s2").await;
    // Its caller goes away before the end.
    let gone = open.pop().unwrap();
    let never = open.remove(2);
    for (token, id) in open {
        told.wait(shared, token, id).await;
    }
    if let (_, Ok(id)) = gone {
        shared.with(|conn, now| conn.drop_call(id, now));
    }
    told.barrier(shared).await;
    told.send_packed(shared).await;
    let late = begin(shared, ECHO, "late", 60).await;
    told.send(shared, "s3").await;
    told.wait(shared, "late", late).await;
    told.flush(shared).await;
    told.wait(shared, never.0, never.1).await;
    told.send(shared, "s4").await;
    told
}

/// Messages of several frames, each way, and short ones between them.
async fn act_long(shared: &Arc<SharedConnection>) -> Told {
    let mut told = Told::default();
    told.send(shared, "s1").await;
    let first = begin(shared, ECHO, "first", 60).await;
    told.wait(shared, "first", first).await;
    let long = begin(shared, COUNT, "long", 60).await;
    let fill = begin(shared, FILL, "fill", 60).await;
    told.send(shared, "slong").await;
    told.send(shared, "s2").await;
    told.barrier(shared).await;
    told.send_packed(shared).await;
    told.wait(shared, "long", long).await;
    told.wait(shared, "fill", fill).await;
    told.send(shared, "s3").await;
    told
}

fn message(token: &str) -> String {
    match token {
        "long" | "slong" => format!("{token}{}", ".".repeat(LONG)),
        _ => token.to_owned(),
    }
}

pub(super) fn request(procedure: u64, deadline: Option<Time>) -> Request<'static> {
    Request {
        procedure,
        deadline,
        ..Request::default()
    }
}

pub(super) async fn begin(
    shared: &SharedConnection,
    procedure: u64,
    token: &str,
    secs: u64,
) -> Result<CallId, CallFailure> {
    let request = request(procedure, Some(shared.now() + Duration::from_secs(secs)));
    let (message, mut ticket) = (message(token), Ticket::default());
    poll_fn(|cx| shared.with(|conn, now| conn.poll_call(&mut ticket, &request, &message, now, cx))).await
}

pub(super) async fn outcome(shared: &SharedConnection, id: CallId) -> Result<ReceivedReply, CallFailure> {
    poll_fn(|cx| shared.with(|conn, _| conn.poll_reply(id, cx))).await
}

impl Told {
    pub(super) async fn wait(
        &mut self,
        shared: &SharedConnection,
        token: &'static str,
        id: Result<CallId, CallFailure>,
    ) {
        let outcome = match id {
            Ok(id) => outcome(shared, id).await,
            Err(failure) => Err(failure),
        };
        self.outcomes.push((token, outcome));
    }

    pub(super) async fn send(&mut self, shared: &SharedConnection, token: &'static str) {
        let request = request(ECHO, Some(shared.now() + Duration::from_secs(60)));
        let (message, mut ticket) = (message(token), Ticket::default());
        let sent =
            poll_fn(|cx| shared.with(|conn, now| conn.poll_send(&mut ticket, &request, &message, now, cx)));
        match sent.await {
            Ok(()) => self.sends.push(token),
            Err(failure) => {
                assert_eq!(failure.executed, Executed::No);
                self.refused.push(token);
            }
        }
    }

    /// Makes one-way requests that share a frame: the peer's HELLO is here, and no other task runs between them.
    pub(super) async fn send_packed(&mut self, shared: &SharedConnection) {
        for token in SHARING {
            self.send(shared, token).await;
        }
    }

    pub(super) async fn barrier(&mut self, shared: &SharedConnection) {
        let sent = self.sends.len();
        let barrier = shared.with(|conn, now| conn.start_barrier(now));
        let account: Result<Progress, Cause> =
            poll_fn(|cx| shared.with(|conn, _| conn.poll_barrier(&barrier, cx))).await;
        if let Ok(account) = account {
            assert_eq!(account.received, sent as u64);
            self.covered = sent;
        }
    }

    pub(super) async fn flush(&mut self, shared: &SharedConnection) {
        let sent = self.sends.len();
        let flush: Flush = shared.with(|conn, _| conn.start_flush());
        if poll_fn(|cx| shared.with(|conn, _| conn.poll_flush(&flush, cx)))
            .await
            .is_ok()
        {
            self.flushed = sent;
        }
    }
}
