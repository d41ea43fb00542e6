//! One node: started again whenever its process ends, killed and frozen on demand.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::journal::{Event, Journal};
use crate::payload::Topic;

/// After being asked to end, a process that is still there is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between the end of a process and the start of the next, in milliseconds.
const PAUSES_MS: std::ops::Range<u64> = 20..400;

/// What can be asked of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// SIGKILL, and start it again.
    Kill,
    /// SIGKILL, put this copy in the place of its file, and start it again.
    Restore(PathBuf),
    /// SIGTERM, and start it again.
    Restart,
    /// SIGSTOP.
    Freeze,
    /// SIGCONT.
    Thaw,
    /// SIGTERM, and leave it at that.
    Stop,
}

/// What differs between nodes.
pub(super) trait Role: Send + 'static {
    /// The command of this run, and where its lines go.
    fn launch(&mut self, run: u32) -> anyhow::Result<(Command, Option<Topic>)>;
    /// It runs.
    ///
    /// # Errors
    /// What it prints cannot be kept.
    fn started(&mut self, _run: u32, _child: &mut Child) -> anyhow::Result<()> {
        Ok(())
    }
    /// It has ended.
    fn ended(&mut self) {}
    /// Puts a copy in the place of the node's file.
    ///
    /// # Errors
    /// That fails.
    fn restore(&mut self, _copy: &Path) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }
}

/// A node that is looked after.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    orders: UnboundedSender<Order>,
    pub(super) kills: Arc<AtomicU64>,
    pub(super) process: Arc<AtomicU64>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Node {
    /// Starts it.
    pub(super) fn start(name: &str, role: impl Role, journal: Arc<Journal>, seed: u64) -> Self {
        let (orders, receiver) = unbounded_channel();
        let (kills, process) = (Arc::default(), Arc::default());
        let keeper = Keeper {
            name: name.to_owned(),
            role,
            journal,
            orders: receiver,
            kills: Arc::clone(&kills),
            process: Arc::clone(&process),
            random: fastrand::Rng::with_seed(seed),
            copy: None,
        };
        Self { name: name.to_owned(), orders, kills, process, task: tokio::spawn(keeper.keep()) }
    }

    /// Asks for something. A node that is between two runs does it at the start of the next.
    pub(super) fn order(&self, order: Order) {
        // A keeper that has failed tells why when it is waited for.
        let _ = self.orders.send(order);
    }

    /// Whether its keeper gave up.
    pub(super) fn has_failed(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it, and waits until its process is gone.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.order(Order::Stop);
        self.task.await.context("a keeper does not panic")?
    }
}

struct Keeper<R> {
    name: String,
    role: R,
    journal: Arc<Journal>,
    orders: UnboundedReceiver<Order>,
    kills: Arc<AtomicU64>,
    process: Arc<AtomicU64>,
    random: fastrand::Rng,
    /// To be put in the place of the node's file before the next run.
    copy: Option<PathBuf>,
}

impl<R: Role> Keeper<R> {
    async fn keep(mut self) -> anyhow::Result<()> {
        for run in 1.. {
            let (mut command, topic) = self.role.launch(run)?;
            // Of its own, so that an interrupt at the terminal is for the conductor alone, who ends the others in order.
            let child = command.process_group(0).kill_on_drop(true).spawn();
            let mut child = child.with_context(|| format!("starting {}", self.name))?;
            let pid = child.id().context("a process that was just started")?;
            self.journal.note(Event::Start { node: self.name.clone(), run, pid, topic });
            self.process.store(pid.into(), Ordering::Relaxed);
            self.role.started(run, &mut child)?;
            let (status, stopped) = self.watch(run, &mut child).await?;
            self.process.store(0, Ordering::Relaxed);
            self.role.ended();
            let (node, signal, code) = (self.name.clone(), status.signal(), status.code());
            self.journal.note(Event::End { node, run, signal, code });
            if let Some(copy) = self.copy.take() {
                self.role.restore(&copy).await?;
                self.journal.note(Event::Restored { node: self.name.clone(), run });
            }
            if stopped {
                break;
            }
            tokio::time::sleep(Duration::from_millis(self.random.u64(PAUSES_MS))).await;
        }
        Ok(())
    }

    /// Until the process has ended; and whether that was to be the last one.
    async fn watch(&mut self, run: u32, child: &mut Child) -> anyhow::Result<(ExitStatus, bool)> {
        let mut stopped = false;
        let mut give_up = None;
        loop {
            tokio::select! {
                status = child.wait() => return Ok((status.context("waiting for a child")?, stopped)),
                Some(order) = self.orders.recv() => {
                    if matches!(order, Order::Restart | Order::Stop) {
                        give_up.get_or_insert(Instant::now() + PATIENCE);
                    }
                    stopped |= order == Order::Stop;
                    self.obey(order, run, child)?;
                }
                () = tokio::time::sleep_until(give_up.unwrap_or_else(Instant::now)), if give_up.is_some() => {
                    anyhow::bail!("{} does not end within {} s of SIGTERM", self.name, PATIENCE.as_secs());
                }
            }
        }
    }

    fn obey(&mut self, order: Order, run: u32, child: &Child) -> anyhow::Result<()> {
        // None: it has ended, and is about to be seen to.
        let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)) else {
            return Ok(());
        };
        let node = self.name.clone();
        let signals: &[Signal] = match order {
            Order::Kill | Order::Restore(_) => {
                if let Order::Restore(copy) = order {
                    self.copy = Some(copy);
                }
                self.journal.note(Event::Kill { node, run });
                self.kills.fetch_add(1, Ordering::Relaxed);
                &[Signal::KILL]
            }
            Order::Restart | Order::Stop => {
                self.journal.note(Event::Stop { node, run });
                // A frozen process hears no polite word.
                &[Signal::TERM, Signal::CONT]
            }
            Order::Freeze => &[Signal::STOP],
            Order::Thaw => &[Signal::CONT],
        };
        for signal in signals {
            kill_process(pid, *signal).context("signalling a child that was not waited for")?;
        }
        Ok(())
    }
}
