//! Callers: call without a pause, each in the way that it is told.

use std::{collections::BTreeSet, net::SocketAddr};

use rpc_http::Grpc;
use rpc_runtime::Executed;
use tokio::{
    sync::watch,
    task::{JoinHandle, yield_now},
    time::timeout,
};
use tokio_stream::iter;
use tonic::transport::Channel;
use tonic_stranger::{LONG, ours::ledger::v1 as ours, theirs::v1 as theirs};

/// How a caller calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By tonic's client.
    Tonic(SocketAddr),
    /// By our client, over gRPC.
    Grpc(SocketAddr),
    /// By our client, over the native protocol.
    Native(SocketAddr),
    /// By our client: over gRPC to the first server, and without that over the native protocol to the second one.
    Either(SocketAddr, SocketAddr),
}

/// Callers that call all the time.
pub(super) struct Callers(Vec<Caller>);

struct Caller {
    way: watch::Sender<Option<Way>>,
    /// The way, and how many calls were made in it.
    made: watch::Receiver<(Option<Way>, u64)>,
    task: JoinHandle<Made>,
}

/// What became of the calls of a caller.
#[derive(Debug, Default)]
struct Made {
    succeeded: Vec<u64>,
    failed: Vec<String>,
}

/// How many callers there are.
pub(super) const CALLERS: usize = 4;
/// How many calls a caller makes before the next step: some of each kind.
const STEP: u64 = 40;

impl Callers {
    /// Starts them, and waits until all have made some calls.
    pub(super) async fn start(way: Way) -> Self {
        let callers = Self((0..CALLERS).map(|number| Caller::start(number, way)).collect());
        for caller in 0..CALLERS {
            callers.wait_for(caller, way, STEP).await;
        }
        callers
    }

    /// Lets one of them call in another way, and waits until it has made some calls in it. The others go on.
    pub(super) async fn switch(&self, caller: usize, way: Way) {
        self.0[caller].way.send_replace(Some(way));
        self.wait_for(caller, way, STEP).await;
    }

    /// Waits until a caller has made some more calls.
    pub(super) async fn go_on(&self, caller: usize) {
        let (way, made) = *self.0[caller].made.borrow();
        self.wait_for(caller, way.unwrap(), made + STEP).await;
    }

    async fn wait_for(&self, caller: usize, way: Way, calls: u64) {
        let mut made = self.0[caller].made.clone();
        let waited = made.wait_for(|(now, made)| *now == Some(way) && *made >= calls);
        timeout(LONG, waited).await.expect("the caller goes on").unwrap();
    }

    /// Stops them. Returns the ids of their calls, none of which has failed.
    pub(super) async fn stop(self) -> BTreeSet<u64> {
        let mut all = BTreeSet::new();
        for caller in self.0 {
            caller.way.send_replace(None);
            let made = timeout(LONG, caller.task).await.unwrap().unwrap();
            assert!(
                made.failed.is_empty(),
                "{} calls failed: {:?}",
                made.failed.len(),
                made.failed
            );
            all.extend(made.succeeded);
        }
        all
    }
}

impl Caller {
    fn start(number: usize, way: Way) -> Self {
        let (way, told) = watch::channel(Some(way));
        let (making, made) = watch::channel((None, 0));
        // The id 0 is free for others.
        let first = 1 + number as u64 * 10_000_000;
        Self {
            way,
            made,
            task: tokio::spawn(call(first, told, making)),
        }
    }
}

/// Makes calls until it is told no way.
async fn call(
    first: u64,
    mut told: watch::Receiver<Option<Way>>,
    making: watch::Sender<(Option<Way>, u64)>,
) -> Made {
    let (mut made, mut ids) = (Made::default(), first..);
    loop {
        let Some(way) = *told.borrow_and_update() else {
            return made;
        };
        let mut client = match Client::connect(way).await {
            Ok(client) => client,
            Err(error) => {
                made.failed.push(format!("{way:?}: {error}"));
                return made;
            }
        };
        let mut count = 0;
        while let (Ok(false), Some(id)) = (told.has_changed(), ids.next()) {
            match client.call(id).await {
                Ok(()) => made.succeeded.push(id),
                Err(error) => made.failed.push(format!("{way:?}: call {id}: {error}")),
            }
            count += 1;
            making.send_replace((Some(way), count));
            yield_now().await;
        }
    }
}

