//! One node: a counter that the master counts on, and a resource that only the master may touch. It tells everything that it does.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use waypost::election::{Deposed, Fence};
use waypost::error::FenceError;
use waypost::{Election, Node};

use crate::log::{COMMANDS, Command, Log, Said, VOTERS, name_of};
use crate::sampler;

/// Who elects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Electorate {
    /// The voters.
    #[default]
    Quorum,
    /// All that are seen.
    Visible,
}

impl Electorate {
    /// As it is given on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Visible => "visible",
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct NodeArgs {
    /// The node's name
    #[arg(long)]
    id: String,
    /// Which start of the node this is
    #[arg(long)]
    run: u32,
    #[arg(long, value_enum)]
    elect: Electorate,
    #[arg(long)]
    nats: String,
    /// The folder of everything
    #[arg(long)]
    dir: PathBuf,
}

/// Where all that are seen elect.
const SHORT_KEEPALIVE: Duration = Duration::from_millis(500);
/// Between two states.
const COUNT_PAUSE: Duration = Duration::from_millis(15);
/// Between two commands.
const COMMAND_PAUSE: Duration = Duration::from_millis(25);
/// Between the look at the token and the deed: who is stopped in this time acts on an old answer.
const PREPARATION: Duration = Duration::from_millis(25);

pub(crate) async fn run(args: NodeArgs) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let mut terminate = signal(SignalKind::terminate())?;
    std::thread::spawn(end_with_the_conductor);
    let log = Arc::new(Log::open(&args.dir.join(name_of(&args.id, args.run)))?);
    log.say(Said::Started);
    let builder = Node::builder()
        .id(&args.id)
        .nats([&args.nats])
        .storage(args.dir.join("nodes").join("{id}.db"));
    let builder = match args.elect {
        Electorate::Quorum => builder.election(Election::quorum(VOTERS)?),
        // Who is cut off has to see that it is alone before the partition is over.
        Electorate::Visible => builder
            .election(Election::Visible)
            .keepalive_interval(SHORT_KEEPALIVE)
            .offline_after(SHORT_KEEPALIVE * 4),
    };
    let node = tokio::select! {
        node = builder.start() => node?,
        _ = terminate.recv() => return Ok(()),
    };
    tell_changes(&node, &log).await?;
    let over = Arc::new(AtomicBool::new(false));
    let sampler = {
        let (node, log, over) = (node.clone(), Arc::clone(&log), Arc::clone(&over));
        std::thread::spawn(move || sampler::run(&node, &log, &over))
    };
    let (of, to) = (node.clone(), Arc::clone(&log));
    std::thread::spawn(move || command(&of, &to, &args.dir));
    until_asked(&node, &log, &mut terminate).await;
    log.say(Said::Stopping);
    // Goes on counting until it may no longer.
    let counting = tokio::spawn(count(node.clone(), Arc::clone(&log)));
    node.shutdown().await;
    counting.abort();
    over.store(true, Ordering::Relaxed);
    sampler.join().ok().context("the sampler does not panic")?;
    log.say(Said::Ended);
    Ok(())
}

async fn until_asked(node: &Node, log: &Arc<Log>, terminate: &mut Signal) {
    tokio::select! {
        () = count(node.clone(), Arc::clone(log)) => {}
        _ = terminate.recv() => {}
    }
}

/// The conductor holds the other end of the standard input: who has lost it, however that came, ends.
fn end_with_the_conductor() {
    let mut byte = [0];
    while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
    std::process::exit(3);
}

async fn tell_changes(node: &Node, log: &Arc<Log>) -> anyhow::Result<()> {
    let to = Arc::clone(log);
    node.on_became_master(move |state, reason| {
        let n = state.field("n").and_then(|n| n.as_u64()).unwrap_or(0);
        to.say(Said::BecameMaster {
            term: state.version().term.get(),
            reason: reason.to_string(),
            n,
        });
        async {}
    })
    .await?;
    let to = Arc::clone(log);
    node.on_became_follower(move |info| {
        let successor = match &info.reason {
            Deposed::HandedOver { to } => Some(to.to_string()),
            _ => None,
        };
        let reason = info.reason.to_string();
        to.say(Said::BecameFollower { term: info.term.get(), reason, to: successor });
        async {}
    })
    .await?;
    Ok(())
}

/// Counts, as master.
async fn count(node: Node, log: Arc<Log>) {
    loop {
        if node.is_master() {
            let n = node.state_field("n").and_then(|n| n.as_u64()).unwrap_or(0) + 1;
            log.say(match node.set_state(&json!({"n": n})).await {
                Ok(version) => Said::Acknowledged { term: version.term.get(), n },
                Err(error) => Said::Unset { n, why: error.to_string() },
            });
        }
        tokio::time::sleep(COUNT_PAUSE).await;
    }
}

/// Does something to the resource, as master.
fn command(node: &Node, log: &Log, folder: &std::path::Path) {
    let path = folder.join("fence.db");
    let mut open = None;
    loop {
        std::thread::sleep(COMMAND_PAUSE);
        let Some(token) = node.fencing_token() else { continue };
        std::thread::sleep(PREPARATION);
        let done = match &mut open {
            Some((fence, commands)) => guarded(fence, commands, &token),
            None => match opened(&path, &folder.join(COMMANDS)) {
                Ok(both) => {
                    let (fence, commands) = open.insert(both);
                    guarded(fence, commands, &token)
                }
                Err(error) => Err(error),
            },
        };
        match done {
            Ok(()) => {}
            Err(FenceError::Stale(_)) => log.say(Said::Refused { term: token.term.get() }),
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::from(error));
                log.say(Said::Unfenced { why });
                open = None;
            }
        }
    }
}

fn opened(fence: &std::path::Path, commands: &std::path::Path) -> Result<(Fence, Log), FenceError> {
    let commands = Log::open(commands).expect("the log of commands can be opened");
    Ok((Fence::open(fence)?, commands))
}

fn guarded(
    fence: &mut Fence,
    commands: &Log,
    token: &waypost::election::Token,
) -> Result<(), FenceError> {
    let (term, node) = (token.term.get(), token.node.to_string());
    fence.guard("resource", token, || commands.say(Command { term, node }))
}
