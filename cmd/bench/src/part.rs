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

use crate::anchors::rows::Rows;
use crate::crowd::{self, CHANNEL};
use crate::error::BenchError;
use crate::payload::Payloads;
use crate::process::Process;
use crate::stage::Stage;
use crate::window::{PATIENCE, stalled};

/// Bytes of a small message: a reading with a name and a time.
const SMALL_BYTES: usize = 90;

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

    /// How many messages it has read.
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
    let mut orders = orders();
    let mut settings = None;
    let mut node: Option<(Node, waypost::Channel)> = None;
    let mut rows: Option<Rows> = None;
    let taken = Arc::new(AtomicU64::new(0));
    while let Some(order) = orders.recv().await {
        let (word, number) = order.split_once(' ').unwrap_or((&order, ""));
        let result = match (word, &node) {
            (text, None) if text.starts_with('{') => {
                settings = serde_json::from_str::<Config>(&order).ok();
                Ok(json!(settings.is_some()))
            }
            ("start" | "read", None) => {
                let started = match word {
                    "read" => read(settings.take(), Arc::clone(&taken)).await,
                    _ => start(settings.take()).await,
                };
                started.map(|started| {
                    node = Some(started);
                    json!(true)
                })
            }
            ("taken", Some(_)) => Ok(json!(taken.load(Ordering::Relaxed))),
            ("send", Some((_, out))) => {
                out.send(small()).await.map(|_| json!(true)).map_err(Into::into)
            }
            ("rows", None) => match Rows::make(Path::new(number)) {
                Ok(made) => {
                    rows = Some(made);
                    Ok(json!(true))
                }
                Err(error) => Err(failed("plain rows", &error)),
            },
            ("row", None) if rows.is_some() => {
                let added = rows.as_ref().map(|rows| rows.add(&small()));
                let added = added.unwrap_or(Ok(())).map(|()| json!(true));
                added.map_err(|error| failed("a plain row", &error))
            }
            ("readers", Some((node, _))) => {
                node.subscribers(CHANNEL).await.map(|nodes| json!(nodes.len())).map_err(Into::into)
            }
            ("fill", Some((_, out))) => {
                let count = number.parse().unwrap_or_default();
                crowd::fill(out, &Payloads::new().into(), count).await.map(|()| json!(count))
            }
            ("stop", None) => Ok(json!(true)),
            ("stop", Some((node, _))) => {
                node.shutdown().await;
                Ok(json!(true))
            }
            _ => Err(failed(word, &"there is no such order now")),
        };
        let line = format!("{}\n", answer(result));
        if streams::write(line.as_bytes()).is_err() {
            // Whoever measures is gone.
            break;
        }
    }
    if let Some((node, _)) = node {
        node.shutdown().await;
    }
}

async fn start(settings: Option<Config>) -> Result<(Node, waypost::Channel), BenchError> {
    let settings = settings.ok_or_else(|| failed("start", &"no settings came"))?;
    let node = Node::builder().config(settings).start().await?;
    let out = node.join(CHANNEL, Mode::Writer).await?;
    Ok((node, out))
}

async fn read(
    settings: Option<Config>,
    taken: Arc<AtomicU64>,
) -> Result<(Node, waypost::Channel), BenchError> {
    let settings = settings.ok_or_else(|| failed("start", &"no settings came"))?;
    let node = Node::builder().config(settings).start().await?;
    let incoming = node.join(CHANNEL, Mode::Reader).await?;
    let count = move |_: &waypost::Message| {
        taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    incoming.on_message_inline(count).await?;
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
