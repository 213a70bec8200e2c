//! The walk: uses every feature once, and prints one line with the time for each.

use std::{
    error::Error as StdError,
    fmt,
    time::{Duration, Instant},
};

use demo_api::demo::kv::v1::{
    Answer, Command, KeyRefused, KvClient, UpdateRequest, WatchEvent, Watcher, WatcherServer,
};
use indicatif::{ProgressBar, ProgressStyle};
use rpc_runtime::{Bytes, Code, Context, Error, Executed};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

/// A walk through every feature of the demo.
pub(crate) struct Walk {
    address: String,
    terminate: bool,
    steps: usize,
}

/// The result of a step. An error is the [`Error`] of a call, or a text if a call had the wrong result.
type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

/// How many calls the pipelined step makes, over one connection.
const PIPELINED: usize = 10_000;
/// How many entries the import has.
const IMPORTED: u64 = 10_000;

impl Walk {
    /// A walk on the server at `address`. With `terminate` it terminates the server at its end.
    pub(crate) fn new(address: &str, terminate: bool) -> Self {
        Self {
            address: address.to_owned(),
            terminate,
            steps: 0,
        }
    }

    /// Runs every step.
    ///
    /// # Errors
    ///
    /// The first step that has a wrong result.
    pub(crate) async fn run(mut self) -> Outcome {
        let began = Instant::now();
        let kv = KvClient::connect(&self.address).await?;
        let what = format!("connect {}", self.address);
        self.done(began, what);

        let began = Instant::now();
        kv.send_recv().noop().await?;
        self.done(began, "send_recv noop");

        let began = Instant::now();
        let text = kv.send_recv().ping("hello").await?;
        self.done(began, format_args!("send_recv ping -> {text:?}"));

        self.one_way(&kv).await?;
        self.fetch(&kv).await?;
        self.pipelined(&kv).await?;
        self.deadline(&kv).await?;
        self.refusal(&kv).await?;
        self.overtaking(&kv).await?;
        self.watch(&kv).await?;
        self.import(&kv).await?;
        self.session(&kv).await?;
        self.callback().await?;

        if self.terminate {
            let began = Instant::now();
            let report = kv.send_recv().terminate().await?;
            self.done(began, format_args!("send_recv terminate -> {report}"));
        } else {
            let began = Instant::now();
            kv.close().await?;
            self.done(began, "close: the server stays up (--terminate stops it)");
        }
        println!("all {} steps ok", self.steps);
        Ok(())
    }

    /// One-way calls. Nothing comes back, and the account says what became of them.
    async fn one_way(&mut self, kv: &KvClient) -> Outcome {
        let began = Instant::now();
        for (key, value) in [("dog", "brown"), ("cat", "black"), ("fox", "red")] {
            kv.send().update(key, value).await?;
        }
        self.done(began, "send update, three times: queued, nothing comes back");

        let began = Instant::now();
        let account = kv.barrier().await?;
        self.done(began, format_args!("barrier -> {account}"));
        Ok(())
    }

    async fn fetch(&mut self, kv: &KvClient) -> Outcome {
        let began = Instant::now();
        let brown = kv.send_recv().fetch("dog").await?;
        self.done(
            began,
            format_args!("send_recv fetch \"dog\" -> {}", shown(brown.as_deref())),
        );

        let began = Instant::now();
        let nothing = kv.send_recv().fetch("unicorn").await?;
        self.done(
            began,
            format_args!("send_recv fetch \"unicorn\" -> {}", shown(nothing.as_deref())),
        );
        Ok(())
    }

    /// Ten thousand calls at once over one connection.
    async fn pipelined(&mut self, kv: &KvClient) -> Outcome {
        let began = Instant::now();
        let mut calls = JoinSet::new();
        for _ in 0..PIPELINED {
            let kv = kv.clone();
            calls.spawn(async move { kv.send_recv().fetch("dog").await });
        }
        while let Some(joined) = calls.join_next().await {
            joined??;
        }
        let rate = PIPELINED as f64 / began.elapsed().as_secs_f64();
        self.done(
            began,
            format_args!("{PIPELINED} pipelined calls -> {rate:.0} calls/s"),
        );
        Ok(())
    }

    /// A deadline that is missed on purpose.
    async fn deadline(&mut self, kv: &KvClient) -> Outcome {
        let began = Instant::now();
        let late = kv
            .send_recv()
            .timeout(Duration::from_millis(50))
            .sleep(10_000)
            .await;
        let error = expect_error(late, Code::DeadlineExceeded)?;
        let executed = error.executed();
        self.done(
            began,
            format_args!(
                "sleep 10 s within 50 ms -> {}, executed: {executed:?}",
                error.code()
            ),
        );
        Ok(())
    }

    /// A refused call, with details that the caller can read.
    async fn refusal(&mut self, kv: &KvClient) -> Outcome {
        let began = Instant::now();
        let error = expect_error(kv.send_recv().update("", "no key").await, Code::InvalidArgument)?;
        if error.executed() != Executed::Yes {
            return Err(format!("the handler refused it, but the error says otherwise: {error:#}").into());
        }
        let refused: KeyRefused = error.details_as().ok_or("the refusal has no details")??;
        self.done(
            began,
            format_args!(
                "update \"\" -> {}: {} (max_len {})",
                error.code(),
                error.message(),
                refused.max_len
            ),
        );
        Ok(())
    }

