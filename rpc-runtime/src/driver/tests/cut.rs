//! A session that is cut at every byte, in both directions: each call ends once, and says truly whether it ran.

use std::{collections::HashMap, sync::Mutex};

use super::*;
use crate::{Code, Status, conn::End};

/// What happens to the stream where it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The peer is gone: reads end, writes fail.
    End,
    /// Reads and writes fail.
    Reset,
    /// Nothing moves any more, and nobody is told.
    Stall,
}

/// Where the client's stream is cut: after so many bytes written, or read.
#[derive(Clone, Copy, Debug)]
enum Place {
    Written(usize),
    Read(usize),
    Nowhere,
}

/// The client's end of a stream that is cut somewhere.
struct Cut {
    inner: Option<DuplexStream>,
    place: Place,
    fault: Fault,
    /// How many bytes move at once.
    step: usize,
    moved: Arc<Moved>,
}

#[derive(Default)]
struct Moved {
    written: Mutex<usize>,
    read: Mutex<usize>,
}

impl Cut {
    /// How many bytes may still move one way; at 0 the fault happens.
    fn left(&self, way: &Mutex<usize>, limit: Option<usize>) -> usize {
        let moved = *way.lock().unwrap();
        limit.map_or(self.step, |limit| self.step.min(limit.saturating_sub(moved)))
    }

    fn written_limit(&self) -> Option<usize> {
        match self.place {
            Place::Written(limit) => Some(limit),
            _ => None,
        }
    }

    fn read_limit(&self) -> Option<usize> {
        match self.place {
            Place::Read(limit) => Some(limit),
            _ => None,
        }
    }

    /// Both directions are hit at once, as by a lost connection.
    fn is_cut(&self) -> bool {
        self.left(&self.moved.written, self.written_limit()) == 0
            || self.left(&self.moved.read, self.read_limit()) == 0
    }

