//! Measures how much memory an idle connection takes on its server.
//!
//! The server is a process of its own. Each connection makes one call. The server's resident set (/proc/PID/statm) and the
//! live bytes of its heap are read twice: before the first connection, and when the last connection has been idle for longer
//! than buffers are kept. Each connection takes a file in both processes. If the limit of open files is too low, the program
//! makes fewer connections and says how many.
//!
//! `cargo run --release -p rpc-runtime --example idle [tcp|unix] [CONNECTIONS]`

use std::{
    alloc::System,
    env, fs,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use rpc_runtime::{
    Client, Server,
    server::{Handler, Incoming, Procedure, Service},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::time::sleep;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static ECHO: Procedure = Procedure::new("idle.v1.Idle/rpc_echo", 1);
static PROCEDURES: [Procedure; 1] = [ECHO];

struct Idle;

impl Service for Idle {
    fn name(&self) -> &'static str {
        "idle.v1.Idle"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_, number: u64| async move { Ok(number) })
    }
}

/// The memory that a process holds.
struct Memory {
    resident: usize,
    heap: usize,
    allocations: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let first = arguments.next().unwrap_or_else(|| "tcp".to_owned());
    if first == "serve" {
        return serve(&arguments.next().ok_or("an address is missing")?);
    }
    let wanted: usize = arguments.next().map_or(Ok(10_000), |count| count.parse())?;
    let address = match first.as_str() {
        "tcp" => "tcp://127.0.0.1:0".to_owned(),
        "unix" => format!(
            "unix:{}/rpc-idle-{}",
            env::temp_dir().display(),
            std::process::id()
        ),
        other => return Err(format!("tcp or unix, not {other}").into()),
    };
    let connections = wanted.min(files()?.saturating_sub(64));
    if connections < wanted {
        println!("{connections} connections and not {wanted}: the limit of open files is low (ulimit -n)");
    }
    tokio::runtime::Runtime::new()?.block_on(measure(&address, connections))
}

async fn measure(address: &str, connections: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut server = Remote::start(address)?;
    let address = server.line()?;
    call(&Client::connect(&address).await?).await?;
    sleep(RELEASED).await;
    let before = server.memory()?;
    let mut clients = Vec::new();
    for _ in 0..connections {
        let client = Client::connect(&address).await?;
        call(&client).await?;
        clients.push(client);
    }
    sleep(RELEASED).await;
    let after = server.memory()?;
    let each = |before: usize, after: usize| after.saturating_sub(before) as f64 / connections as f64;
    println!(
        "{connections} idle connections: {:.0} B resident each, {:.0} B live on the heap in {:.1} allocations",
        each(before.resident, after.resident),
        each(before.heap, after.heap),
        each(before.allocations, after.allocations),
    );
    drop(clients);
    server.stop()
}

async fn call(client: &Client) -> Result<(), rpc_runtime::Error> {
    let _: u64 = client.call().send_recv(&ECHO, 7_u64).await?;
    Ok(())
}

/// Runs the server's process: it prints what it holds for each line of its input, and ends at the end of its input.
fn serve(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let server = Server::builder().service(Idle).listener(address).signals(false);
    let server = runtime.block_on(server.max_connections(1_000_000).bind())?;
    println!("{}", server.addresses()[0]);
    let handle = server.handle();
    let serving = runtime.spawn(server.serve());
    for line in io::stdin().lock().lines() {
        line?;
        let heap = HEAP.stats();
        println!(
            "{} {}",
            heap.bytes_allocated - heap.bytes_deallocated,
            heap.allocations - heap.deallocations
        );
    }
    handle.abort();
    runtime.block_on(serving)??;
    Ok(())
}

/// The server's process, as the clients' process sees it.
struct Remote {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Remote {
    fn start(address: &str) -> io::Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(["serve", address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("the child has no pipes");
        let input = process.stdin.take().ok_or_else(missing)?;
        let output = BufReader::new(process.stdout.take().ok_or_else(missing)?);
        Ok(Self {
            process,
            input,
            output,
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn memory(&mut self) -> Result<Memory, Box<dyn std::error::Error>> {
        writeln!(self.input)?;
        let line = self.line()?;
        let (heap, allocations) = line.split_once(' ').ok_or("no heap in the line")?;
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.process.id()))?;
        let pages: usize = statm.split(' ').nth(1).ok_or("no pages in statm")?.parse()?;
        Ok(Memory {
            resident: pages * PAGE,
            heap: heap.parse()?,
            allocations: allocations.parse()?,
        })
    }

    fn stop(self) -> Result<(), Box<dyn std::error::Error>> {
        let Self {
            mut process, input, ..
        } = self;
        drop(input);
        process.wait()?;
        Ok(())
    }
}

/// Returns how many files this process may open.
fn files() -> Result<usize, Box<dyn std::error::Error>> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    Ok(soft.ok_or("no limit of files in /proc/self/limits")?.parse()?)
}

const PAGE: usize = 4096;
/// After this time a connection has given its buffers back.
const RELEASED: Duration = Duration::from_secs(4);
