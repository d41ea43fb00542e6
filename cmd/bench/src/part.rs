//! A node in a process of its own, so that its memory and its processor time are nobody else's.

use std::io::BufRead;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use waypost::{Config, Mode, Node};
use waypost_process::streams;

use crate::anchors::request;
use crate::anchors::rows::Rows;
use crate::crowd::{self, CHANNEL};
use crate::error::BenchError;
use crate::payload::Payloads;
use crate::process::Process;
use crate::server::Server;
use crate::stage::Stage;
use crate::window::{PATIENCE, stalled};

/// Bytes of a small message: a reading with a name and a time.
const SMALL_BYTES: usize = 90;
/// Commits whose processor time is taken together: the system counts it in hundredths of a second.
const COMMITS: u32 = 50_000;

/// The other process, as the one that measures sees it. Killed when dropped.
pub(crate) struct Part {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Part {
    /// Starts the process; its node begins with [`Part::start`].
    ///
    /// # Errors
    /// The process does not start.
    pub(crate) async fn spawn(stage: &Stage, config: &Config) -> Result<Self, BenchError> {
        let (program, words) = stage.options.part.split_first().expect("a program");
        let mut command = Command::new(program);
        // A group of its own: an interrupt at the terminal is for the one that measures, which then ends this one.
        command.args(words).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed("a process for a node", &error))?;
        let orders = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut part = Self { child, orders, answers };
        part.ask(&serde_json::to_string(config).expect("settings serialize")).await?;
        Ok(part)
    }

    /// Starts the node, without waiting for it.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) async fn begin(&mut self) -> Result<(), BenchError> {
        self.order("start").await
    }

    /// Waits until the node has started.
    ///
    /// # Errors
    /// It does not.
    pub(crate) async fn begun(&mut self) -> Result<(), BenchError> {
        self.answer("start").await.map(|_| ())
    }

    /// How many peers read its channel.
    ///
    /// # Errors
    /// The node or the process failed.
    pub(crate) async fn readers(&mut self) -> Result<u64, BenchError> {
        Ok(self.ask("readers").await?.as_u64().unwrap_or_default())
    }

    /// Sends so many messages.
    ///
    /// # Errors
    /// The node or the process failed.
    pub(crate) async fn fill(&mut self, count: u64) -> Result<(), BenchError> {
        self.ask(&format!("fill {count}")).await.map(|_| ())
    }

    /// Starts the node as a reader of its channel, which only counts.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn read(&mut self) -> Result<(), BenchError> {
        self.ask("read").await.map(|_| ())
    }

    /// Answers the requests to this subject, instead of a node.
    ///
    /// # Errors
    /// There is no server, or the process failed.
    pub(crate) async fn answer_requests(&mut self, subject: &str) -> Result<(), BenchError> {
        self.ask(&format!("answer {subject}")).await.map(|_| ())
    }

    /// Microseconds of processor time that it takes to commit a plain row, which nothing syncs, in a database at this path.
    ///
    /// # Errors
    /// It cannot be made, the system does not tell, or the process failed.
    pub(crate) async fn commit_cost(&mut self, path: &Path) -> Result<f64, BenchError> {
        Ok(self.ask(&format!("commits {}", path.display())).await?.as_f64().unwrap_or_default())
    }

    /// How many messages it has read, or requests it has answered.
    ///
    /// # Errors
    /// The node or the process failed.
    pub(crate) async fn taken(&mut self) -> Result<u64, BenchError> {
        Ok(self.ask("taken").await?.as_u64().unwrap_or_default())
    }

    /// Sends one small message.
    ///
    /// # Errors
    /// The node or the process failed.
    pub(crate) async fn send(&mut self) -> Result<(), BenchError> {
        self.ask("send").await.map(|_| ())
    }

    /// Makes a database of plain rows at this path, instead of a node.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) async fn rows(&mut self, path: &Path) -> Result<(), BenchError> {
        self.ask(&format!("rows {}", path.display())).await.map(|_| ())
    }

    /// Commits a plain row with what a small message holds.
    ///
    /// # Errors
    /// The database or the process failed.
    pub(crate) async fn row(&mut self) -> Result<(), BenchError> {
        self.ask("row").await.map(|_| ())
    }

    /// Stops the node and ends the process.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) async fn end(mut self) -> Result<(), BenchError> {
        self.ask("stop").await?;
        drop(self.orders);
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(ended) => ended.map(|_| ()).map_err(|error| failed("the end of a node", &error)),
            Err(_) => Err(stalled("the end of a node's process")),
        }
    }

    /// The process itself.
    pub(crate) fn process(&self) -> Process {
        Process { id: self.child.id().expect("it was not waited for") }
    }

    async fn ask(&mut self, order: &str) -> Result<Value, BenchError> {
        self.order(order).await?;
        self.answer(order.split(' ').next().unwrap_or_default()).await
    }

    async fn order(&mut self, order: &str) -> Result<(), BenchError> {
        let line = format!("{order}\n");
        let written = self.orders.write_all(line.as_bytes()).await;
        written.map_err(|error| failed("an order to a node's process", &error))
    }

    async fn answer(&mut self, what: &str) -> Result<Value, BenchError> {
        let what = if what.starts_with('{') { "its settings" } else { what };
        let line = tokio::time::timeout(4 * PATIENCE, self.answers.next_line()).await;
        let line = line.map_err(|_| stalled(what))?.map_err(|error| failed(what, &error))?;
        let line = line.ok_or_else(|| failed(what, &"it ended"))?;
        let mut answer: Value =
            serde_json::from_str(&line).map_err(|error| failed(what, &error))?;
        match answer["error"].as_str() {
            Some(error) if answer["full"] == true => {
                Err(BenchError::Full { path: error.to_owned().into() })
            }
            Some(error) => Err(failed(what, &error)),
            None => Ok(answer["ok"].take()),
        }
    }
}