/// A client of either library.
enum Client {
    Theirs(theirs::ledger_client::LedgerClient<Channel>),
    Ours(ours::LedgerClient),
}

/// Any error. It is only shown.
type Error = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    async fn connect(way: Way) -> Result<Self, Error> {
        let builder = |address: String| ours::LedgerClient::builder(address).protocol(Grpc::new());
        let builder = match way {
            Way::Tonic(address) => {
                let client =
                    theirs::ledger_client::LedgerClient::connect(format!("http://{address}")).await?;
                return Ok(Self::Theirs(client));
            }
            Way::Grpc(address) => builder(format!("grpc://{address}")),
            Way::Native(address) => builder(format!("tcp://{address}")),
            Way::Either(first, second) => {
                builder(format!("grpc://{first}")).fallback(format!("tcp://{second}"))
            }
        };
        Ok(Self::Ours(builder.connect().await?))
    }

    /// Makes a call of one of the four kinds, and checks what comes back.
    async fn call(&mut self, id: u64) -> Result<(), Error> {
        let texts = match self {
            Self::Theirs(client) => by_tonic(client, id).await?,
            Self::Ours(client) => match by_us(client, id).await {
                // A call that sends a stream is never resent. Its caller may do that if it never ran.
                Err(error) if error.executed() == Executed::No && sends_stream(id) => {
                    by_us(client, id).await?
                }
                made => made?,
            },
        };
        match texts == expected(id) {
            true => Ok(()),
            false => Err(format!("wrong answer: {texts:?}").into()),
        }
    }
}

/// What the handlers answer to the call `id`: texts, or numbers of entries.
fn expected(id: u64) -> Vec<String> {
    let texts = match id % 4 {
        0 => &["a"][..],
        1 => &["1", "2"],
        2 => &["2"],
        _ => &["a", "b"],
    };
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn sends_stream(id: u64) -> bool {
    id % 4 >= 2
}

async fn by_tonic(
    client: &mut theirs::ledger_client::LedgerClient<Channel>,
    id: u64,
) -> Result<Vec<String>, Error> {
    let entry = |text: &str| theirs::Entry {
        id,
        text: text.to_owned(),
        ..theirs::Entry::default()
    };
    let both = iter([entry("a"), entry("b")]);
    let mut texts = Vec::new();
    match id % 4 {
        0 => texts.push(client.add(entry("a")).await?.into_inner().text),
        1 => {
            let request = theirs::ListRequest {
                id,
                count: 2,
                hangs: false,
            };
            let mut listed = client.list(request).await?.into_inner();
            while let Some(entry) = listed.message().await? {
                texts.push(entry.id.to_string());
            }
        }
        2 => texts.push(client.load(both).await?.into_inner().entries.to_string()),
        _ => {
            let mut answers = client.talk(both).await?.into_inner();
            while let Some(entry) = answers.message().await? {
                texts.push(entry.text);
            }
        }
    }
    Ok(texts)
}

async fn by_us(client: &ours::LedgerClient, id: u64) -> Result<Vec<String>, rpc_runtime::Error> {
    let entry = |text: &str| ours::Entry {
        id,
        text: text.to_owned(),
        ..ours::Entry::default()
    };
    let mut texts = Vec::new();
    match id % 4 {
        0 => texts.push(client.send_recv().add(entry("a")).await?.text),
        1 => {
            let request = ours::ListRequest {
                id,
                count: 2,
                hangs: false,
            };
            let mut listed = client.send_recv().list(request).await?;
            while let Some(entry) = listed.message().await? {
                texts.push(entry.id.to_string());
            }
        }
        2 => {
            let (mut entries, noted) = client.send_recv().load().await?;
            entries.send(entry("a")).await?;
            entries.send(entry("b")).await?;
            entries.finish();
            texts.push(noted.await?.entries.to_string());
        }
        _ => {
            let (mut entries, mut answers) = client.send_recv().talk().await?;
            entries.send(entry("a")).await?;
            entries.send(entry("b")).await?;
            entries.finish();
            while let Some(entry) = answers.message().await? {
                texts.push(entry.text);
            }
        }
    }
    Ok(texts)
}
