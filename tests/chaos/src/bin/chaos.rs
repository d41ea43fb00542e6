//! Starts nodes, a server and links between them, breaks all of it by a seeded plan, and lets independent programs judge what came of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use waypost_chaos::conduct::{self, Goal, Part, Settings};

/// Of the time that is given, this much is trouble for the command and for the library; the rest is for settling and judging.
const SHARES: (f64, f64) = (0.36, 0.30);

/// Run by scripts/chaos, whose --help tells more.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Minutes for both parts together
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// What the faults are drawn from
    #[arg(long)]
    seed: Option<u64>,
    /// Go on until so many messages were accepted
    #[arg(long)]
    messages: Option<u64>,
    /// Go on until so many processes were killed
    #[arg(long)]
    kills: Option<u64>,
    /// Longest time for everything to settle, in seconds
    #[arg(long, default_value_t = 300)]
    calm: u64,
    /// Milliseconds between two kills, on average
    #[arg(long, default_value_t = 700)]
    kill_every: u64,
    /// Only the part with transactions
    #[arg(long)]
    exactly_once: bool,
    /// Only the part with the command
    #[arg(long, conflicts_with = "exactly_once")]
    only_messages: bool,
    /// Break nothing
    #[arg(long)]
    no_faults: bool,
    /// Keep everything in this new folder
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The verdicts as JSON, a line a judge
    #[arg(long)]
    json: bool,
    /// This process may mount filesystems
    #[arg(long)]
    mounts: bool,
    /// The library that sets clocks wrong
    #[arg(long)]
    clocks: Option<PathBuf>,
}

impl Args {
    fn parts(&self) -> Vec<Part> {
        let by_count = self.messages.is_some() || self.kills.is_some();
        match (self.exactly_once, self.only_messages || by_count) {
            (true, _) => vec![Part::ExactlyOnce],
            (false, true) => vec![Part::Messages],
            (false, false) => vec![Part::Messages, Part::ExactlyOnce],
        }
    }

    fn goal(&self, part: Part) -> Goal {
        if self.messages.is_some() || self.kills.is_some() {
            return Goal::Reached {
                messages: self.messages.unwrap_or(1),
                kills: self.kills.unwrap_or(0),
            };
        }
        let share = match (self.parts().len(), part) {
            (1, _) => SHARES.0 + SHARES.1,
            (_, Part::Messages) => SHARES.0,
            (_, Part::ExactlyOnce) => SHARES.1,
        };
        Goal::Time(Duration::from_secs_f64(self.minutes * 60.0 * share))
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let made = args.dir.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("waypost-chaos-{}", std::process::id()))
    });
    if let Err(error) = std::fs::create_dir(&made) {
        eprintln!("chaos: {}: {error}", made.display());
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = all(&args, &made) => outcome.map(Some),
            signal = interrupted() => signal.map(|()| None),
        }
    });
    // Ends every process that is left.
    drop(runtime);
    let code = match &outcome {
        Ok(Some(true)) => 0,
        Ok(Some(false)) => 1,
        Ok(None) => 130,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            2
        }
    };
    let kept = args.dir.is_some() || matches!(code, 1 | 2);
    unmount(&made, kept);
    if kept {
        eprintln!("chaos: everything is in {}", made.display());
    } else if let Err(error) = std::fs::remove_dir_all(&made) {
        eprintln!("chaos: {} could not be removed: {error}", made.display());
    }
    ExitCode::from(code)
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

/// Runs the parts; whether all judges are content.
async fn all(args: &Args, folder: &Path) -> anyhow::Result<bool> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let programs = std::env::current_exe()?;
    let programs = programs.parent().context("a program lies in a folder")?.to_owned();
    let mut content = true;
    for part in args.parts() {
        let begun = Instant::now();
        let name = match part {
            Part::Messages => "messages",
            Part::ExactlyOnce => "exactly-once",
        };
        let settings = Settings {
            part,
            folder: folder.join(name),
            programs: programs.clone(),
            seed,
            faults: !args.no_faults,
            mounts: args.mounts,
            clocks: args.clocks.clone(),
            kill_every: Duration::from_millis(args.kill_every),
            goal: args.goal(part),
            calm: Duration::from_secs(args.calm),
        };
        eprintln!("chaos: {name}, seed {seed}");
        conduct::run(&settings).await?;
        content &= judged(args, &settings).await?;
        eprintln!("chaos: {name} took {} s", begun.elapsed().as_secs());
    }
    Ok(content)
}

/// Lets the judges, which are programs of their own, look at what a part left behind.
async fn judged(args: &Args, settings: &Settings) -> anyhow::Result<bool> {
    let (messages, kills) =
        (args.messages.unwrap_or(1).to_string(), args.kills.unwrap_or(0).to_string());
    let calm = args.calm.to_string();
    let judges: &[&str] = match settings.part {
        Part::Messages => &["checker"],
        Part::ExactlyOnce => &["checker", "ledger"],
    };
    let mut content = true;
    for judge in judges {
        let mut command = Command::new(settings.programs.join(judge));
        command.arg(&settings.folder);
        // What was sold is counted by the judge of ledgers.
        match (settings.part, *judge) {
            (Part::ExactlyOnce, "checker") => {
                command.args(["--messages", "0", "--kills", &kills, "--calm", &calm])
            }
            (Part::ExactlyOnce, _) => command.args(["--messages", &messages]),
            (Part::Messages, _) => {
                command.args(["--messages", &messages, "--kills", &kills, "--calm", &calm])
            }
        };
        if args.json {
            command.arg("--json");
        }
        let status = command.kill_on_drop(true).status().await.context("running a judge")?;
        ensure!(matches!(status.code(), Some(0 | 1)), "{judge} could not judge");
        content &= status.success();
    }
    Ok(content)
}

/// Gives up the filesystems in this folder; what was in them is copied where it is wanted.
fn unmount(folder: &Path, kept: bool) {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mounts") else { return };
    let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    for mounted in ours.filter(|path| path.starts_with(folder)) {
        let copied = if kept { copy(&mounted, &mounted.with_extension("kept")) } else { Ok(()) };
        if let Err(error) = copied {
            eprintln!("chaos: {} could not be kept: {error}", mounted.display());
        }
        let done = std::process::Command::new("umount").arg(&mounted).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("chaos: {} could not be unmounted", mounted.display());
        }
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
