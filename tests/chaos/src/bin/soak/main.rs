//! The long run: a sender and three readers at a steady rate for hours, watched from outside, and a verdict on what grew, and on what was
//! lost, repeated or out of order. `scripts/soak run` starts it with a NATS server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

mod node;
mod plan;
mod process;
mod run;
mod sample;
mod sequence;
mod told;
mod traffic;
mod verdict;

use plan::Plan;

/// Everything that is awaited when a run ends takes at most this long.
const END_PATIENCE: Duration = Duration::from_secs(300);

#[derive(Parser)]
#[command(version, about = "A long run of nodes in processes of their own, with a verdict")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the nodes and gives the verdict: exit code 0 within all bounds, 1 beyond one, 2 where it could not run
    Run(RunArgs),
    /// One of the nodes; started by `run`
    #[command(hide = true)]
    Node(node::NodeArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// How long, in hours
    #[arg(long, default_value_t = 1.0, conflicts_with = "minutes")]
    hours: f64,
    /// How long, in minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Messages per second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// The verdict as JSON on standard output
    #[arg(long)]
    json: bool,
    /// The folder for files, logs and samples.csv; it must be empty
    #[arg(long)]
    dir: PathBuf,
    /// The NATS server
    #[arg(long)]
    nats: String,
}

impl RunArgs {
    fn plan(&self) -> anyhow::Result<Plan> {
        let hours = self.minutes.map_or(self.hours, |minutes| minutes / 60.0);
        ensure!(hours.is_finite() && hours > 0.0, "{hours} hours is no time to run for");
        let length = Duration::try_from_secs_f64(hours * 3600.0).context("that is too long")?;
        Plan::new(length, self.rate)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match start(args.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is well.
fn start(command: Command) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match command {
            Command::Run(args) => {
                let verdict = run::run(args.plan()?, &args.dir, &args.nats).await?;
                if args.json {
                    println!("{}", serde_json::to_string_pretty(&verdict)?);
                } else {
                    print!("{verdict}");
                }
                Ok(verdict.is_good())
            }
            Command::Node(args) => node::run(args).await.map(|()| true),
        }
    });
    // Reading from standard input blocks a thread until there is a line.
    runtime.shutdown_background();
    result
}
