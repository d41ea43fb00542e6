//! The election with real processes: three voters, each at a NATS server of its own, and somebody who kills, stops and cuts off whoever leads.
//! A judge reads what all of them wrote. `scripts/elections` starts it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

mod cluster;
mod evidence;
mod judge;
mod log;
mod plan;
mod process;
mod run;
mod sampler;
mod verdict;
mod voter;

use evidence::Evidence;
use judge::Demands;
use run::Settings;
use voter::Electorate;

#[derive(Parser)]
#[command(version, about = "Elections among processes that are killed, with a verdict")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the plan and judges: exit code 0 as promised, 1 not so, 2 where it could not run, 130 when interrupted
    Run(RunArgs),
    /// Judges again what a run has left in a folder
    Judge(JudgeArgs),
    /// One of the nodes; started by `run`
    #[command(hide = true)]
    Node(voter::NodeArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// How often the master is killed; other faults come in proportion
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    kills: u64,
    /// What the plan is drawn from
    #[arg(long)]
    seed: Option<u64>,
    /// Stop the master once for 30 s
    #[arg(long)]
    long_stop: bool,
    /// Who elects. Where it is all that are seen, each side of a partition has a master, and the judge has to find them
    #[arg(long, value_enum, default_value_t)]
    elect: Electorate,
    /// Keep everything in this new folder
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    verdict: VerdictArgs,
}

#[derive(clap::Args)]
struct JudgeArgs {
    folder: PathBuf,
    #[command(flatten)]
    verdict: VerdictArgs,
}

#[derive(clap::Args)]
struct VerdictArgs {
    /// Times that are longer than they should be are wrong, too
    #[arg(long)]
    judge_times: bool,
    /// The verdict as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let code = match Args::parse().command {
        Command::Run(args) => run(&args),
        Command::Judge(args) => code_of(judged(&args.folder, &args.verdict).map(Some)),
        Command::Node(args) => node(args),
    };
    ExitCode::from(code)
}

/// What an outcome is for whoever started this: whether all is as promised, or none where it was interrupted.
fn code_of(outcome: anyhow::Result<Option<bool>>) -> u8 {
    match outcome {
        Ok(Some(true)) => 0,
        Ok(Some(false)) => 1,
        Ok(None) => 130,
        Err(error) => {
            eprintln!("elections: {error:#}");
            2
        }
    }
}

fn node(args: voter::NodeArgs) -> u8 {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.expect("a runtime can be built").block_on(voter::run(args));
    code_of(outcome.map(|()| Some(true)))
}

fn run(args: &RunArgs) -> u8 {
    let folder = args.dir.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("waypost-elections-{}", std::process::id()))
    });
    if let Err(error) = std::fs::create_dir(&folder) {
        eprintln!("elections: {}: {error}", folder.display());
        return 2;
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("elections: seed {seed}");
    let (kills, long_stop, electorate) = (args.kills, args.long_stop, args.elect);
    let settings = Settings { folder: folder.clone(), seed, kills, long_stop, electorate };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run::run(&settings) => outcome.map(Some),
            signal = interrupted() => signal.map(|()| None),
        }
    });
    // Ends every process that is left.
    drop(runtime);
    let code = code_of(match outcome {
        Ok(Some(())) => judged(&folder, &args.verdict).map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    });
    if args.dir.is_some() || matches!(code, 1 | 2) {
        eprintln!("elections: everything is in {}", folder.display());
    } else if let Err(error) = std::fs::remove_dir_all(&folder) {
        eprintln!("elections: {} could not be removed: {error}", folder.display());
    }
    code
}

async fn interrupted() -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Prints the verdict; whether all is as promised.
fn judged(folder: &std::path::Path, args: &VerdictArgs) -> anyhow::Result<bool> {
    let evidence = Evidence::read(folder)?;
    let demands = if args.judge_times { Demands::WithTimes } else { Demands::Promises };
    let verdict = judge::judge(&evidence, demands);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&verdict)?);
    } else {
        print!("{verdict}");
    }
    Ok(verdict.is_clean())
}
