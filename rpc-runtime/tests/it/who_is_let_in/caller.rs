//! A caller: what it shows, and how it fares.

use std::sync::{Arc, Mutex};

use rpc_runtime::{Bytes, Client, Error, Executed, client::Call, tls::ClientTls};
use test_support::{lab::*, within};

use super::{
    certificates::Certificates,
    proxy::Spoil,
    table::{Asks, Caller, Credential},
};

/// What a caller shows.
pub(super) struct Shown {
    /// The metadata entry [`TOKEN_KEY`].
    pub(super) token: Option<String>,
    /// The bearer token of its connections.
    pub(super) connection_token: Option<String>,
    /// The bearer token of its calls.
    pub(super) call_token: Option<String>,
    /// Used at addresses of `tls://`.
    pub(super) tls: ClientTls,
    pub(super) proof: Proof,
}

/// The proof of a terminate that a caller shows.
pub(super) enum Proof {
    /// What the client makes by itself.
    Own,
    /// These bytes.
    Made(&'static [u8]),
    /// The one that the client makes by itself, changed on its way.
    Spoiled(Spoil),
    /// One that a proxy has kept of an earlier connection.
    Stolen(Spoil),
}

impl Shown {
    /// Returns what `caller` shows where `credential` counts. The rest is as it should be.
    pub(super) fn by(caller: Caller, credential: Credential, certificates: &Certificates) -> Self {
        let other = |one| if credential == one { caller } else { Caller::Good };
        let token_as = |one| if credential == one { token(caller) } else { None };
        Self {
            token: token_as(Credential::Token),
            connection_token: token_as(Credential::ConnectionToken),
            call_token: token_as(Credential::CallToken),
            tls: certificates.caller(other(Credential::Certificate)),
            proof: proof(other(Credential::Proof)),
        }
    }

    /// Asks at `address`, and returns what came of it: `ok`, or the code, whether it was executed, and the text.
    pub(super) async fn ask(&self, asks: Asks, address: &str) -> String {
        let client = match self.connect(address).await {
            Ok(client) => client,
            Err(error) => return format!("{UNCONNECTED} {error:#}").replace('\n', " "),
        };
        let asked = match asks {
            Asks::Call => outcome(self.note(&client).await),
            Asks::Terminate => outcome(self.terminate(&client).await),
        };
        if asked != OK {
            match self.send(asks, &client).await {
                Ok(0) => {}
                one_way => return format!("{asked}; and of one that is sent one-way: {one_way:?} handled"),
            }
        }
        asked
    }

    /// Lets the proxy at `address` have a proof, which the server never gets.
    pub(super) async fn lose_proof(&self, address: &str) {
        let client = self.connect(address).await.unwrap();
        let error = self.terminate(&client).await.unwrap_err();
        assert_ne!(error.executed(), Executed::No, "{error}");
    }

    pub(super) async fn connect(&self, address: &str) -> Result<Client, Error> {
        let mut builder = Client::builder(address);
        if address.starts_with("tls://") {
            builder = builder.tls(self.tls.clone());
        }
        if let Some(token) = &self.connection_token {
            // The server has to decide, also where this library's clients would send no token.
            builder = builder.token(token.clone()).dangerous_token_over_plain_tcp();
        }
        within(builder.connect()).await
    }

    /// Calls [`ECHO`].
    pub(super) async fn echo(&self, client: &Client, text: &str) -> Result<String, Error> {
        within(self.call(client).send_recv(&ECHO, text.to_owned())).await
    }

    async fn note(&self, client: &Client) -> Result<(), Error> {
        within(self.call(client).send_recv(&NOTE, ASKED.to_owned())).await
    }

    async fn terminate(&self, client: &Client) -> Result<(), Error> {
        match self.made() {
            Some(request) => within(self.call(client).send_recv(&TERMINATE, request)).await,
            None => within(self.call(client).terminate()).await.map(drop),
        }
    }

