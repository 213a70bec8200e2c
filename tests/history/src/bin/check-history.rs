//! Makes very many calls while connections are cut and servers restarted, and checks that each ran as its
//! error says.

use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use history::{
    child::{self, ServeArgs},
    course::{Course, Outcome, Stops},
    cuts::Cuts,
    host::{Place, Transport},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{runtime::Runtime, task::JoinSet};

/// Makes very many calls while connections are cut and servers restarted, and checks that each ran as its
/// error says.
///
/// Ten courses run at once: over TCP, TLS and Unix sockets, with servers in this process and in processes of their own,
/// with cuts, with restarts (drains, aborts, SIGKILL), and with both. The exit code is 0 if no promise was broken. Otherwise
/// it is 1, and each violation is on a line of its own.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    /// The number of calls, including one-way calls.
    #[arg(long, default_value_t = 100_000)]
    calls: u64,

    /// The seed of all actions, apart from time and threads. Default: random.
    #[arg(long)]
    seed: Option<u64>,

    /// The number of clients of each course.
    #[arg(long, default_value_t = 6)]
    clients: usize,

    /// The number of users per client.
    #[arg(long, default_value_t = 4)]
    users: u32,

    /// Runs only courses whose names contain this text.
    #[arg(long, default_value = "")]
    only: String,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves, as a child process of this program.
    #[command(hide = true)]
    Serve(ServeArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Command::Serve(args)) = args.command {
        return child::serve(args);
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(&args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn run(args: &Args) -> ExitCode {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("seed      {seed}");
    let courses = match courses(args, seed) {
        Ok(courses) => courses,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let bar = progress_bar(courses.iter().map(|course| course.calls).sum());
    let start = Instant::now();
    let mut running = JoinSet::new();
    for course in courses {
        let bar = bar.clone();
        running.spawn(async move {
            let result = course.run(|more| bar.inc(more)).await;
            (course, start.elapsed(), result)
        });
    }
    let mut sum = Outcome::default();
    let mut failed = 0;
    while let Some(joined) = running.join_next().await {
        match joined {
            Ok((course, time, Ok(outcome))) => {
                bar.suspend(|| eprintln!("{}: {} calls, {time:.1?}", course.name, course.calls));
                sum += outcome;
            }
            Ok((course, _, Err(failure))) => {
                failed += 1;
                bar.suspend(|| println!("FAILED    {}, its seed {}: {failure}", course.name, course.seed));
            }
            Err(error) => {
                failed += 1;
                bar.suspend(|| println!("FAILED    {error}"));
            }
        }
    }
    bar.finish_and_clear();
    println!("{sum}");
    println!("time      {:.1?}", start.elapsed());
    if failed == 0 {
        println!(
            "checked   0 started twice, 0 No that ran, 0 Ok without a run, 0 Ok cut short, 0 lost without being told"
        );
        ExitCode::SUCCESS
    } else {
        println!(
            "FAILED    {failed} courses, by --calls {} --seed {seed}",
            args.calls
        );
        ExitCode::FAILURE
    }
}

fn courses(args: &Args, seed: u64) -> std::io::Result<Vec<Course>> {
    use Stops::{Any, Drains, Never};
    use Transport::{Tcp, Tls, Unix};
    let process = Place::Process(std::env::current_exe()?);
    let here = Place::Here;
    // The percentage of the calls, and the course.
    let all = [
        (15, "tcp, cuts and stops", Tcp, &here, Cuts::many(), Any),
        (10, "tls, cuts and stops", Tls, &here, Cuts::many(), Any),
        (10, "unix, cuts and stops", Unix, &here, Cuts::many(), Any),
        (15, "tcp, cuts and kills", Tcp, &process, Cuts::many(), Any),
        (10, "tls, cuts and kills", Tls, &process, Cuts::many(), Any),
        (10, "unix, cuts and kills", Unix, &process, Cuts::many(), Any),
        (10, "tcp, cuts", Tcp, &here, Cuts::many(), Never),
        (5, "unix, cuts, a process", Unix, &process, Cuts::many(), Never),
        (10, "tcp, drains, a process", Tcp, &process, Cuts::none(), Drains),
        (5, "unix, drains", Unix, &here, Cuts::none(), Drains),
    ];
    let mut random = fastrand::Rng::with_seed(seed);
    let courses = all
        .into_iter()
        .map(|(share, name, transport, place, cuts, stops)| Course {
            name,
            seed: random.u64(..),
            calls: args.calls * share / 100,
            transport,
            place: place.clone(),
            cuts,
            stops,
            clients: args.clients,
            users: args.users,
        });
    Ok(courses
        .filter(|course| course.name.contains(&args.only))
        .collect())
}

/// Makes a progress bar, which is hidden without a terminal.
fn progress_bar(calls: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(calls), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} calls, {per_sec}, {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
