//! A node's process, and what its log says so far.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::log::{At, Cause, Deed, Log, Said, name_of};
use crate::voter::Electorate;

/// After SIGTERM a process that is still there is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a node said last.
#[derive(Debug, Default)]
pub(crate) struct View {
    file: Option<File>,
    rest: Vec<u8>,
    /// Whom it takes for the master.
    pub(crate) sees: Option<(String, u64)>,
    /// The term in which it is master.
    pub(crate) leads: Option<u64>,
    /// When it told of a new state last.
    pub(crate) fed_us: u64,
    /// To whom it has handed its role.
    pub(crate) successor: Option<String>,
}

impl View {
    /// Reads what was added.
    fn look(&mut self, path: &Path) -> anyhow::Result<()> {
        if self.file.is_none() {
            self.file = File::open(path).ok();
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.read_to_end(&mut self.rest).context("reading a log")?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let lines: Vec<u8> = self.rest.drain(..=end).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: At<Said> =
                serde_json::from_slice(line).context("a line of a running node")?;
            self.take(line.at_us, line.what);
        }
        Ok(())
    }

    fn take(&mut self, at_us: u64, said: Said) {
        match said {
            Said::Sees { master, term } => self.sees = master.zip(term),
            Said::BecameMaster { term, .. } => self.leads = Some(term),
            Said::BecameFollower { to, .. } => {
                self.leads = None;
                self.successor = to;
            }
            Said::Has { .. } => self.fed_us = at_us,
            _ => {}
        }
    }
}

/// One node. Its process is killed when this is dropped; when the conductor is killed, the end of its input ends it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    url: String,
    folder: PathBuf,
    electorate: Electorate,
    run: u32,
    child: Option<Child>,
    /// Whether this run was asked to end.
    is_asked: bool,
    pub(crate) view: View,
}

impl Process {
    pub(crate) fn new(name: &str, url: String, folder: &Path, electorate: Electorate) -> Self {
        let (name, folder) = (name.to_owned(), folder.to_owned());
        Self {
            name,
            url,
            folder,
            electorate,
            run: 0,
            child: None,
            is_asked: false,
            view: View::default(),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it, if it does not run.
    pub(crate) fn start(&mut self, deeds: &Log) -> anyhow::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        self.run += 1;
        let output = self.folder.join("log").join(&self.name);
        let output = File::options().create(true).append(true).open(output)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["node", "--id", &self.name, "--run", &self.run.to_string()])
            .args(["--elect", self.electorate.name(), "--nats", &self.url, "--dir"])
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(output)
            // An interrupt at the terminal is for the conductor alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", self.name))?;
        let pid = child.id().context("it has just been started")?;
        deeds.say(Deed::Start { node: self.name.clone(), run: self.run, pid });
        self.child = Some(child);
        self.is_asked = false;
        self.view = View::default();
        Ok(())
    }

    /// Reads its log, and notes when the process has ended by itself.
    pub(crate) fn look(&mut self, deeds: &Log) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().context("looking at a child")?
        {
            let cause = if self.is_asked { Cause::Asked } else { Cause::Itself };
            self.ended(deeds, cause, status.code());
        }
        if self.child.is_some() {
            self.view.look(&self.folder.join(name_of(&self.name, self.run)))?;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // None: it has ended.
        if let Some(pid) = self.child.as_ref().and_then(Child::id) {
            let pid = Pid::from_raw(pid.try_into()?).context("a process id")?;
            kill_process(pid, signal).context("signalling a child that was not waited for")?;
        }
        Ok(())
    }

    /// SIGKILL; whether it still ran.
    pub(crate) async fn kill(&mut self, deeds: &Log) -> anyhow::Result<bool> {
        let Some(child) = &mut self.child else { return Ok(false) };
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        deeds.say(Deed::Kill { node: self.name.clone() });
        self.signal(Signal::KILL)?;
        let status = self.child.as_mut().context("it ran")?.wait().await?;
        // It may have ended just before, in order.
        let cause = if status.signal() == Some(Signal::KILL.as_raw()) {
            Cause::Killed
        } else {
            Cause::Asked
        };
        self.ended(deeds, cause, status.code());
        Ok(cause == Cause::Killed)
    }

    /// SIGTERM.
    pub(crate) fn terminate(&mut self, deeds: &Log) -> anyhow::Result<()> {
        deeds.say(Deed::Terminate { node: self.name.clone() });
        self.is_asked = true;
        self.signal(Signal::TERM)
    }

    /// Waits until it has ended after SIGTERM.
    pub(crate) async fn wait(&mut self, deeds: &Log) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        // Waiting closes its input, and with that ends it.
        let input = child.stdin.take();
        let Ok(status) = timeout(PATIENCE, child.wait()).await else {
            bail!("{} does not end within {} s of SIGTERM", self.name, PATIENCE.as_secs());
        };
        drop(input);
        let code = status?.code();
        self.ended(deeds, Cause::Asked, code);
        Ok(())
    }

    fn ended(&mut self, deeds: &Log, cause: Cause, code: Option<i32>) {
        deeds.say(Deed::End { node: self.name.clone(), run: self.run, cause, code });
        self.child = None;
    }
}