fn failed(what: &str, reason: &dyn std::fmt::Display) -> BenchError {
    BenchError::Part { what: what.to_owned(), reason: reason.to_string() }
}

/// The other process: does what it is told by lines on its standard input, and answers each on its standard output. Ends with its
/// standard input. The first line is the node's settings.
pub async fn serve() {
    let (mut orders, mut role) = (orders(), Role::default());
    while let Some(order) = orders.recv().await {
        let line = format!("{}\n", answer(role.obey(&order).await));
        if streams::write(line.as_bytes()).is_err() {
            // Whoever measures is gone.
            break;
        }
    }
    if let Some((node, _)) = role.node {
        node.shutdown().await;
    }
}

/// What the other process is: a node that sends or reads, or what one is measured beside.
#[derive(Default)]
struct Role {
    settings: Option<Config>,
    node: Option<(Node, waypost::Channel)>,
    rows: Option<Rows>,
    /// Messages that were read, or requests that were answered.
    taken: Arc<AtomicU64>,
}

impl Role {
    async fn obey(&mut self, order: &str) -> Result<Value, BenchError> {
        let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
        match (word, &self.node) {
            (text, None) if text.starts_with('{') => {
                self.settings = serde_json::from_str(order).ok();
                Ok(json!(self.settings.is_some()))
            }
            ("start" | "read", None) => {
                let settings = self.settings()?;
                self.node = Some(match word {
                    "read" => read(settings, self.count()).await?,
                    _ => start(settings).await?,
                });
                Ok(json!(true))
            }
            ("answer", None) => {
                let server = Server::new(self.settings()?);
                // As long as this process.
                request::answer(&server, rest, self.count()).await?.detach_all();
                Ok(json!(true))
            }
            ("taken", _) => Ok(json!(self.taken.load(Ordering::Relaxed))),
            ("rows", None) => {
                let made = Rows::make(Path::new(rest));
                self.rows = Some(made.map_err(|error| failed("plain rows", &error))?);
                Ok(json!(true))
            }
            ("row", None) => {
                let rows = self.rows.as_ref().ok_or_else(|| unknown(word))?;
                rows.add(&small()).map_err(|error| failed("a plain row", &error))?;
                Ok(json!(true))
            }
            ("commits", None) => commits(Path::new(rest)).map(|cost| json!(cost)),
            ("send", Some((_, out))) => Ok(out.send(small()).await.map(|_| json!(true))?),
            ("readers", Some((node, _))) => Ok(json!(node.subscribers(CHANNEL).await?.len())),
            ("fill", Some((_, out))) => {
                let count = rest.parse().unwrap_or_default();
                crowd::fill(out, &Payloads::new().into(), count).await?;
                Ok(json!(count))
            }
            ("stop", node) => {
                if let Some((node, _)) = node {
                    node.shutdown().await;
                }
                Ok(json!(true))
            }
            _ => Err(unknown(word)),
        }
    }

    fn settings(&mut self) -> Result<Config, BenchError> {
        self.settings.take().ok_or_else(|| failed("start", &"no settings came"))
    }

    /// Counts what was taken.
    fn count(&self) -> impl Fn() + Send + Sync + 'static {
        let taken = Arc::clone(&self.taken);
        move || {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn unknown(order: &str) -> BenchError {
    failed(order, &"there is no such order now")
}

/// Microseconds of processor time that a commit takes which nothing syncs.
fn commits(path: &Path) -> Result<f64, BenchError> {
    let fail = |error: &dyn std::fmt::Display| failed("plain rows", error);
    let rows = Rows::unsynced(path).map_err(|error| fail(&error))?;
    let own = Process { id: std::process::id() };
    let before = own.processor_time().map_err(|why| fail(&why))?;
    for _ in 0..COMMITS {
        rows.add(&small()).map_err(|error| fail(&error))?;
    }
    let used = own.processor_time().map_err(|why| fail(&why))?.saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / f64::from(COMMITS))
}

async fn start(settings: Config) -> Result<(Node, waypost::Channel), BenchError> {
    let node = Node::builder().config(settings).start().await?;
    let out = node.join(CHANNEL, Mode::Writer).await?;
    Ok((node, out))
}

async fn read(
    settings: Config,
    count: impl Fn() + Send + Sync + 'static,
) -> Result<(Node, waypost::Channel), BenchError> {
    let node = Node::builder().config(settings).start().await?;
    let incoming = node.join(CHANNEL, Mode::Reader).await?;
    let handler = move |_: &waypost::Message| {
        count();
        Ok(())
    };
    incoming.on_message_inline(handler).await?;
    Ok((node, incoming))
}

/// What a reading of a sensor holds, which no compression makes smaller.
fn small() -> Bytes {
    let mut bytes = [0; SMALL_BYTES];
    fastrand::fill(&mut bytes);
    Bytes::copy_from_slice(&bytes)
}

fn answer(result: Result<Value, BenchError>) -> Value {
    match result {
        Ok(value) => json!({"ok": value}),
        Err(BenchError::Full { path }) => json!({"error": path, "full": true}),
        Err(error) => {
            let source = std::error::Error::source(&error);
            let why = source.map(|source| format!(": {source}")).unwrap_or_default();
            json!({"error": format!("{error}{why}")})
        }
    }
}

/// A thread, because reading standard input cannot be cancelled.
fn orders() -> tokio::sync::mpsc::Receiver<String> {
    let (sender, orders) = tokio::sync::mpsc::channel(4);
    std::thread::spawn(move || {
        for line in std::io::BufReader::new(streams::Input).lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    orders
}
