//! No secret is shown: not at any level of the log, not in the text of any error, and not by `Debug`.
//!
//! One word, the canary, stands in everything that is secret: payloads, values of metadata, details, proofs, keys. It must come
//! back to those whom it is meant for, and appear nowhere else.

mod frames;
mod hello;

use std::{
    error::Error as StdError,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_runtime::{
    Bytes, Client, Code, Context, Error, Limits, Metadata, Requests, Result, Server, Status,
    middleware::{Answer, AnyCall, Middleware, Next},
    server::{Handler, Incoming, Procedure, Service},
    stream,
};
use test_support::{
    Logged, Running,
    lab::{NOWHERE, TERMINATE, TerminateRequest},
    serve,
    wire::{self, HandPeer},
    within,
};

pub(crate) const CANARY: &str = "Kanarienvogel";

static KEEP: Procedure = Procedure::new("secret.v1.Secrets/rpc_keep", 0x5ec1);
static FAIL: Procedure = Procedure::new("secret.v1.Secrets/rpc_fail", 0x5ec2);
static PANIC: Procedure = Procedure::new("secret.v1.Secrets/rpc_panic", 0x5ec3);
static HANG: Procedure = Procedure::new("secret.v1.Secrets/rpc_hang", 0x5ec4);
static NUMBER: Procedure = Procedure::new("secret.v1.Secrets/rpc_number", 0x5ec5);
static STREAM: Procedure = Procedure::new("secret.v1.Secrets/rpc_stream", 0x5ec6)
    .with_request_stream()
    .with_reply_stream();
static PROCEDURES: [Procedure; 6] = [KEEP, FAIL, PANIC, HANG, NUMBER, STREAM];

/// What was shown to somebody who must not see the canary, and by what.
#[derive(Clone, Default)]
pub(crate) struct Shown(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Shown {
    pub(crate) fn add(&self, what: &'static str, text: impl Into<String>) {
        self.0.lock().unwrap().push((what, text.into()));
    }

    pub(crate) fn debug(&self, what: &'static str, value: &impl Debug) {
        self.add(what, format!("{value:?} {value:#?}"));
    }

    /// Adds all texts of an error and of its sources.
    pub(crate) fn error(&self, what: &'static str, error: &(impl StdError + 'static)) {
        self.debug(what, error);
        self.add(what, format!("{error} {error:#}"));
        let mut next = error.source();
        while let Some(source) = next {
            self.add(what, format!("{source} {source:?} {source:#?}"));
            next = source.source();
        }
    }

    /// Fails for each text with the canary.
    #[track_caller]
    pub(crate) fn check(&self, logged: &Logged) {
        self.add("the log", logged.all());
        let shown = self.0.lock().unwrap();
        let leaks: Vec<_> = shown.iter().filter(|(_, text)| has_canary(text)).collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}

/// True if the canary is in a text: as itself, or as its bytes in any of the usual forms.
fn has_canary(text: &str) -> bool {
    let bytes = CANARY.as_bytes();
    let joined = |each: &dyn Fn(&u8) -> String, between: &str| {
        let all: Vec<_> = bytes.iter().map(each).collect();
        all.join(between)
    };
    let forms = [
        CANARY.to_owned(),
        joined(&|byte| byte.to_string(), ", "),
        // As `{:#?}` writes a list.
        joined(&|byte| byte.to_string(), ","),
        joined(&|byte| format!("{byte:02x}"), ""),
        joined(&|byte| format!("{byte:02x}"), ", "),
        joined(&|byte| format!("{byte:02X}"), ""),
        // Of base64 at the three offsets in a text, what does not depend on the neighbours.
        "S2FuYXJpZW52b2dlb".to_owned(),
        "thbmFyaWVudm9nZW".to_owned(),
        "LYW5hcmllbnZvZ2Vs".to_owned(),
    ];
    let without_blanks: String = text.split_whitespace().collect();
    let in_text = forms.iter().any(|form| text.contains(form.as_str()));
    in_text || forms.iter().any(|form| without_blanks.contains(form.as_str()))
}

/// A service that gets the canary, and sends it.
pub(crate) struct Secrets(pub(crate) Shown);

impl Service for Secrets {
    fn name(&self) -> &'static str {
        "secret.v1.Secrets"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let shown = self.0.clone();
        shown.debug("Incoming", &call);
        match index {
            0 => call.handle(move |cx: Context, text: String| async move {
                shown.debug("Context", &cx);
                assert_eq!(text, CANARY);
                assert_eq!(cx.metadata().get_str("x-secret"), Some(CANARY));
                cx.add_reply_metadata("x-answer", CANARY)?;
                Ok(CANARY.to_owned())
            }),
            1 => call.handle(move |cx: Context, _: String| async move {
                let status = Status::new(Code::DataLoss, "a text for the caller")
                    .with_details_bytes(Bytes::from(CANARY))
                    .with_metadata(cx.metadata().clone());
                shown.error("Status", &status);
                Err::<(), _>(status)
            }),
            2 => call.handle(|_, _: String| async move { panics() }),
            3 => call.handle(|_, _: String| async move {
                std::future::pending::<()>().await;
                Ok(())
            }),
            // Takes a number where it gets a text.
            4 => call.handle(|_, _: u64| async move { Ok(()) }),
            _ => call.handle_both_streams(move |_, mut requests: Requests<String>, replies| async move {
                shown.debug("Requests", &requests);
                let echo = stream(async |out| {
                    while let Some(message) = requests.message().await? {
                        out.send(message).await;
                    }
                    Ok(())
                });
                replies.forward(echo).await
            }),
        }
    }
}

/// The text of a panic is what its handler says, as is that of a status. What the handler got is not in it.
fn panics() -> Result<String> {
    panic!("this panic is part of the test")
}

/// Shows what middleware is given.
struct Showing(Shown);

impl<C: AnyCall + Debug> Middleware<C> for Showing
where
    C::Error: 'static,
{
    async fn handle(&self, call: C, next: Next<C>) -> Result<Answer, C::Error> {
        self.0.debug("call", &call);
        self.0.debug("metadata", call.metadata());
        self.0.debug("next", &next);
        if call.metadata().get_str("x-refuse").is_some() {
            return Err(Status::unauthenticated("refused by middleware").into());
        }
        let answer = next.run(call).await;
        match &answer {
            Ok(answer) => self.0.debug("answer", answer),
            Err(error) => self.0.error("error in middleware", error),
        }
        answer
    }
}

async fn with_secrets(address: &str, shown: &Shown) -> Running {
    let server = Server::builder()
        .service(Secrets(shown.clone()))
        .layer(Showing(shown.clone()))
        .listener(address)
        .limits(Limits::default().max_message(100_000))
        .signals(false);
    shown.debug("ServerBuilder", &server);
    serve(server).await
}

async fn client_of(server: &Running, shown: &Shown) -> Client {
    let builder = Client::builder(&server.address).layer(Showing(shown.clone()));
    shown.debug("ClientBuilder", &builder);
    within(builder.connect()).await.unwrap()
}

/// Calls a procedure with the canary in the message and in the metadata.
async fn call(client: &Client, procedure: &'static Procedure) -> Result<String, Error> {
    let call = client.call().metadata("x-secret", CANARY);
    within(call.send_recv(procedure, CANARY.to_owned())).await
}

#[tokio::test(crate = "test_support::gate")]
async fn no_secret_of_a_call_is_logged_or_shown() {
    let (logged, shown) = (Logged::here(), Shown::default());
    let server = with_secrets("tcp://127.0.0.1:0", &shown).await;
    let client = client_of(&server, &shown).await;
    shown.debug("Client", &client);

    // It arrives where it should: what is shown below has it inside.
    let call_options = client.call().metadata("x-secret", CANARY);
    shown.debug("Call", &call_options);
    let reply = call_options.send_recv(&KEEP, CANARY.to_owned());
    shown.debug("Reply", &reply);
    let (text, receipt): (String, _) = within(reply.with_receipt()).await.unwrap();
    assert_eq!(
        (text.as_str(), receipt.metadata().get_str("x-answer")),
        (CANARY, Some(CANARY))
    );
    shown.debug("Receipt", &receipt);
    shown.debug("Metadata", receipt.metadata());
    let metadata: Metadata = [("x-secret", CANARY)].into_iter().collect();
    shown.debug("Metadata", &metadata);

    let (mut sender, mut replies) = within(client.call().both_streams::<String, String>(&STREAM))
        .await
        .unwrap();
    within(sender.send(CANARY.to_owned())).await.unwrap();
    shown.debug("Sender", &sender);
    shown.debug("Streaming", &replies);
    assert_eq!(within(replies.message()).await.unwrap().as_deref(), Some(CANARY));
    within(sender.send("y".repeat(200_000))).await.unwrap_err();
    while let Ok(Some(_)) = within(replies.message()).await {
        // What came before the end.
    }

    // Faults that have it.
    let status = call(&client, &FAIL).await.unwrap_err();
    assert_eq!(&status.status().unwrap().details()[..], CANARY.as_bytes());
    shown.error("a status with details", &status);
    shown.error("its status", status.status().unwrap());
    shown.error("it as a status that is forwarded", &status.into_status());
    for (what, procedure) in [
        ("a panic", &PANIC),
        ("a request that is no such message", &NUMBER),
        ("an unknown procedure", &NOWHERE),
    ] {
        shown.error(what, &call(&client, procedure).await.unwrap_err());
    }
    let reply = client
        .call()
        .metadata("x-secret", CANARY)
        .send_recv::<_, u64>(&KEEP, CANARY.to_owned());
    shown.error(
        "a reply that is no such message",
        &within(reply).await.unwrap_err(),
    );
    let long = format!("{CANARY}{}", "x".repeat(200_000));
    let reply = client.call().send_recv::<_, ()>(&KEEP, long.clone());
    shown.error("a message that is too long", &within(reply).await.unwrap_err());
    let refused = client
        .call()
        .metadata("x-secret", CANARY)
        .metadata("x-refuse", "1");
    shown.error(
        "a refusal by middleware",
        &within(refused.send_recv::<_, ()>(&KEEP, CANARY.to_owned()))
            .await
            .unwrap_err(),
    );
    let late = client
        .call()
        .metadata("x-secret", CANARY)
        .timeout(Duration::from_millis(20));
    shown.error(
        "a deadline",
        &within(late.send_recv::<_, ()>(&HANG, CANARY.to_owned()))
            .await
            .unwrap_err(),
    );
    let too_many = (0..100).fold(client.call(), |call, number| {
        call.metadata(format!("k{number}"), CANARY)
    });
    shown.error(
        "too much metadata",
        &within(too_many.send_recv::<_, ()>(&KEEP, CANARY.to_owned()))
            .await
            .unwrap_err(),
    );
    for procedure in [&KEEP, &FAIL, &PANIC, &NUMBER] {
        let one_way = client.call().metadata("x-secret", CANARY);
        within(one_way.send(procedure, CANARY.to_owned())).await.unwrap();
    }
    shown.debug("Account", &within(client.settled()).await.unwrap());
    let request = TerminateRequest {
        instance_id: Bytes::new(),
        proof: Bytes::from(CANARY),
    };
    let reply = client
        .call()
        .metadata("x-secret", CANARY)
        .send_recv::<_, ()>(&TERMINATE, request);
    shown.error(
        "a terminate with a wrong proof",
        &within(reply).await.unwrap_err(),
    );

    // Peers whose frames are wrong.
    let broken = [&[0xff; 20], CANARY.as_bytes()].concat();
    for bytes in [
        wire::framed(&broken),
        wire::encode(&wire::Frame {
            metadata: vec![wire::Entry {
                key: "x-secret".to_owned(),
                value: [CANARY.as_bytes(), &[7; 9_000]].concat(),
            }],
            ..wire::call(1, &KEEP, &CANARY.to_owned())
        }),
        wire::encode(&wire::Frame {
            payload: CANARY.into(),
            ..wire::Frame::new(50, 1)
        }),
    ] {
        let mut peer = HandPeer::greeted(&server.address).await;
        peer.write(&bytes).await;
        let goaway = peer.goaway().await;
        shown.debug("what a peer is told", &goaway);
    }

    // A cut, with the canary in calls that run.
    let hanging = tokio::spawn({
        let client = client.clone();
        async move { call(&client, &HANG).await }
    });
    while server.handle.load().calls() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    shown.debug("ServerHandle", &server.handle);
    server.handle.abort();
    shown.error("a cut", &within(hanging).await.unwrap().unwrap_err());
    shown.debug("DrainReport", &server.report().await);

    let seen: Vec<_> = shown.0.lock().unwrap().iter().map(|(what, _)| *what).collect();
    assert!(seen.len() > 60, "{seen:?}");
    assert!(
        !logged.picked("connection closed", &[]).is_empty(),
        "the log is captured, debug level too"
    );
    shown.check(&logged);
}

/// Returns the payload of a HELLO with an entry.
fn hello_with(key: &str, value: &str) -> Vec<u8> {
    let entry = wire::Entry {
        key: key.to_owned(),
        value: value.into(),
    };
    let mut payload = wire::hello().payload;
    prost::encoding::message::encode(METADATA, &entry, &mut payload);
    payload
}

/// The number of the field of a HELLO that has its entries.
const METADATA: u32 = 14;

#[test]
fn the_canary_is_found_in_every_form() {
    let bytes = CANARY.as_bytes();
    for text in [
        format!("a {CANARY} b"),
        format!("{bytes:?}"),
        format!("{bytes:#?}"),
        format!("{bytes:02x?}"),
        format!("{:?}", Bytes::from(CANARY)),
        format!("{:?}", format!("{CANARY}\n")),
    ] {
        assert!(has_canary(&text), "{text}");
    }
    for before in ["", "a", "ab", "abc"] {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let text = STANDARD.encode(format!("{before}{CANARY}xyz"));
        assert!(has_canary(&text), "{text}");
    }
    assert!(!has_canary("a bird"));
}
