//! A server with a fault, to look for it in its admin pages: docs/how-to/find-a-fault.md.
//!
//! `cargo run -p examples --bin faults -- --fault calls`
//!
//! The program starts itself four more times: these processes are the callers of the server, and one of them may be faulty.

use std::{
    env,
    error::Error,
    future::Future,
    io::{self, IsTerminal, Read, Write},
    process::{self, Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use examples::shop::v1::{
    CatalogReply, Offer, OrderRequest, PriceReply, PriceRequest, Shop, ShopClient, ShopServer, StockReply,
    StockRequest,
};
use rpc_runtime::{Code, Context, Limits, Result, Server, Stream, stream};
use tokio::time::sleep;
use tracing_subscriber::filter::LevelFilter;

/// Serves a shop to four callers, with a fault to look for in the admin pages.
///
/// Prints `listening ADDRESS` and `admin ADDRESS` on stdout. Its log and the first errors of the callers go to stderr. It ends at Ctrl-C.
#[derive(Debug, Parser)]
struct Args {
    /// Which fault the server or one of its callers has.
    #[arg(long)]
    fault: Fault,

    /// The address of the server.
    #[arg(long, value_name = "ADDRESS", default_value = "tcp://127.0.0.1:0")]
    listen: String,

    /// The address of the admin pages: tcp://host:port or unix:/path.
    #[arg(long, value_name = "ADDRESS", default_value = "tcp://127.0.0.1:0")]
    admin: String,

    /// Ends the program after this time, in seconds. Default: at Ctrl-C.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,

    /// Prints who is faulty: `faulty ADDRESS` for each connection of a faulty caller, or `faulty PROCEDURE`.
    #[arg(long)]
    tell: bool,

    /// Makes this process a caller of the server at this address.
    #[arg(long, hide = true)]
    call: Option<String>,

    /// Makes this caller the faulty one.
    #[arg(long, hide = true)]
    is_faulty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// A handler blocks its thread.
    Blocks,
    /// A caller does not read its socket.
    ReadsNothing,
    /// A caller does not read two of its streams.
    LeavesAStream,
    /// A caller's requests fill the memory of the server.
    Memory,
    /// A caller's calls take all handlers of the server.
    Handlers,
    /// A caller has as many open calls as a connection may have.
    Calls,
    /// A caller's deadline is too short.
    Deadline,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    match &args.call {
        Some(server) => call(server, args.fault, args.is_faulty),
        None => serve(args),
    }
}

// The server

/// Two threads, however many cores there are, so that a handler that blocks one is felt.
#[tokio::main(worker_threads = 2)]
async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let till = Till {
        fault: args.fault,
        tells: args.tell,
        told: Mutex::default(),
    };
    let server = Server::builder()
        .service(ShopServer::new(till))
        .listener(&*args.listen)
        .drain_timeout(Duration::from_secs(1));
    let server = match args.fault {
        Fault::Memory => server.max_buffered_bytes(8 << 20),
        Fault::Handlers => server.max_waiting_handlers(40),
        Fault::Calls => server.limits(Limits::default().max_calls(16)),
        _ => server,
    };
    let server = server.bind().await?;
    let admin = rpc_admin::listen(args.admin).await?;
    let address = server.addresses().join("");
    println!("listening {address}");
    println!("admin {}", admin.address());
    if args.tell && args.fault == Fault::Blocks {
        println!("faulty shop.v1.Shop/rpc_stock");
    }

    let handle = server.handle();
    if let Some(seconds) = args.seconds {
        tokio::spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            handle.drain();
        });
    }
    let callers = (1..=4).map(|number| {
        let is_faulty = number == 3 && args.fault != Fault::Blocks;
        Caller::start(&address, args.fault, is_faulty)
    });
    let callers = callers.collect::<io::Result<Vec<_>>>()?;
    server.serve().await?;
    drop(callers);
    Ok(())
}

/// The shop. It is well, but for one fault.
struct Till {
    fault: Fault,
    tells: bool,
    /// The address of the faulty caller that was told last.
    told: Mutex<String>,
}

impl Shop for Till {
    async fn rpc_price(&self, cx: &Context, request: PriceRequest) -> Result<PriceReply> {
        if self.tells && cx.connection_metadata().get_str("x-faulty").is_some() {
            self.tell(cx.peer().address());
        }
        let cents = 100 * request.article.len() as u32;
        Ok(PriceReply { cents })
    }

    async fn rpc_stock(&self, _: &Context, request: StockRequest) -> Result<StockReply> {
        match self.fault {
            // Here is the fault: the thread sleeps, and not only the handler.
            Fault::Blocks => thread::sleep(Duration::from_millis(120)),
            _ => sleep(Duration::from_millis(3)).await,
        }
        let count = request.article.len() as u32;
        Ok(StockReply { count })
    }

    async fn rpc_order(&self, _: &Context, request: OrderRequest) -> Result<()> {
        sleep(Duration::from_millis(request.pieces.into())).await;
        Ok(())
    }

    async fn rpc_feed(&self, _: &Context) -> Result<impl Stream<Item = Result<Offer>> + Send> {
        Ok(stream(async |out| {
            loop {
                let picture = vec![0; 4 << 10].into();
                out.send(Offer { picture }).await;
                sleep(Duration::from_millis(5)).await;
            }
        }))
    }

