//! Sends: flush, barrier, settled, close and terminate of a client of several servers.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use super::{Cluster, Member, now};
use crate::{
    Account, Code, DrainReport, Error, Executed, LostSends,
    client::{ConnectionState, timer},
};

/// What one server answers. Its type is written out, because a client of one server is a client, too.
type Asked<'a> = Pin<Box<dyn Future<Output = Result<Account, Error>> + Send + 'a>>;

/// What became of the one-way calls to servers that are gone.
#[derive(Default)]
pub(super) struct Departed {
    account: Account,
    /// Told once, by the next flush, barrier or settled.
    failure: Option<Error>,
}

/// Lets a server go that the resolver has no more: its calls end as they would, and its one-way calls are accounted for.
pub(super) async fn depart(cluster: Weak<Cluster>, member: Arc<Member>) {
    let (began, mut pause) = (now(), FIRST_PAUSE);
    while now() < began + LONGEST_GOODBYE {
        let settled = member.client().settled().await;
        let Some(cluster) = cluster.upgrade() else { return };
        match settled {
            // A one-way call that has picked it may still wait for credit.
            Ok(account) if !member.is_sending() => {
                let mut members = cluster.lock();
                members.leaving.retain(|leaving| !Arc::ptr_eq(leaving, &member));
                members.departed.account.add(&account);
                return;
            }
            Ok(_) => {}
            // There may be more to tell: of another connection, say.
            Err(error) if is_told_once(&error) => cluster.keep_failure(error),
            Err(_) => {}
        }
        if cluster.is_closed.load(SeqCst) {
            break;
        }
        drop(cluster);
        timer::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
    if let Some(cluster) = cluster.upgrade() {
        cluster
            .lock()
            .leaving
            .retain(|leaving| !Arc::ptr_eq(leaving, &member));
        let text = format!(
            "the one-way calls to {} never ended, which has left",
            member.address()
        );
        cluster.keep_failure(Error::local(Code::Unavailable, text).with_executed(Executed::Maybe));
    }
}

/// True if the next question does not tell this error again.
fn is_told_once(error: &Error) -> bool {
    error.code() == Code::Unavailable
}

impl Cluster {
    /// Waits until the operating system has all that was sent to all servers.
    pub(in crate::client) fn flush(&self) -> Asked<'_> {
        let flush = |member: Arc<Member>| -> Asked<'static> {
            Box::pin(async move { member.client().flush().await.map(|()| Account::default()) })
        };
        Box::pin(self.on_all(flush))
    }

    /// Waits until all servers have admitted what was sent to them; the sum of their accounts.
    pub(in crate::client) fn barrier(&self) -> Asked<'_> {
        Box::pin(self.on_all(|member| Box::pin(async move { member.client().barrier().await })))
    }

    /// Waits until what was sent has ended on all servers; the sum of their accounts.
    pub(in crate::client) fn settled(&self, timeout: Option<Duration>) -> Asked<'_> {
        Box::pin(
            self.on_all(move |member| Box::pin(async move { member.client().settled_within(timeout).await })),
        )
    }

    /// Asks all servers that have one-way calls, at the same time.
    async fn on_all(&self, ask: impl Fn(Arc<Member>) -> Asked<'static> + Send) -> Result<Account, Error> {
        // At the same time, because a server that leaves moves from one to the other.
        let (asked, mut sum) = {
            let members = self.lock();
            let all = members.list.iter().chain(&members.leaving);
            let asked: Vec<_> = all.filter(|member| member.has_sends()).cloned().collect();
            (asked, members.departed.account.clone())
        };
        let told = Told {
            cluster: self,
            failure: Mutex::default(),
        };
        let asking = asked.into_iter().map(|member| {
            let (asked, told) = (ask(member), &told);
            async move { asked.await.map_err(|error| told.add(error)).ok() }
        });
        let accounts = join(asking.collect()).await;
        accounts.iter().flatten().for_each(|account| sum.add(account));
        let departed = self.lock().departed.failure.take();
        departed.into_iter().for_each(|error| told.add(error));
        told.failure().map_or(Ok(sum), Err)
    }

    /// Keeps an error for the next flush, barrier or settled.
    fn keep_failure(&self, error: Error) {
        let kept = &mut self.lock().departed.failure;
        *kept = Some(worse(kept.take(), error));
    }

    /// Closes all connections, and waits for their ends.
    pub(in crate::client) fn close(&self) -> Asked<'_> {
        self.shut();
        let close = |member: Arc<Member>| -> Asked<'static> {
            Box::pin(async move { member.client().close().await.map(|()| Account::default()) })
        };
        let closing = join(self.all().into_iter().map(close).collect());
        Box::pin(async {
            closing
                .await
                .into_iter()
                .try_fold(Account::default(), |_, closed| closed)
        })
    }

    /// Takes no more calls.
    fn shut(&self) {
        self.is_closed.store(true, SeqCst);
        self.plan.front.show(ConnectionState::Closed);
        self.wake.notify_one();
        self.changed.tell();
    }

    /// Tells all servers of now to terminate, at the same time.
    pub(in crate::client) async fn terminate(&self) -> Vec<(String, Result<DrainReport, Error>)> {
        let members = self.lock().list.clone();
        let terminate = |member: Arc<Member>| -> Pin<Box<dyn Future<Output = _> + Send>> {
            Box::pin(async move {
                let report = member.client().terminate().await;
                (member.address().to_owned(), report)
            })
        };
        join(members.into_iter().map(terminate).collect()).await
    }
}

/// The failures that servers have told to a flush, barrier or settled. If that is dropped, the next one tells them.
struct Told<'a> {
    cluster: &'a Cluster,
    failure: Mutex<Option<Error>>,
}

impl Told<'_> {
    fn add(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = Some(worse(failure.take(), error));
    }

    fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if let Some(error) = self.failure().filter(is_told_once) {
            self.cluster.keep_failure(error);
        }
    }
}

/// The error that tells of both, as far as one can: the lost one-way calls are added.
fn worse(before: Option<Error>, error: Error) -> Error {
    let Some(before) = before else { return error };
    match (before.lost_sends(), error.lost_sends()) {
        (Some(one), Some(other)) => {
            before.with_lost_sends(LostSends::new(one.no() + other.no(), one.maybe() + other.maybe()))
        }
        (None, Some(_)) => error,
        _ => before,
    }
}

/// Waits for all of `futures`.
async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|cx| {
        let mut is_over = true;
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(ready) => *output = Some(ready),
                    Poll::Pending => is_over = false,
                }
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// How long a server that has left is asked what became of its one-way calls.
const LONGEST_GOODBYE: Duration = Duration::from_secs(600);
/// The first pause between two such questions. Each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
