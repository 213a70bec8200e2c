//! Flush: flush, barrier, settled and close of a client.

use std::{future::Future, future::poll_fn, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Client,
    channel::{Channel, HadConnection, WaitFor, connection::ClientConnection, pool::ChannelPool},
    deadline::Deadline,
    errors, timer,
};
use crate::{
    Account, Code, Error, Executed, Phase,
    api::limits::CALL_TIMEOUT,
    conn::{Barrier, Cause},
    wire::frame::control::Progress,
};

/// Waits until the operating system has everything that was sent so far.
pub(super) async fn flush(channel: &Arc<Channel>, deadline: Deadline) -> Result<(), Error> {
    channel.report_lost()?;
    let connections_with_sends = channel.connections_with_sends();
    if connections_with_sends.is_empty() {
        return Ok(());
    }
    within(&deadline, "flushed", async {
        // Starts all flushes before it waits for any.
        let flushes: Vec<_> = connections_with_sends
            .iter()
            .map(|on| (on, on.shared.with(|conn, _| conn.start_flush())))
            .collect();
        for (on, flush) in flushes {
            if poll_fn(|cx| on.shared.with(|conn, _| conn.poll_flush(&flush, cx)))
                .await
                .is_err()
            {
                // Callers learn of their failed calls themselves. Lost sends are reported below.
                channel.settled(on).await;
            }
        }
        channel.report_lost()
    })
    .await
    .map_err(|error| error.with_peer(Arc::clone(channel.address())))
}

/// Waits until the peer has admitted everything that was sent so far. If everything is covered and there is no
/// connection, returns the last account at once.
pub(super) async fn barrier(client: &Client, deadline: Deadline) -> Result<Account, Error> {
    let channel = client.channel();
    channel.report_lost()?;
    let account = within(&deadline, "confirmed", confirm(client, deadline)).await;
    account.map_err(|error| locate(error, channel))
}

/// Waits until everything that was sent so far has ended.
pub(super) async fn settled(client: &Client, deadline: Deadline) -> Result<Account, Error> {
    let channel = client.channel();
    channel.report_lost()?;
    channel.report_unsettled()?;
    let account = within(&deadline, "settled", settle(client, deadline)).await;
    account.map_err(|error| locate(error, channel))
}

fn locate(error: Error, channel: &Channel) -> Error {
    if error.peer().is_none() {
        error.with_peer(Arc::clone(channel.address()))
    } else {
        error
    }
}

async fn settle(client: &Client, deadline: Deadline) -> Result<Account, Error> {
    let channel = client.channel();
    let before = channel.connections_with_sends();
    // One at a time: the peer takes few of these calls at once, and a terminate must not wait for them. That costs
    // nothing, because later sends never settle earlier.
    let turn = channel.settling().lock().await;
    let (settled, progress) = loop {
        if live(channel).is_none() {
            // A server that is gone is not asked, if it has told everything.
            for on in &before {
                settle_retired(client, on, deadline).await;
            }
            channel.report_lost()?;
            channel.report_unsettled()?;
            let last = channel.last_account();
            if let Some(progress) = last.filter(|progress| progress.pending() == 0) {
                return Ok(Account::from(progress));
            }
            if channel.is_unused() {
                return Ok(Account::default());
            }
        }
        match client.call().settle(deadline).await {
            (on, Ok(progress)) => break (on, Some(progress)),
            // The peer serves no control service, or does not know settle: use the account of a barrier.
            (on, Err(error)) if error.code() == Code::Unimplemented => break (on, None),
            (Some(on), Err(error)) if error.is_closed() => {
                channel.settled(&on).await;
                channel.report_lost()?;
                channel.report_unsettled()?;
            }
            (_, Err(error)) => return Err(error),
        }
    };
    drop(turn);
    for on in &before {
        if settled.as_ref().is_none_or(|settled| !Arc::ptr_eq(settled, on)) {
            settle_retired(client, on, deadline).await;
        }
    }
    channel.report_lost()?;
    channel.report_unsettled()?;
    if let Some(progress) = progress {
        return Ok(Account::from(progress));
    }
    let account = confirm(client, deadline).await?;
    if account.pending() > 0 {
        let text = "the peer cannot tell when one-way calls have ended: call barrier() again later";
        return Err(Error::local(Code::Unimplemented, text));
    }
    Ok(account)
}

/// Waits until no send is pending on a connection that takes no more calls, or until that has ended and its pending
/// sends are counted.
async fn settle_retired(client: &Client, on: &Arc<ClientConnection>, deadline: Deadline) {
    let channel = client.channel();
    while !on.is_over() {
        match reach(client, on, deadline).await {
            Ok(progress) if progress.pending() == 0 => return,
            // The next barrier waits until the peer allows another ping, or until data of a stream goes out.
            Ok(_) => timer::sleep(PAUSE).await,
            Err(_) => return channel.settled(on).await,
        }
    }
    channel.settled(on).await;
}