    async fn rpc_catalog(&self, _: &Context) -> Result<CatalogReply> {
        let pages = vec![0; 1 << 20].into();
        Ok(CatalogReply { pages })
    }
}

impl Till {
    /// Prints the address of the faulty caller, once for each connection.
    fn tell(&self, address: &str) {
        let mut told = self.told.lock().expect("nothing panics with it");
        if *told != address {
            println!("faulty {address}");
            address.clone_into(&mut told);
        }
    }
}

/// The process of a caller. It ends with this value, or with this process.
struct Caller(Child);

impl Caller {
    fn start(server: &str, fault: Fault, is_faulty: bool) -> io::Result<Self> {
        let fault = fault.to_possible_value().expect("no fault is hidden");
        let mut command = Command::new(env::current_exe()?);
        command.args(["--call", server, "--fault", fault.get_name()]);
        if is_faulty {
            command.arg("--is-faulty");
        }
        // It ends when its stdin does.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map(Self)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// A caller

/// One thread, so that a caller that stops its thread reads nothing any more.
#[tokio::main(flavor = "current_thread")]
async fn call(server: &str, fault: Fault, is_faulty: bool) -> Result<(), Box<dyn Error>> {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(0);
    });
    let mut shop = ShopClient::builder(server);
    if is_faulty {
        shop = shop.connection_metadata("x-faulty", "yes");
    }
    let customer = Customer {
        shop: shop.connect().await?,
        seen: Arc::default(),
    };
    tokio::spawn(customer.clone().asks_for_prices());
    tokio::spawn(customer.clone().orders(1, 5, 0));
    let timeout = Duration::from_millis(if is_faulty && fault == Fault::Deadline {
        2
    } else {
        10_000
    });
    tokio::spawn(customer.clone().asks_for_the_stock(timeout));
    if fault == Fault::LeavesAStream {
        tokio::spawn(customer.clone().reads_a_feed());
    }
    if is_faulty {
        customer.goes_wrong(fault).await;
    }
    std::future::pending().await
}

#[derive(Clone)]
struct Customer {
    shop: ShopClient,
    /// The codes of the errors that were printed.
    seen: Arc<Mutex<Vec<Code>>>,
}

impl Customer {
    async fn asks_for_prices(self) {
        loop {
            self.calls(self.shop.send_recv().price("soap")).await;
        }
    }

    async fn asks_for_the_stock(self, timeout: Duration) {
        loop {
            self.calls(self.shop.send_recv().timeout(timeout).stock("soap"))
                .await;
        }
    }

    /// Has so many orders open all the time.
    async fn orders(self, count: usize, pieces: u32, picture_len: usize) {
        for _ in 0..count {
            let customer = self.clone();
            tokio::spawn(async move {
                loop {
                    let picture = vec![0; picture_len].into();
                    let order = OrderRequest { pieces, picture };
                    customer.calls(customer.shop.send_recv().order(order)).await;
                }
            });
        }
    }

    async fn reads_a_feed(self) {
        let feed = self.shop.send_recv().timeout(None).feed().await;
        if let Ok(mut feed) = feed {
            while let Ok(Some(_)) = feed.message().await {}
        }
    }

    /// Does what a faulty caller does.
    async fn goes_wrong(self, fault: Fault) {
        match fault {
            Fault::ReadsNothing => self.stands_still().await,
            Fault::LeavesAStream => {
                let feeds = [
                    self.shop.send_recv().timeout(None).feed().await,
                    self.shop.send_recv().timeout(None).feed().await,
                ];
                std::future::pending::<()>().await;
                drop(feeds);
            }
            Fault::Memory => self.orders(160, 3_000, 64 << 10).await,
            Fault::Handlers => self.orders(60, 5_000, 0).await,
            Fault::Calls => self.orders(40, 5_000, 0).await,
            // These are elsewhere.
            Fault::Blocks | Fault::Deadline => {}
        }
    }

    /// Asks for catalogs, and then leaves its socket alone. The server ends the connection meanwhile, and the next one is treated as badly.
    async fn stands_still(self) {
        for _ in 0..24 {
            let customer = self.clone();
            tokio::spawn(async move {
                loop {
                    customer.calls(customer.shop.send_recv().catalog()).await;
                }
            });
        }
        loop {
            sleep(Duration::from_secs(1)).await;
            // Here is the fault: nothing of this process runs meanwhile.
            thread::sleep(Duration::from_secs(25));
        }
    }

    /// Makes a call, and pauses. Prints its error if it is the first of its kind.
    async fn calls<T>(&self, call: impl Future<Output = Result<T, rpc_runtime::Error>>) {
        let Err(error) = call.await else {
            return sleep(Duration::from_millis(10)).await;
        };
        {
            let mut seen = self.seen.lock().expect("nothing panics with it");
            if !seen.contains(&error.code()) {
                seen.push(error.code());
                // At once, since others write there, too.
                let line = format!("a caller: {error}\n");
                let _ = io::stderr().write_all(line.as_bytes());
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}
