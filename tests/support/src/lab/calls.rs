//! Procedures without streams.

use std::{
    future::pending,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use prost::bytes::{Buf, BufMut};
use rpc_runtime::{
    Bytes, Client, Code, Context, Error, Result, Status,
    server::{Handler, Incoming, Procedure},
};

use super::{Handle, Lab, NoteDrop, procedures};

procedures! {
    /// Returns its bytes, or its text: both are the same on the wire.
    ECHO = "echo", 1;
    |_, call| call.handle(|_, bytes: Bytes| async move { Ok(bytes) })

    /// Returns as many bytes as its number says.
    FILL = "fill", 102;
    |_, call| call.handle(|_, len: u64| async move { Ok(Bytes::from(vec![7; len as usize])) })

    /// Appends its text to the log.
    NOTE = "note", 2;
    |lab, call| call.handle(|_, text: String| async move {
        lab.note(text);
        Ok(())
    })

    /// Adds its number to the sum.
    ADD = "add", 105;
    |lab, call| call.handle(|_, number: u64| async move {
        lab.0.sum.fetch_add(number, Ordering::SeqCst);
        Ok(())
    })

    /// Returns the sum.
    TOTAL = "total", 109;
    |lab, call| call.handle(|_, (): ()| async move { Ok(lab.sum()) })

    /// Returns twice its number.
    DOUBLE = "double", 209;
    |_, call| call.handle(|_, number: u64| async move { Ok(2 * number) })

    /// Returns its text after 10 ms.
    SLEEP = "sleep", 13;
    |_, call| call.handle(|_, text: String| async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(text)
    })

    /// Notes that it began, waits for the release, notes that it ended or was dropped.
    WAIT = "wait", 3;
    |lab, call| call.handle(|_, name: String| async move { Ok(lab.wait(name).await) })

    /// As `WAIT`, and panics when it is dropped.
    PANIC_DROPPED = "panic_dropped", 19;
    |lab, call| call.handle(|_, name: String| async move {
        let _panic = PanicDrop;
        Ok(lab.wait(name).await)
    })

    /// Never ends; each time that the test wakes it, it waits again.
    WAIT_AGAIN = "wait_again", 27;
    |lab, call| call.handle(|_, name: String| async move {
        let _guard = NoteDrop::new(&lab, &name);
        lab.note(format!("{name} began"));
        loop {
            lab.0.wake.notified().await;
        }
        #[expect(unreachable_code, reason = "the last line gives the block its type")]
        Ok(name)
    })

    /// Never ends. [`Lab::hanging`] counts it.
    HANG = "hang", 103;
    |lab, call| call.handle(|_, (): ()| async move {
        let _hanging = lab.hang();
        pending::<Result<()>>().await
    })

    /// As `WAIT`, but blocks its thread until the release.
    BLOCK = "block", 4;
    block

    /// As `BLOCK`, declared to run in a task of its own.
    BLOCK_SPAWNED = "block_spawned", 5, spawn;
    block

    /// As `BLOCK`, declared to block.
    BLOCK_BLOCKING = "block_blocking", 6, blocking;
    block

    /// As `BLOCK`, but after an await.
    BLOCK_LATER = "block_later", 12;
    |lab, call| call.handle(|_, name: String| async move {
        lab.note(format!("{name} first"));
        tokio::task::yield_now().await;
        Ok(lab.block(name))
    })

    /// Notes that it began, computes for 100 µs, notes that it ended. A task costs less than that.
    COMPUTE = "compute", 24;
    |lab, call| call.handle(|_, name: String| async move {
        lab.note(format!("{name} began"));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(100) {
            std::hint::spin_loop();
        }
        lab.note(format!("{name} ended"));
        Ok(name)
    })

    /// Panics at its first poll.
    PANIC = "panic", 7;
    |_, call| call.handle(|_, (): ()| async move { panics() })

    /// Panics after an await.
    PANIC_LATER = "panic_later", 8;
    |_, call| call.handle(|_, (): ()| async move {
        tokio::task::yield_now().await;
        panics()
    })

    /// Returns a message that panics when it is encoded.
    UNWRITABLE = "unwritable", 15;
    |_, call| call.handle(|_, (): ()| async move { Ok(Unwritable) })

    /// Fails with a fixed text and details.
    FAIL = "fail", 9;
    |_, call| call.handle(|_, (): ()| async move {
        let status = Status::new(Code::NotFound, "no such thing").with_details_bytes(Bytes::from_static(b"more"));
        Err::<String, _>(status)
    })

    /// Fails with the text of its request, details, and the metadata of its caller.
    REFUSE = "refuse", 104;
    |_, call| call.handle(|cx: Context, text: String| async move {
        let status = Status::new(Code::AlreadyExists, text)
            .with_details_bytes(Bytes::from_static(b"the typed reason"))
            .with_metadata(cx.metadata().clone());
        Err::<(), _>(status)
    })

    /// Returns what its context says, as text.
    CONTEXT = "context", 10;
    |_, call| call.handle(|cx: Context, (): ()| async move { Ok(describe(&cx)) })

    /// Returns the value of the caller's metadata entry `k`.
    ENTRY = "entry", 108;
    |_, call| call.handle(|cx: Context, (): ()| async move {
        Ok(cx.metadata().get("k").cloned().unwrap_or_default())
    })

    /// Returns the name of its thread.
    THREAD = "thread", 25;
    |_, call| call.handle(|_, (): ()| async move {
        Ok(std::thread::current().name().unwrap_or_default().to_owned())
    })

    /// Returns its caller's address.
    PEER = "peer", 26;
    |_, call| call.handle(|cx: Context, (): ()| async move { Ok(cx.peer().address().to_owned()) })

    /// Notes that it began, and returns when the server drains.
    DRAINING = "draining", 18;
    |lab, call| call.handle(|cx: Context, name: String| async move {
        lab.note(format!("{name} began, draining={}", cx.is_draining()));
        cx.draining().await;
        Ok(format!("{name} ended, draining={}", cx.is_draining()))
    })

    /// Terminates its own server, by the client that the test has set.
    TERMINATE_OWN = "terminate_own", 11;
    |lab, call| call.handle(|_, (): ()| async move {
        let report = lab.client().terminate().await?;
        lab.note("terminate returned");
        Ok(report.to_string())
    })

    /// As `TERMINATE_OWN`, from a task that it spawns and waits for.
    TERMINATE_OWN_SPAWNED = "terminate_own_spawned", 16;
    |lab, call| call.handle(|cx: Context, (): ()| async move {
        let client = lab.client();
        let task = tokio::spawn(async move { client.call().within(&cx).terminate().await });
        Ok(task.await.unwrap()?.to_string())
    })

    /// Calls `TERMINATE_OWN` of another server, by the client that the test has set.
    TERMINATE_BEYOND = "terminate_beyond", 17;
    |lab, call| call.handle(|_, (): ()| async move {
        let client = lab.client();
        let report: String = client.call().timeout(None).send_recv(&TERMINATE_OWN, ()).await?;
        Ok(report)
    })

    /// Calls `ECHO` of another server, by the client that the test has set.
    FORWARD = "forward", 14;
    |lab, call| call.handle(|_, text: String| async move {
        let client = lab.client();
        let text: String = client.call().send_recv(&ECHO, text).await?;
        lab.note(format!("{text} forwarded"));
        Ok(text)
    })

    /// Calls `HANG` of another server without a timeout, and returns how that ended.
    NEST = "nest", 106;
    |lab, call| call.handle(|_, (): ()| async move {
        let next = lab.client();
        Ok(outcome(next.call().timeout(None).send_recv(&HANG, ()).await))
    })

    /// As `NEST`, from a task that it spawns, within its context.
    NEST_SPAWNED = "nest_spawned", 107;
    |lab, call| call.handle(|cx: Context, (): ()| async move {
        let next = lab.client();
        let nested = async move { next.call().timeout(None).within(&cx).send_recv(&HANG, ()).await };
        Ok(outcome(tokio::spawn(nested).await.unwrap()))
    })

    /// Calls `ECHO` of its caller.
    BACK = "back", 20;
    |_, call| call.handle(|cx: Context, text: String| async move { back(&cx, &ECHO, text).await })

    /// As `BACK`, when the server drains.
    BACK_DRAINING = "back_draining", 21;
    |lab, call| call.handle(|cx: Context, text: String| async move {
        lab.note(format!("{text} began"));
        cx.draining().await;
        back(&cx, &ECHO, text).await
    })

    /// Calls `WAIT` of its caller.
    BACK_WAIT = "back_wait", 22;
    |_, call| call.handle(|cx: Context, text: String| async move { back(&cx, &WAIT, text).await })

    /// Keeps a client of its caller, which the test finds in [`Lab::client`].
    KEEP = "keep", 23;
    |lab, call| call.handle(|cx: Context, (): ()| async move {
        lab.set_client(cx.caller());
        Ok(())
    })
}

