//! The run itself: starts the nodes, does the plan's acts, looks, and comes to an end.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use waypost::inspect::{Inspector, QueueRow, Report};

use crate::END_PATIENCE;
use crate::plan::{Act, LEAVING, PAUSING, Plan, READERS, SENDER};
use crate::process::Process;
use crate::sample::{FileSize, Sample, Table, file_path};
use crate::told::{Order, Told};
use crate::verdict::Verdict;

/// What was seen, for the verdict.
pub(crate) struct Seen {
    pub(crate) plan: Plan,
    pub(crate) samples: Vec<Sample>,
    /// The largest write-ahead log of each node, looked at once a second.
    pub(crate) wal_bytes: BTreeMap<&'static str, u64>,
    /// Time of sending.
    pub(crate) sending: Duration,
    /// From the last message sent until all was settled; none where it was not within [`END_PATIENCE`].
    pub(crate) settled_after: Option<Duration>,
    pub(crate) told: BTreeMap<&'static str, Told>,
    /// Checks while the sender ran, and of every file at the end.
    pub(crate) reports: Vec<(&'static str, Report)>,
    pub(crate) queues: BTreeMap<&'static str, Vec<QueueRow>>,
    /// Lines in the nodes' logs, which are warnings and errors.
    pub(crate) log_lines: BTreeMap<&'static str, usize>,
}

/// Runs to the end of the plan, or to an interrupt.
pub(crate) async fn run(plan: Plan, dir: &Path, nats: &str) -> anyhow::Result<Verdict> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    ensure!(
        fs::read_dir(dir)?.next().is_none(),
        "{} is not empty: give another folder, or remove what is in it",
        dir.display()
    );
    let mut run = Run::start(plan, dir, nats).await?;
    run.keep_going().await?;
    let seen = run.end().await?;
    Ok(Verdict::of(&seen))
}

struct Run {
    plan: Plan,
    dir: PathBuf,
    nats: String,
    nodes: BTreeMap<&'static str, Process>,
    /// Of the node that is away.
    away: Option<Told>,
    check: Option<JoinHandle<anyhow::Result<Report>>>,
    table: Table,
    started: Instant,
    seen: Seen,
    interrupt: Signal,
    terminate: Signal,
}

const TICK: Duration = Duration::from_secs(1);