    /// Two slow calls, one that waits and one that blocks its thread, and a quick call that overtakes them.
    async fn overtaking(&mut self, kv: &KvClient) -> Outcome {
        let began = Instant::now();
        let slow = kv.send_recv();
        let slow = slow.sleep(300);
        kv.send().block(300).await?;
        let quick = async {
            let began = Instant::now();
            kv.send_recv().ping("quick").await?;
            Ok::<_, Error>(began.elapsed())
        };
        let (slow, quick) = tokio::join!(slow, quick);
        slow?;
        self.done(
            began,
            format_args!(
                "sleep 300 ms and block 300 ms, overtaken by a ping of {:?}",
                quick?
            ),
        );
        Ok(())
    }

    /// A stream of replies: the present values, then each change.
    async fn watch(&mut self, kv: &KvClient) -> Outcome {
        let began = Instant::now();
        kv.send_recv().update("star/sirius", "bright").await?;
        let mut stars = kv.send_recv().watch("star/").await?;
        let mut seen = Vec::new();
        while let Some(WatchEvent { key, value }) = stars.message().await? {
            seen.push(format!("{key} {}", String::from_utf8_lossy(&value)));
            match seen.len() {
                1 => kv.send_recv().update("star/vega", "blue").await?,
                _ => break,
            }
        }
        // Dropping the stream cancels the call.
        drop(stars);
        self.done(
            began,
            format_args!("send_recv watch \"star/\" -> {}", seen.join(", ")),
        );
        Ok(())
    }

    /// A stream of requests, with one reply.
    async fn import(&mut self, kv: &KvClient) -> Outcome {
        let began = Instant::now();
        // The bar is hidden if stderr is not a terminal.
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}")?;
        let progress = ProgressBar::new(IMPORTED)
            .with_style(style)
            .with_message("importing");
        let (mut entries, imported) = kv.send_recv().import().await?;
        for number in 0..IMPORTED {
            if number % (IMPORTED / 20) == 0 && !progress.is_hidden() {
                // So that a person sees the bar move.
                sleep(Duration::from_millis(25)).await;
            }
            // Waits if the server does not keep up.
            entries
                .send(UpdateRequest {
                    key: format!("import/{number}"),
                    value: "imported".into(),
                })
                .await?;
            progress.inc(1);
        }
        entries.finish();
        let imported = imported.await?;
        progress.finish_and_clear();
        self.done(began, format_args!("send_recv import -> {imported} entries"));
        Ok(())
    }

    /// Streams in both directions. The server answers each command before the next one is sent.
    async fn session(&mut self, kv: &KvClient) -> Outcome {
        let began = Instant::now();
        let (mut commands, mut answers) = kv.send_recv().session().await?;
        let mut seen = Vec::new();
        for value in [None, Some("golden".into()), None] {
            let key = "dog".to_owned();
            commands.send(Command { key, value }).await?;
            let Some(Answer { before }) = answers.message().await? else {
                return Err("the session ended too early".into());
            };
            seen.push(shown(before.as_deref()));
        }
        commands.finish();
        if let Some(answer) = answers.message().await? {
            return Err(format!("the session sent one answer too many: {answer:?}").into());
        }
        self.done(
            began,
            format_args!("send_recv session: look, store, look -> {}", seen.join(", ")),
        );
        Ok(())
    }

    /// A service of this client. The server calls it on the client's own connection.
    async fn callback(&mut self) -> Outcome {
        let began = Instant::now();
        let (sender, mut changes) = mpsc::channel(1);
        let kv = KvClient::builder(&self.address)
            .service(WatcherServer::new(Forward(sender)))
            .connect()
            .await?;
        kv.send_recv().subscribe("moon/").await?;
        kv.send_recv().update("moon/io", "yellow").await?;
        let changed = timeout(Duration::from_secs(10), changes.recv()).await?;
        let (key, value) = changed.ok_or("the subscription ended too early")?;
        kv.close().await?;
        self.done(
            began,
            format_args!(
                "subscribe \"moon/\", and the server calls back: changed {key:?} {}",
                shown(Some(&value))
            ),
        );
        Ok(())
    }

    fn done(&mut self, began: Instant, what: impl fmt::Display) {
        let time = began.elapsed();
        self.steps += 1;
        println!("{:>2}  {:>9.3} ms  {what}", self.steps, time.as_secs_f64() * 1e3);
    }
}

/// The service of this client. It forwards each change to a channel.
struct Forward(mpsc::Sender<(String, Bytes)>);

impl Watcher for Forward {
    async fn rpc_changed(&self, _: &Context, key: String, value: Bytes) -> rpc_runtime::Result<()> {
        // This fails if the receiver is gone, which does not concern the server.
        let _ = self.0.send((key, value)).await;
        Ok(())
    }

    async fn rpc_missed(&self, _: &Context, changes: u64) -> rpc_runtime::Result<()> {
        eprintln!("this watcher is too slow: it missed {changes} changes");
        Ok(())
    }
}

/// Returns the expected error of a call. Any other outcome fails the step.
fn expect_error<T>(outcome: Result<T, Error>, code: Code) -> Outcome<Error> {
    match outcome {
        Err(error) if error.code() == code => Ok(error),
        Err(error) => Err(error.into()),
        Ok(_) => Err(format!("a call succeeded that should fail with {code}").into()),
    }
}

fn shown(value: Option<&[u8]>) -> String {
    value.map_or_else(
        || "nothing".to_owned(),
        |value| format!("{:?}", String::from_utf8_lossy(value)),
    )
}