async fn confirm(client: &Client, deadline: Deadline) -> Result<Account, Error> {
    let channel = client.channel();
    loop {
        let current = live(channel);
        let mut last = None;
        for on in channel.connections_with_sends() {
            if current.as_ref().is_some_and(|current| Arc::ptr_eq(&on, current)) {
                continue;
            }
            match reach(client, &on, deadline).await {
                Ok(progress) => last = Some(progress),
                Err(_) => channel.settled(&on).await,
            }
        }
        let Some(current) = current else {
            channel.report_lost()?;
            if let Some(progress) = last.or_else(|| channel.last_account()) {
                return Ok(Account::from(progress));
            }
            if channel.is_unused() {
                return Ok(Account::default());
            }
            channel
                .connected(WaitFor::Connection, HadConnection::No, deadline)
                .await?;
            continue;
        };
        let cause = match reach(client, &current, deadline).await {
            Ok(progress) => {
                channel.report_lost()?;
                return Ok(Account::from(progress));
            }
            Err(cause) => cause,
        };
        if channel.takes_calls(&current) {
            return Err(errors::of_connection(&cause).with_peer(Arc::clone(&current.peer)));
        }
        // A connection that takes no more calls ends when its own calls are done. If it lost no send, its last account
        // was kept.
        channel.settled(&current).await;
        channel.report_lost()?;
    }
}

/// The shortest time between two barriers on a connection that takes no more calls.
const PAUSE: Duration = Duration::from_millis(50);

/// The current connection, unless it has ended. One that takes no more calls still answers for those that it took.
fn live(channel: &Channel) -> Option<Arc<ClientConnection>> {
    channel.current().filter(|connected| !connected.is_over())
}

/// Waits for the peer's account of everything that was sent on one connection.
async fn reach(client: &Client, on: &Arc<ClientConnection>, deadline: Deadline) -> Result<Progress, Cause> {
    let needs_call = on
        .shared
        .with(|conn, now| conn.barrier_needs_call(now) && conn.takes_calls());
    if needs_call {
        // The peer allows a ping only so often, unless a call went before. If this call fails, the barrier tells.
        let _ = client.call().ping(deadline).await;
    }
    let pending = PendingBarrier {
        on,
        barrier: on.shared.with(|conn, now| conn.start_barrier(now)),
    };
    poll_fn(|cx| on.shared.with(|conn, _| conn.poll_barrier(&pending.barrier, cx))).await
}

/// A barrier that is cancelled when it is dropped.
struct PendingBarrier<'a> {
    on: &'a ClientConnection,
    barrier: Barrier,
}

impl Drop for PendingBarrier<'_> {
    fn drop(&mut self) {
        self.on.shared.with(|conn, _| conn.drop_barrier(&self.barrier));
    }
}

/// Closes channels, and waits for the end of their connections.
pub(super) async fn close(channels: &ChannelPool, patience: Option<Duration>) -> Result<(), Error> {
    // Closes all before it waits for any.
    let open: Vec<_> = channels
        .all()
        .flat_map(|channel| channel.close().into_iter().map(move |on| (channel, on)))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    // Outside of a runtime waiting is not possible. The connections close anyway.
    errors::check_runtime()?;
    let patience = patience.unwrap_or(CALL_TIMEOUT);
    let over = async {
        for (channel, on) in &open {
            if let cause @ Cause::Lost { .. } = channel.over(on).await {
                return Err(errors::of_connection(&cause).with_peer(Arc::clone(&on.peer)));
            }
        }
        Ok(())
    };
    let result = match Instant::now().checked_add(patience) {
        Some(at) => timer::until(at, over).await,
        None => Some(over.await),
    };
    result.unwrap_or_else(|| {
        open.iter().for_each(|(_, on)| on.abort());
        let text = format!("calls were still open after {patience:?}, and were cut: ClientBuilder::timeout");
        Err(Error::local(Code::DeadlineExceeded, text).with_peer(Arc::clone(channels.first().address())))
    })
}

/// Closes all channels when it is dropped, so that whoever drops the future that has it closes them, too.
pub(super) struct CloseOnDrop<'a>(pub(super) &'a ChannelPool);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.all().for_each(|channel| drop(channel.close()));
    }
}

/// Runs `future` until `deadline`; `what` names its work in the error.
async fn within<T>(
    deadline: &Deadline,
    what: &str,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(at) = deadline.at() else {
        return future.await;
    };
    errors::check_runtime()?;
    timer::until(at, future).await.unwrap_or_else(|| {
        let text = format!("sends were not {what} within {deadline}");
        let error = Error::local(Code::DeadlineExceeded, text).with_executed(Executed::Maybe);
        Err(error.with_phase(Phase::Write))
    })
}