    /// Asks one-way, and returns how many one-way calls of this connection were handled.
    async fn send(&self, asks: Asks, client: &Client) -> Result<u64, Error> {
        match (asks, self.made()) {
            (Asks::Call, _) => within(self.call(client).send(&NOTE, ASKED.to_owned())).await?,
            (Asks::Terminate, Some(request)) => within(self.call(client).send(&TERMINATE, request)).await?,
            (Asks::Terminate, None) => within(self.call(client).send_terminate()).await?,
        }
        let account = within(client.barrier()).await?;
        assert_eq!(account.received(), 1, "{account}");
        Ok(account.handled())
    }

    /// The request, if the client does not make it.
    fn made(&self) -> Option<TerminateRequest> {
        let Proof::Made(proof) = self.proof else {
            return None;
        };
        Some(TerminateRequest {
            instance_id: Bytes::new(),
            proof: Bytes::from_static(proof),
        })
    }

    fn call<'a>(&self, client: &'a Client) -> Call<'a> {
        let bearer = self.call_token.as_ref().map(|token| format!("Bearer {token}"));
        let entries = [(TOKEN_KEY, self.token.clone()), ("authorization", bearer)];
        let entries = entries.into_iter().filter_map(|(key, value)| Some((key, value?)));
        entries.fold(client.call(), |call, (key, value)| call.metadata(key, value))
    }
}

fn token(caller: Caller) -> Option<String> {
    match caller {
        Caller::Good | Caller::OtherUser => Some(TOKEN.to_owned()),
        Caller::Absent => None,
        Caller::Bad => Some(TOKEN.chars().rev().collect()),
        near => Some(near_miss(near, TOKEN)),
    }
}

/// Returns a text that is almost `right`.
pub(super) fn near_miss(caller: Caller, right: &str) -> String {
    let (last, rest) = right.as_bytes().split_last().unwrap();
    let rest = std::str::from_utf8(rest).unwrap();
    match caller {
        Caller::OneOff => format!("{rest}{}", char::from(last ^ 1)),
        Caller::Prefix => rest.to_owned(),
        Caller::Longer => format!("{right}s"),
        Caller::OtherCase => right.chars().map(other_case).collect(),
        _ => panic!("{caller:?} is no near miss"),
    }
}

fn other_case(letter: char) -> char {
    match letter.is_ascii_lowercase() {
        true => letter.to_ascii_uppercase(),
        false => letter.to_ascii_lowercase(),
    }
}

fn proof(caller: Caller) -> Proof {
    let spoil: fn(&mut Vec<u8>) = match caller {
        Caller::Good | Caller::OtherUser => return Proof::Own,
        Caller::Absent => return Proof::Made(&[]),
        Caller::Bad => return Proof::Made(&[0x5a; 32]),
        Caller::Expired => return Proof::Stolen(thief()),
        Caller::OneOff => |proof| *proof.last_mut().unwrap() ^= 1,
        Caller::Prefix => |proof| proof.truncate(31),
        Caller::Longer => |proof| proof.push(0),
        Caller::OtherCase => |proof| proof.iter_mut().for_each(|byte| *byte ^= 0x20),
    };
    Proof::Spoiled(Arc::new(move |mut proof| {
        assert_eq!(proof.len(), 32, "the client makes a proof");
        spoil(&mut proof);
        Some(proof)
    }))
}

/// Keeps the first proof and cuts its connection. Later requests get that proof.
fn thief() -> Spoil {
    let stolen = Mutex::new(None);
    Arc::new(move |proof| {
        let mut stolen = stolen.lock().unwrap();
        if stolen.is_none() {
            assert_eq!(proof.len(), 32, "the client makes a proof");
            *stolen = Some(proof);
            return None;
        }
        stolen.clone()
    })
}

fn outcome<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => OK.to_owned(),
        Err(error) => {
            let executed = match error.executed() {
                Executed::No => "No",
                _ => "perhaps executed",
            };
            format!("{} {executed} {}", error.code().name(), error.message())
        }
    }
}

pub(super) const OK: &str = "ok";
pub(super) const UNCONNECTED: &str = "no connection:";
/// What [`NOTE`] writes into the log of the server.
pub(super) const ASKED: &str = "asked";
pub(super) const TOKEN_KEY: &str = "x-stop-token";
pub(super) const TOKEN: &str = "Open-Sesame-4f9B";
