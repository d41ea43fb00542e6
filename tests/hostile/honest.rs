//! One of the honest pair: a node alone in its process, that does what its parent tells it and reports.

use std::io::BufRead;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use waypost::error::SendError;
use waypost::{Channel, Mode, Node};

use crate::nodes::SOON;
use crate::nodes::child::{self, Child, peak_kb, setting, write};

/// What a process is started as.
const ROLE: &str = "honest";
/// Most messages that alice has waiting while she sends as fast as she can.
const WAITING: usize = 500;
/// She sends so many at once then.
const BATCH: u64 = 25;

/// The process, as its parent sees it. It answers each order with a line of JSON.
pub struct Honest(Mutex<Asked>);

struct Asked {
    child: Child,
    lines: usize,
}

impl Honest {
    /// Starts the node of this name: `alice` sends on the channel `work`, `bob` receives.
    pub fn start(url: &str, folder: impl AsRef<Path>, id: &str) -> Self {
        Self(Mutex::new(Asked { child: Child::start(ROLE, url, folder, id), lines: 0 }))
    }

    /// Gives this order, and waits for the answer.
    pub async fn ask(&self, order: &str) -> Value {
        let mut asked = self.0.lock().await;
        asked.child.tell(order);
        asked.lines += 1;
        asked.child.wrote(asked.lines).await;
        let line = asked.child.lines().swap_remove(asked.lines - 1);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// What it reports of itself.
    pub async fn report(&self) -> Value {
        self.ask("report").await
    }

    /// One of its counters.
    pub async fn counter(&self, name: &str) -> u64 {
        number(&self.report().await["statistics"]["counters"][name])
    }

    /// Waits until its report is like that.
    pub async fn is(&self, what: &str, like: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + SOON;
        loop {
            let report = self.report().await;
            if like(&report) {
                return;
            }
            assert!(Instant::now() < deadline, "not within {SOON:?}: {what}; {report:#}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A number of a report.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// What happened in this process.
#[derive(Default)]
struct Log {
    panics: AtomicU64,
    /// Messages sent: they hold the numbers below this one.
    sent: AtomicU64,
    /// Messages received as they should be: the one with this number comes next.
    received: AtomicU64,
    /// Messages that came out of turn.
    wrong: AtomicU64,
    /// Alice sends as fast as she can.
    flows: AtomicBool,
    /// Held while she does.
    turn: Mutex<()>,
}

/// Does what this process was started for, where [`Honest::start`] did it. `false`: it was started for something else.
pub fn run(role: &str) -> bool {
    if role != ROLE {
        return false;
    }
    let log = Arc::new(Log::default());
    let (counted, before) = (log.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        counted.panics.fetch_add(1, SeqCst);
        before(info);
    }));
    child::block_on(obey(log));
    true
}

async fn obey(log: Arc<Log>) {
    let most = NonZeroUsize::new(WAITING).expect("above zero");
    let builder = crate::nodes::builder_at(&setting("URL"), setting("FOLDER"), &setting("ID"))
        .queue_limit(most);
    let node = crate::nodes::begin(builder).await;
    let mode = if setting("ID") == "alice" { Mode::Writer } else { Mode::Reader };
    let work = node.join("work", mode).await.expect("joined");
    if mode == Mode::Reader {
        receive(&work, log.clone()).await;
    } else {
        tokio::spawn(flow(work.clone(), log.clone()));
    }
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        let (order, argument) = order.split_once(' ').unwrap_or((&order, ""));
        let answer = match order {
            "report" => report(&node, &log).await,
            "send" => send(&work, &log, argument.parse().expect("a number")).await,
            "flow" => json!(log.flows.swap(true, SeqCst)),
            "rest" => {
                let flowed = log.flows.swap(false, SeqCst);
                // What she was about to send is sent.
                drop(log.turn.lock().await);
                json!(flowed)
            }
            "pause" => json!(work.pause().await.is_ok()),
            "resume" => json!(work.resume().await.is_ok()),
            other => panic!("no order: {other}"),
        };
        write(&answer.to_string());
    }
}

/// The parent's lines; they end with the parent.
fn orders() -> mpsc::Receiver<String> {
    let (sender, orders) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    orders
}

async fn receive(work: &Channel, log: Arc<Log>) {
    let handler = move |message: waypost::Message| {
        let log = log.clone();
        async move {
            let number: u64 = message.text()?.parse()?;
            if log.received.compare_exchange(number, number + 1, SeqCst, SeqCst).is_err() {
                log.wrong.fetch_add(1, SeqCst);
            }
            Ok(())
        }
    };
    work.on_message(handler).await.expect("attached");
}

/// Sends so many; their ids.
async fn send(work: &Channel, log: &Log, count: u64) -> Value {
    let first = log.sent.load(SeqCst);
    let texts = (first..first + count).map(|n| n.to_string().into());
    let ids = work.send_all(texts.collect()).await.expect("sent");
    log.sent.store(first + count, SeqCst);
    ids.iter().map(ToString::to_string).collect()
}

async fn flow(work: Channel, log: Arc<Log>) {
    loop {
        let turn = log.turn.lock().await;
        let mut full = true;
        if log.flows.load(SeqCst) {
            let first = log.sent.load(SeqCst);
            let texts = (first..first + BATCH).map(|n| n.to_string().into());
            match work.send_all(texts.collect()).await {
                Ok(_) => {
                    log.sent.store(first + BATCH, SeqCst);
                    full = false;
                }
                Err(SendError::QueueFull { .. }) => {}
                Err(error) => panic!("not sent: {error}"),
            }
        }
        drop(turn);
        if full {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Processor time that this process has used, in hundredths of a second.
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("the program's name in brackets");
    let number = |field: &str| field.parse::<u64>().expect("a number");
    fields.split_whitespace().skip(11).take(2).map(number).sum()
}

async fn report(node: &Node, log: &Log) -> Value {
    json!({
        "incarnation": node.status().incarnation.to_string(),
        "connected": node.status().link.is_connected(),
        "peers": node.peers().await.expect("it runs"),
        "statistics": node.statistics().await.expect("it runs"),
        "panics": log.panics.load(SeqCst),
        "sent": log.sent.load(SeqCst),
        "received": log.received.load(SeqCst),
        "wrong": log.wrong.load(SeqCst),
        "peak_kb": peak_kb(),
        "processor_ticks": processor_ticks(),
    })
}
