//! A node's process, as the run holds it.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::END_PATIENCE;
use crate::plan::Plan;
use crate::told::{Order, Told};

/// Killed when dropped; when the run itself is killed, the end of its input ends it.
pub(crate) struct Process {
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
    child: Child,
    input: ChildStdin,
    told: watch::Receiver<Told>,
    listener: JoinHandle<anyhow::Result<()>>,
}

impl Process {
    /// Starts a node that has told this before.
    pub(crate) async fn start(
        name: &'static str,
        plan: &Plan,
        dir: &Path,
        nats: &str,
        before: &Told,
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).context("its log")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["node", "--id", name, "--nats", nats, "--dir"])
            .arg(dir)
            .args(["--length-ms", &plan.length.as_millis().to_string()])
            .args(["--rate", &plan.rate.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // An interrupt at the terminal is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let pid = child.id().context("it has just been started")?;
        let mut input = child.stdin.take().context("piped")?;
        let output = child.stdout.take().context("piped")?;
        let (tell, told) = watch::channel(before.clone());
        let listener = tokio::spawn(listen(output, tell));
        write_line(&mut input, &serde_json::to_string(before)?).await?;
        Ok(Self { name, pid, child, input, told, listener })
    }

    /// What it told last.
    pub(crate) fn told(&self) -> Told {
        self.told.borrow().clone()
    }

    pub(crate) async fn order(&mut self, order: Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(&order)?;
        write_line(&mut self.input, &line)
            .await
            .with_context(|| format!("{} takes no orders", self.name))
    }

    /// An error once it has ended without being asked to.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended early with {status}: see its log", self.name),
        }
    }

    /// Ends it politely, and gives its last words.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Told> {
        drop(self.input);
        let name = self.name;
        let status = timeout(END_PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("{name} does not end within {END_PATIENCE:?}"))??;
        self.listener.await?.with_context(|| format!("{name} tells nonsense"))?;
        if !status.success() {
            bail!("{name} ended with {status}: see its log");
        }
        Ok(self.told.borrow().clone())
    }
}

async fn write_line(input: &mut ChildStdin, line: &str) -> std::io::Result<()> {
    input.write_all(format!("{line}\n").as_bytes()).await?;
    input.flush().await
}

async fn listen(output: ChildStdout, tell: watch::Sender<Told>) -> anyhow::Result<()> {
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        tell.send_replace(serde_json::from_str(&line)?);
    }
    Ok(())
}
