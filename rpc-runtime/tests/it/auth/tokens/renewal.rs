//! Tokens of a source: when it is asked, and what calls do meanwhile.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Error, Executed, Result, Status,
    auth::{BearerTokens, Caller, Secret, Token, TokenSource},
};
use test_support::{Lab, Running, all, lab::*, until, within};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{connect, served};

/// A source that gives the tokens `1`, `2`, `3` and so on.
#[derive(Clone, Default)]
struct Counting(Arc<CountingState>);

#[derive(Default)]
struct CountingState {
    asked: AtomicUsize,
    answers: Mutex<Answers>,
    /// Each answer waits for it if `Answers::waits`.
    go: Notify,
    dropped: AtomicUsize,
}

#[derive(Clone, Default)]
struct Answers {
    waits: bool,
    fails: Option<Status>,
    panics: bool,
    lifetime: Option<Duration>,
    /// Given in place of the number.
    fixed: Option<&'static str>,
}

/// Counts answers that are dropped.
struct Answering(Counting, bool);

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.1 {
            self.0.0.dropped.fetch_add(1, SeqCst);
        }
    }
}

impl Counting {
    fn set(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.0.answers.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.0.asked.load(SeqCst)
    }
}

impl TokenSource for Counting {
    async fn token(&self) -> Result<Token> {
        let number = self.0.asked.fetch_add(1, SeqCst) + 1;
        let answers = self.0.answers.lock().unwrap().clone();
        let mut answering = Answering(self.clone(), false);
        if answers.waits {
            self.0.go.notified().await;
        }
        answering.1 = true;
        assert!(!answers.panics, "on purpose");
        if let Some(status) = answers.fails {
            return Err(status);
        }
        let token = match answers.fixed {
            Some(fixed) => Token::new(fixed),
            None => Token::new(number.to_string()),
        };
        Ok(match answers.lifetime {
            Some(lifetime) => token.expires_in(lifetime),
            None => token,
        })
    }
}

/// A server that accepts tokens from `oldest` on, and names callers by their tokens.
async fn accepting(address: &str) -> (Lab, Running, Arc<AtomicUsize>) {
    let oldest = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&oldest);
    let tokens = BearerTokens::verified_by(move |token: Secret| {
        let number: usize = token.expose().parse().unwrap_or_default();
        let is_accepted = number >= accepted.load(SeqCst);
        async move {
            match is_accepted {
                true => Ok(Caller::new(token.expose())),
                false => Err(Status::unauthenticated("that is too old")),
            }
        }
    });
    let (lab, server) = served(address, tokens).await;
    (lab, server, oldest)
}

async fn client(server: &Running, source: &Counting) -> Client {
    connect(server, |client| client.token_source(source.clone()))
        .await
        .unwrap()
}