/// The built-in terminate, for requests that a test makes itself.
pub static TERMINATE: Procedure =
    Procedure::new("rpc.control.v1.Control/rpc_terminate", 0xa5ce_a24e_5662_ab3b);

/// A procedure that no server has.
pub static NOWHERE: Procedure = Procedure::new("lab.v1.Lab/nowhere", 99);

fn block(lab: Lab, call: Incoming) -> Handler {
    call.handle(|_, name: String| async move { Ok(lab.block(name)) })
}

fn panics() -> Result<String> {
    panic!("on purpose")
}

/// Calls the caller.
async fn back(cx: &Context, procedure: &'static Procedure, text: String) -> Result<String> {
    let caller: Client = cx.caller();
    Ok(caller.call().send_recv(procedure, text).await?)
}

fn outcome(result: Result<(), Error>) -> String {
    result.map_or_else(|error| error.code().name().to_owned(), |()| "OK".to_owned())
}

fn describe(cx: &Context) -> String {
    format!(
        "{} {:?} deadline={} one_way={} k={}",
        cx.procedure(),
        cx.peer().transport(),
        cx.remaining().is_some(),
        cx.is_one_way(),
        cx.metadata().get_str("k").unwrap_or("-")
    )
}

/// Panics when it is dropped, unless its thread panics already.
struct PanicDrop;

impl Drop for PanicDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "on purpose");
    }
}

/// The request of a terminate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TerminateRequest {
    /// The server that is meant; empty means any.
    #[prost(bytes = "bytes", tag = "1")]
    pub instance_id: Bytes,
    /// The answer to the challenge of the server.
    #[prost(bytes = "bytes", tag = "3")]
    pub proof: Bytes,
}

/// A message that panics when it is encoded.
#[derive(Clone, Debug, Default)]
pub struct Unwritable;

impl prost::Message for Unwritable {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&[0; 10]);
        panic!("on purpose")
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl Buf,
        _: prost::encoding::DecodeContext,
    ) -> std::result::Result<(), prost::DecodeError> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        20
    }

    fn clear(&mut self) {}
}