    fn fail<T>(&mut self, at_end: io::Result<T>) -> Poll<io::Result<T>> {
        match self.fault {
            Fault::Stall => Poll::Pending,
            Fault::End => {
                self.inner = None;
                Poll::Ready(at_end)
            }
            Fault::Reset => {
                self.inner = None;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut() {
            return self.fail(Ok(()));
        }
        let left = self
            .left(&self.moved.read, self.read_limit())
            .min(buf.remaining());
        let mut bytes = vec![0; left];
        let mut part = ReadBuf::new(&mut bytes);
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Ok(()));
        };
        ready!(Pin::new(inner).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        *self.moved.read.lock().unwrap() += part.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return self.fail(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let left = self
            .left(&self.moved.written, self.written_limit())
            .min(buf.len());
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = ready!(Pin::new(inner).poll_write(cx, &buf[..left]))?;
        *self.moved.written.lock().unwrap() += written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// How often the handler of each token was started.
type Started = Arc<Mutex<HashMap<String, usize>>>;

/// What the handlers of the session do.
const ECHO: u64 = 1;
const FAIL: u64 = 2;
const NEVER: u64 = 3;

/// Runs handlers until no request can come any more, and none is left.
async fn serve(link: Arc<Link>, started: Started) {
    while let Some(arrived) = next(&link).await {
        let token = <String as prost::Message>::decode(arrived.payload).unwrap();
        if link.with(|conn, now| conn.started(arrived.id, now)).is_err() {
            link.with(|conn, now| conn.end(arrived.id, End::Dropped, now));
            continue;
        }
        *started.lock().unwrap().entry(token.clone()).or_default() += 1;
        match arrived.procedure {
            ECHO => link.with(|conn, now| conn.reply(arrived.id, &token, now)),
            FAIL => {
                let status = Status::new(Code::NotFound, token);
                link.with(|conn, now| conn.end(arrived.id, End::Failed(&status), now));
            }
            _ => {
                let link = Arc::clone(&link);
                tokio::spawn(async move {
                    poll_fn(|cx| link.with(|conn, _| conn.poll_unwanted(arrived.id, cx))).await;
                    link.with(|conn, now| conn.end(arrived.id, End::Dropped, now));
                });
            }
        }
    }
}

/// One call of the session; its outcome is checked against what the server did.
async fn observed(
    link: Arc<Link>,
    procedure: u64,
    token: &'static str,
) -> (&'static str, Result<Reply, Failure>) {
    let deadline = Some(Duration::from_secs(30));
    let request = Request {
        procedure,
        control: false,
        deadline,
        metadata: None,
    };
    let message = token.to_owned();
    let mut ticket = Ticket::default();
    let id =
        poll_fn(|cx| link.with(|conn, now| conn.poll_call(&mut ticket, &request, &message, now, cx))).await;
    let outcome = match id {
        Ok(id) => poll_fn(|cx| link.with(|conn, _| conn.poll_reply(id, cx))).await,
        Err(failure) => Err(failure),
    };
    (token, outcome)
}

/// Runs the session over a stream that is cut at `place`; how many bytes went each way.
async fn session(place: Place, fault: Fault, step: usize) -> (usize, usize) {
    let (one, other) = duplex(64 * 1024);
    let moved = Arc::new(Moved::default());
    let stream = Cut {
        inner: Some(one),
        place,
        fault,
        step,
        moved: Arc::clone(&moved),
    };
    let (client, server) = (link(Side::Connector), link(Side::Acceptor));
    let started = Started::default();
    let driving = [
        tokio::spawn(drive(stream, Arc::clone(&client), MAX_FRAME)),
        tokio::spawn(drive(other, Arc::clone(&server), MAX_FRAME)),
    ];
    let serving = tokio::spawn(serve(Arc::clone(&server), Arc::clone(&started)));

    // All at once, pipelined behind the HELLO; then two more, when those have ended.
    let calls = [(ECHO, "echo"), (FAIL, "fail"), (NEVER, "never"), (ECHO, "again")];
    let calls = calls.map(|(procedure, token)| tokio::spawn(observed(Arc::clone(&client), procedure, token)));
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    outcomes.push(observed(Arc::clone(&client), ECHO, "late").await);
    outcomes.push(observed(Arc::clone(&client), FAIL, "last").await);

    client.with(|conn, now| conn.close(now));
    for task in driving {
        task.await.unwrap();
    }
    serving.await.unwrap();
    assert_eq!(
        server.with(|conn, _| conn.open_requests()),
        0,
        "{place:?} {fault:?}"
    );

    let started = started.lock().unwrap();
    for (token, outcome) in outcomes {
        let ran = started.get(token).copied().unwrap_or(0);
        let what = format!("{token}: started {ran} times, {outcome:?}; {place:?}, {fault:?}, step {step}");
        assert!(ran <= 1, "{what}");
        match outcome {
            Ok(reply) => {
                assert_eq!(
                    <String as prost::Message>::decode(reply.payload).unwrap(),
                    token,
                    "{what}"
                );
                assert_eq!(ran, 1, "{what}");
            }
            Err(Failure {
                executed: Executed::No,
                ..
            }) => assert_eq!(ran, 0, "{what}"),
            Err(Failure {
                executed: Executed::Yes,
                ..
            }) => assert_eq!(ran, 1, "{what}"),
            Err(Failure {
                executed: Executed::Maybe,
                cause,
                ..
            }) => {
                // With the stream whole, only the call that never ends is in doubt.
                let whole = matches!(place, Place::Nowhere);
                assert!(!whole || token == "never", "{cause:?}: {what}");
            }
        }
    }
    (*moved.written.lock().unwrap(), *moved.read.lock().unwrap())
}

async fn cut_everywhere(step: usize) {
    let (written, read) = session(Place::Nowhere, Fault::End, step).await;
    assert!(
        written > 150 && read > 150,
        "the session is {written} and {read} bytes long"
    );
    for fault in [Fault::End, Fault::Reset, Fault::Stall] {
        for offset in 0..=written {
            session(Place::Written(offset), fault, step).await;
        }
        for offset in 0..=read {
            session(Place::Read(offset), fault, step).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_cut_at_any_byte_says_truly_what_ran() {
    cut_everywhere(4096).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_single_bytes_cut_at_any_byte_says_truly_what_ran() {
    cut_everywhere(1).await;
}