async fn call(client: &Client) -> Result<(), Error> {
    echo(client, "").await.map(drop)
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_token_is_renewed_before_it_expires_and_calls_do_not_wait() {
    let (lab, server, _) = accepting("mem:renewal-before").await;
    let source = Counting::default();
    source.set(|answers| answers.lifetime = Some(Duration::from_secs(100)));
    let client = client(&server, &source).await;
    assert_eq!(source.asked(), 0, "the first call asks");
    call(&client).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    call(&client).await.unwrap();
    assert_eq!(source.asked(), 1);
    source.set(|answers| answers.waits = true);
    sleep(Duration::from_secs(25)).await;
    for _ in 0..3 {
        // The source does not answer yet.
        call(&client).await.unwrap();
    }
    until(|| source.asked() == 2).await;
    source.0.go.notify_one();
    source.set(|answers| answers.waits = false);
    // The task that asks ends before the call does.
    sleep(Duration::from_millis(1)).await;
    call(&client).await.unwrap();
    assert_eq!(source.asked(), 2);
    sleep(Duration::from_secs(1000)).await;
    call(&client).await.unwrap();
    let calls: Vec<_> = ["1", "1", "1", "1", "1", "2", "3"]
        .map(|token| format!("{token} calls echo"))
        .into();
    assert_eq!(lab.log(), calls, "the last token had expired");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_source_is_asked_once_for_all_calls_that_wait() {
    let (lab, server, _) = accepting("mem:renewal-once").await;
    let source = Counting::default();
    source.set(|answers| answers.waits = true);
    let client = client(&server, &source).await;
    let calls: Vec<_> = (0..20).map(|_| start(&client, &ECHO, "")).collect();
    let impatient = client.call().timeout(Duration::from_secs(1));
    let error = within(impatient.send_recv::<_, String>(&ECHO, String::new()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::DeadlineExceeded, Executed::No)
    );
    assert!(
        error.message().contains(
            "its source has not answered in the time of the call: Call::timeout or ClientBuilder::timeout"
        ),
        "{error}"
    );
    assert_eq!(source.asked(), 1);
    assert!(lab.log().is_empty());
    source.0.go.notify_one();
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    assert_eq!(source.asked(), 1, "the call that gave up did not end it");
    assert_eq!(lab.log(), vec!["1 calls echo"; 20]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_wait_for_a_source_that_is_away_and_say_why() {
    let (_, server, _) = accepting("mem:renewal-away").await;
    let source = Counting::default();
    source.set(|answers| answers.fails = Some(Status::unavailable("vault is sealed")));
    let client = client(&server, &source).await;
    for fails_fast in [true, false] {
        let patient = client.call().timeout(Duration::from_secs(20));
        let patient = if fails_fast { patient.fail_fast() } else { patient };
        let begun = Instant::now();
        let error = within(patient.send_recv::<_, String>(&ECHO, String::new()))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unavailable, Executed::No)
        );
        assert!(
            error.message().ends_with("gave no token: vault is sealed"),
            "{error}"
        );
        assert_eq!(begun.elapsed() < Duration::from_secs(1), fails_fast);
    }
    let asked = source.asked();
    assert!((4..20).contains(&asked), "asked {asked} times in 20 s");
    let waiting = start(&client, &ECHO, "");
    source.set(|answers| answers.fails = None);
    within(waiting).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_source_that_refuses_fails_calls_at_once() {
    let (_, server, _) = accepting("mem:renewal-refuses").await;
    let source = Counting::default();
    source.set(|answers| answers.fails = Some(Status::permission_denied("bad client secret")));
    let client = client(&server, &source).await;
    let begun = Instant::now();
    for _ in 0..100 {
        let error = call(&client).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
        assert!(error.message().ends_with("bad client secret"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(source.asked() <= 3, "it pauses: asked {} times", source.asked());
    source.set(|answers| answers.panics = true);
    sleep(Duration::from_secs(60)).await;
    let error = call(&client).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.message().ends_with("it panicked"), "{error}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_old_token_is_used_while_the_source_is_away() {
    let (lab, server, _) = accepting("mem:renewal-old").await;
    let source = Counting::default();
    source.set(|answers| answers.lifetime = Some(Duration::from_secs(100)));
    let client = client(&server, &source).await;
    call(&client).await.unwrap();
    source.set(|answers| answers.fails = Some(Status::unavailable("down")));
    for second in 0..9 {
        sleep(Duration::from_secs(11)).await;
        assert!(call(&client).await.is_ok(), "after {} s", 11 * (second + 1));
    }
    assert!(source.asked() > 1);
    assert_eq!(lab.log(), vec!["1 calls echo"; 10]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_refused_token_is_replaced_and_the_call_made_again_once() {
    let (lab, server, oldest) = accepting("mem:renewal-refused").await;
    let source = Counting::default();
    let client = client(&server, &source).await;
    call(&client).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    oldest.store(2, SeqCst);
    call(&client).await.unwrap();
    assert_eq!(lab.take_log(), ["1 calls echo", "2 calls echo"]);

    // The server refuses everything: each call is made twice at most, and the source is asked once in 5 s.
    oldest.store(1000, SeqCst);
    for _ in 0..50 {
        let error = call(&client).await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::Unauthenticated, "that is too old")
        );
        assert_eq!(error.executed(), Executed::No);
    }
    assert_eq!(source.asked(), 2, "token 2 is young");
    sleep(Duration::from_secs(10)).await;
    for _ in 0..50 {
        call(&client).await.unwrap_err();
    }
    assert_eq!(source.asked(), 3);
    assert!(lab.log().is_empty());

    // A source that gives the same token again: the call is not made again.
    source.set(|answers| answers.fixed = Some("3"));
    sleep(Duration::from_secs(10)).await;
    call(&client).await.unwrap_err();
    assert_eq!(source.asked(), 4);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_stream_whose_token_is_refused_is_not_opened_twice() {
    let (lab, server, oldest) = accepting("mem:renewal-stream").await;
    let source = Counting::default();
    let client = client(&server, &source).await;
    call(&client).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    oldest.store(2, SeqCst);
    let mut counted = client.call().reply_stream(&COUNT, 2_u64).await.unwrap();
    let error = all::<u64>(&mut counted).await.1.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unauthenticated, "that is too old")
    );
    let mut counted = client.call().reply_stream(&COUNT, 2_u64).await.unwrap();
    assert_eq!(all::<u64>(&mut counted).await.0, [0, 1]);
    assert_eq!(lab.log(), ["1 calls echo", "2 calls count"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn calls_go_on_while_the_source_blocks_a_thread_of_the_runtime() {
    let (lab, server, _) = accepting("mem:renewal-blocked").await;
    let asked = Arc::new(AtomicUsize::new(0));
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let source = {
        let asked = Arc::clone(&asked);
        move || {
            let number = asked.fetch_add(1, SeqCst) + 1;
            let blocked = Arc::clone(&blocked);
            async move {
                if number == 1 {
                    // It ends when the sender is dropped, and without an await.
                    let _ = blocked.lock().unwrap().recv();
                }
                Ok(Token::new(number.to_string()))
            }
        }
    };
    let client = connect(&server, |client| client.token_source(source))
        .await
        .unwrap();
    let calls = [start(&client, &ECHO, ""), start(&client, &ECHO, "")];
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    assert_eq!(asked.load(SeqCst), 2, "another task asks after 4 s, and no more");
    drop(release);
    call(&client).await.unwrap();
    assert_eq!(lab.log(), vec!["2 calls echo"; 3]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn one_way_calls_carry_the_token_of_their_time() {
    let (lab, server, _) = accepting("mem:renewal-one-way").await;
    let source = Counting::default();
    source.set(|answers| answers.lifetime = Some(Duration::from_secs(100)));
    let client = client(&server, &source).await;
    send(&client, &NOTE, "a").await;
    sleep(Duration::from_secs(101)).await;
    send(&client, &NOTE, "b").await;
    within(client.settled()).await.unwrap();
    assert_eq!(lab.log(), ["1 calls note", "a", "2 calls note", "b"]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_client_that_is_dropped_drops_its_source_answer() {
    let (_, server, _) = accepting("mem:renewal-dropped").await;
    let source = Counting::default();
    source.set(|answers| answers.waits = true);
    let client = client(&server, &source).await;
    let waiting = start(&client, &ECHO, "");
    until(|| source.asked() == 1).await;
    waiting.abort();
    let _ = within(waiting).await;
    drop(client);
    until(|| source.0.dropped.load(SeqCst) == 1).await;
}