impl Run {
    async fn start(plan: Plan, dir: &Path, nats: &str) -> anyhow::Result<Self> {
        // Taken over first, so that none is missed.
        let (interrupt, terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut nodes = BTreeMap::new();
        for name in READERS.into_iter().chain([SENDER]) {
            let process = Process::start(name, &plan, dir, nats, &Told::default()).await?;
            nodes.insert(name, process);
        }
        let seen = Seen {
            plan,
            samples: Vec::new(),
            wal_bytes: BTreeMap::new(),
            sending: Duration::ZERO,
            settled_after: None,
            told: BTreeMap::new(),
            reports: Vec::new(),
            queues: BTreeMap::new(),
            log_lines: BTreeMap::new(),
        };
        Ok(Self {
            table: Table::create(&dir.join("samples.csv"))?,
            dir: dir.to_owned(),
            nats: nats.to_owned(),
            started: Instant::now(),
            away: None,
            check: None,
            plan,
            nodes,
            seen,
            interrupt,
            terminate,
        })
    }

    async fn keep_going(&mut self) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(TICK);
        let (mut next_act, mut next_sample, mut next_line) = (0, Duration::ZERO, Duration::ZERO);
        let line_interval =
            Duration::from_secs(if std::io::stderr().is_terminal() { 10 } else { 60 });
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
            }
            let at = self.started.elapsed();
            if at >= self.plan.length {
                break;
            }
            self.watch()?;
            if at >= next_sample {
                self.sample(at)?;
                next_sample += self.plan.sample_interval();
            }
            if at >= next_line {
                self.tell(at);
                next_line += line_interval;
            }
            let (due, act) = self.plan.act(next_act);
            if at >= due {
                self.act(act).await?;
                next_act += 1;
            }
        }
        self.seen.sending = self.started.elapsed();
        Ok(())
    }

    async fn act(&mut self, act: Act) -> anyhow::Result<()> {
        match act {
            Act::StopLeaving => {
                let process = self.nodes.remove(LEAVING).context("it should be there")?;
                self.away = Some(process.stop().await?);
            }
            Act::StartLeaving => {
                if let Some(before) = self.away.take() {
                    let process =
                        Process::start(LEAVING, &self.plan, &self.dir, &self.nats, &before).await?;
                    self.nodes.insert(LEAVING, process);
                }
            }
            Act::Pause => self.node(PAUSING)?.order(Order::Pause).await?,
            Act::Resume => self.node(PAUSING)?.order(Order::Resume).await?,
            Act::Check => {
                self.finish_check().await?;
                let path = file_path(&self.dir, SENDER);
                self.check = Some(tokio::task::spawn_blocking(move || check(&path)));
            }
        }
        Ok(())
    }

    fn node(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        self.nodes.get_mut(name).with_context(|| format!("{name} does not run"))
    }

    async fn finish_check(&mut self) -> anyhow::Result<()> {
        if let Some(check) = self.check.take() {
            self.seen.reports.push((SENDER, check.await??));
        }
        Ok(())
    }

    /// What must not be missed between two samples.
    fn watch(&mut self) -> anyhow::Result<()> {
        for name in READERS.into_iter().chain([SENDER]) {
            let size = FileSize::of(&file_path(&self.dir, name));
            let most = self.seen.wal_bytes.entry(name).or_default();
            *most = (*most).max(size.wal_bytes);
        }
        self.nodes.values_mut().try_for_each(Process::check)
    }

    fn sample(&mut self, at: Duration) -> anyhow::Result<()> {
        for process in self.nodes.values() {
            let sample = Sample::take(process, &self.dir, at)?;
            self.table.add(&sample).context("the table of samples")?;
            self.seen.samples.push(sample);
        }
        Ok(())
    }

    fn tell(&self, at: Duration) {
        let Some(sender) = self.nodes.get(SENDER).map(Process::told) else { return };
        let newest = self.seen.samples.iter().rev().take(self.nodes.len());
        let of_sender = newest.clone().find(|sample| sample.node == SENDER);
        let (file, wal) = of_sender.map_or((0, 0), |s| (s.file.db_bytes, s.file.wal_bytes));
        let memory: Vec<String> =
            newest.map(|s| format!("{} {}", s.node, s.rss_kib / 1024)).collect();
        let seconds = at.as_secs();
        eprintln!(
            "{:02}:{:02}:{:02}  sent {}, waiting {}, file {} MiB, log {} MiB, resident MiB: {}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            sender.sent_in_all(),
            sender.pending(),
            file >> 20,
            wal >> 20,
            memory.join(", ")
        );
    }

    /// Has everything settled, ends the nodes and looks at what they leave.
    async fn end(mut self) -> anyhow::Result<Seen> {
        eprintln!("stopping to send; waiting until all is settled");
        self.act(Act::StartLeaving).await?;
        self.act(Act::Resume).await?;
        self.node(SENDER)?.order(Order::StopSending).await?;
        let stopped = Instant::now();
        while stopped.elapsed() < END_PATIENCE {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
            }
            self.watch()?;
            let settled = self.nodes.values().all(|node| node.told().pending() == 0);
            if settled && self.nodes[SENDER].told().quiet {
                self.seen.settled_after = Some(stopped.elapsed());
                break;
            }
        }
        self.finish_check().await?;
        // Readers first: their last reports still find the sender.
        for name in READERS.into_iter().chain([SENDER]) {
            let process = self.nodes.remove(name).context("all run at the end")?;
            self.seen.told.insert(name, process.stop().await?);
            let path = file_path(&self.dir, name);
            self.seen.reports.push((name, check(&path)?));
            self.seen.queues.insert(name, Inspector::open(&path)?.queue()?);
            let log = fs::read_to_string(self.dir.join(format!("{name}.log")))?;
            self.seen.log_lines.insert(name, log.lines().count());
        }
        Ok(self.seen)
    }
}

fn check(path: &Path) -> anyhow::Result<Report> {
    let report = Inspector::open(path)?.check(|_| {})?;
    if report.further > 0 {
        bail!("{} is full of findings: {:?}", path.display(), report.findings.first());
    }
    Ok(report)
}
