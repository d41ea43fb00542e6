//! One part: a while of trouble, then calm until all is settled, then the accounts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::account;
use super::cast::{Cast, names};
use super::clock::Clocks;
use super::progress::Progress;
use super::roles::Stage;
use super::supervise::Order;
use super::torment;
use crate::journal::{Event, Journal};

/// Between two looks at whether enough has happened.
const LOOK: Duration = Duration::from_millis(250);
/// Between two lines that tell how it goes.
const TELL: Duration = Duration::from_secs(10);

/// What is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The command: lines that are fed to senders and printed by receivers.
    Messages,
    /// The library: rows and messages in one transaction at both ends.
    ExactlyOnce,
}

/// When the trouble is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// After this time.
    Time(Duration),
    /// When so much was accepted and so often was killed.
    Reached {
        /// Messages that were accepted.
        messages: u64,
        /// Processes that were killed.
        kills: u64,
    },
}

/// How a part is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is tested.
    pub part: Part,
    /// An empty folder for everything.
    pub folder: PathBuf,
    /// Where `waypost` and `trader` are.
    pub programs: PathBuf,
    /// What faults are drawn from.
    pub seed: u64,
    /// Whether there are any.
    pub faults: bool,
    /// Whether this process may mount filesystems.
    pub mounts: bool,
    /// The library with which wall clocks can be set wrong, where there is one.
    pub clocks: Option<PathBuf>,
    /// The mean time between two kills.
    pub kill_every: Duration,
    /// When the trouble is over.
    pub goal: Goal,
    /// Longest time for everything to settle then.
    pub calm: Duration,
}

/// Runs a part. Its judges find what they need in the folder.
///
/// # Errors
/// Something of the apparatus does not work. What the nodes do wrong is not an error here.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    for folder in ["sent", "got", "sold", "log", "accounts", "nodes"] {
        std::fs::create_dir_all(settings.folder.join(folder))
            .context("making the folder of the part")?;
    }
    let (begin_calm, calm) = watch::channel(false);
    let (senders, receivers) = names(settings.part);
    let nodes: Vec<String> = senders.iter().chain(&receivers).cloned().collect();
    let clocks = settings.clocks.as_ref().filter(|_| settings.faults);
    let clocks =
        clocks.map(|library| Clocks::new(library, &settings.folder, &nodes)).transpose()?;
    let stage = Stage {
        folder: settings.folder.clone(),
        programs: settings.programs.clone(),
        journal: Arc::new(Journal::create(&settings.folder)?),
        progress: Arc::new(Progress::new(&senders, &receivers)),
        calm: calm.clone(),
        clocks,
        streams: Arc::default(),
    };
    stage.journal.note(Event::Plan { seed: settings.seed, faults: settings.faults });
    let mut followers = follow(settings.part, &stage, &senders, &receivers);
    let reading = Reading(Arc::clone(&stage.progress));
    let cast = Arc::new(Cast::start(settings, &stage).await?);
    let mut trouble = JoinSet::new();
    if settings.faults {
        trouble = torment::begin(&cast, &stage, settings.part, settings.seed, settings.kill_every);
    }
    let done = until(settings, &cast, &stage.progress).await;
    begin_calm.send_replace(true);
    while let Some(ended) = trouble.join_next().await {
        ended.context("a tormentor does not panic")?;
    }
    done?;
    if settings.part == Part::ExactlyOnce {
        cast.senders.iter().for_each(|seller| seller.order(Order::Restart));
    }
    stage.journal.note(Event::Calm);
    settle(settings, &stage, &cast, &senders).await?;
    drop(reading);
    while let Some(ended) = followers.join_next().await {
        ended.context("a follower does not panic")?;
    }
    Arc::into_inner(cast).context("nobody else holds the nodes any more")?.stop().await?;
    for node in &nodes {
        account::close(&stage, node).await?;
    }
    Ok(())
}

/// Ends those who read along, however the part ends: they block threads, for which the end of the program would wait.
struct Reading(Arc<Progress>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Reads along with what is printed.
fn follow(part: Part, stage: &Stage, senders: &[String], receivers: &[String]) -> JoinSet<()> {
    let mut followers = JoinSet::new();
    let whom = if part == Part::Messages { receivers } else { senders };
    for name in whom {
        let (stage, name) = (stage.clone(), name.clone());
        followers.spawn_blocking(move || match part {
            Part::Messages => stage.progress.follow(&stage.folder.join("got"), &name),
            Part::ExactlyOnce => stage.progress.count(&stage.folder.join("sold"), &name),
        });
    }
    followers
}

/// Waits until the goal is reached.
async fn until(settings: &Settings, cast: &Cast, progress: &Progress) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut told = begun;
    loop {
        tokio::time::sleep(LOOK).await;
        let kills: u64 =
            cast.nodes().chain([&cast.server]).map(|node| node.kills.load(Ordering::Relaxed)).sum();
        let accepted = progress.accepted.load(Ordering::Relaxed);
        let over = match settings.goal {
            Goal::Time(time) => begun.elapsed() >= time,
            Goal::Reached { messages, kills: least } => accepted >= messages && kills >= least,
        };
        if let Some(node) = cast.nodes().chain([&cast.server]).find(|node| node.has_failed()) {
            bail!("{} cannot be kept running: see its log", node.name);
        }
        if over || told.elapsed() >= TELL {
            told = Instant::now();
            let seconds = begun.elapsed().as_secs();
            match settings.part {
                Part::Messages => eprintln!(
                    "chaos: {seconds:4} s: {accepted} accepted, {} printed by receivers, at most {} wait for one, {kills} kills",
                    progress.delivered.load(Ordering::Relaxed),
                    progress.longest().max(0),
                ),
                Part::ExactlyOnce => {
                    eprintln!("chaos: {seconds:4} s: {accepted} sold, {kills} kills")
                }
            }
        }
        if over {
            return Ok(());
        }
    }
}

/// Waits until nothing waits any more, by the senders' own files, or the time is over.
async fn settle(
    settings: &Settings,
    stage: &Stage,
    cast: &Cast,
    senders: &[String],
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let after = |since: Instant| since.duration_since(begun).as_millis() as u64;
    let mut told = begun;
    let mut empty_since: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let now = Instant::now();
        let certain = stage.progress.is_certain();
        let mut waiting: BTreeMap<String, u64> = BTreeMap::new();
        for sender in senders {
            for (receiver, pending) in account::pending(stage, sender).await? {
                *waiting.entry(receiver.unwrap_or_default()).or_default() += pending;
            }
        }
        for receiver in &cast.receivers {
            if waiting.get(&receiver.name).is_none_or(|pending| *pending == 0) && certain {
                empty_since.entry(receiver.name.clone()).or_insert(now);
            } else {
                empty_since.remove(&receiver.name);
            }
        }
        let left: u64 = waiting.values().sum();
        let settled = certain && left == 0;
        if settled || now.duration_since(begun) >= settings.calm {
            for (node, since) in empty_since {
                stage.journal.note(Event::CaughtUp { node, after_ms: after(since) });
            }
            if settled {
                stage.journal.note(Event::Settled { after_ms: after(now) });
            }
            eprintln!("chaos: {:4} s of calm: {left} wait", begun.elapsed().as_secs());
            return Ok(());
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            eprintln!("chaos: {:4} s of calm: {left} wait", begun.elapsed().as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}
