//! One node of the run, in a process of its own: the sender, or a reader.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use waypost::rusqlite::OptionalExtension as _;
use waypost::{Channel, Config, HandlerResult, Message, Mode, Node, NodeId, Priority};

use crate::plan::{Plan, READERS, SENDER};
use crate::told::{Order, Told, lane_name};
use crate::traffic::{self, CHANNEL, REPORT_EVERY, REPORTS};

#[derive(clap::Args)]
pub(crate) struct NodeArgs {
    /// The node's name
    #[arg(long)]
    id: String,
    #[arg(long)]
    nats: String,
    /// The folder for its file
    #[arg(long)]
    dir: PathBuf,
    /// Length of the run, from which the plan follows
    #[arg(long)]
    length_ms: u64,
    #[arg(long)]
    rate: u32,
}

const TELL_INTERVAL: Duration = Duration::from_secs(2);
const SEND_INTERVAL: Duration = Duration::from_millis(10);
/// Most messages that a sender commits together, where it has to make up for a delay.
const MOST_AT_ONCE: u64 = 200;
/// An outage's messages many times over: `queue_limit` is not what is tried here.
const QUEUE_LIMIT: NonZeroUsize = NonZeroUsize::new(10_000_000).expect("a constant above zero");

const EFFECTS_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS effects (lane TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT";
const EFFECT: &str =
    "INSERT INTO effects VALUES ('high', 1) ON CONFLICT DO UPDATE SET count = count + 1";
const EFFECTS: &str = "SELECT count FROM effects";

/// What the handlers and the one who tells share.
type Shared = Arc<Mutex<Told>>;

fn lock(told: &Shared) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) async fn run(args: NodeArgs) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let first = orders.next_line().await?.context("no first line")?;
    let told: Shared = Arc::new(Mutex::new(serde_json::from_str(&first)?));
    let plan = Plan::new(Duration::from_millis(args.length_ms), args.rate)?;
    let node = Node::builder().config(config(&args, &plan)?).start().await?;
    node.transaction(|tx| tx.execute(EFFECTS_TABLE, [])).await?;
    let result = if args.id == SENDER {
        be_sender(&node, &plan, &told, &mut orders).await
    } else {
        be_reader(&node, &told, &mut orders).await
    };
    let accounts = tell(&node, &told).await;
    let effects = node
        .transaction(|tx| tx.query_row(EFFECTS, [], |row| row.get(0)).optional())
        .await?
        .unwrap_or(0);
    node.shutdown().await;
    // Handlers may have run to the last moment.
    lock(&told).effects = effects;
    println!("{}", serde_json::to_string(&*lock(&told))?);
    result.and(accounts)
}

fn config(args: &NodeArgs, plan: &Plan) -> anyhow::Result<Config> {
    let mut config = Config::default();
    config.id = Some(NodeId::new(&args.id)?);
    config.nats = vec![args.nats.clone()];
    config.storage = Some(args.dir.join("{id}.db"));
    config.queue_limit = QUEUE_LIMIT;
    config.message_ttl = None;
    config.retention = plan.retention();
    config.cleanup_interval = plan.cleanup_interval();
    Ok(config)
}

/// Writes a line about everything.
async fn tell(node: &Node, told: &Shared) -> anyhow::Result<()> {
    let accounts = node.statistics().await?.accounts;
    let mut told = lock(told);
    told.accounts = accounts;
    println!("{}", serde_json::to_string(&*told)?);
    Ok(())
}

async fn be_sender(
    node: &Node,
    plan: &Plan,
    told: &Shared,
    orders: &mut Lines<BufReader<Stdin>>,
) -> anyhow::Result<()> {
    let reports = node.join(REPORTS, Mode::Reader).await?;
    let mine = Arc::clone(told);
    reports
        .on_message(move |message| {
            let told = Arc::clone(&mine);
            async move {
                let number = traffic::number(message.payload());
                let mut told = lock(&told);
                let sequence = told.received.entry(message.sender().to_string()).or_default();
                sequence.see(number, |_| false);
                Ok(())
            }
        })
        .await?;
    let channel = node.join(CHANNEL, Mode::Writer).await?;
    let sending = tokio::spawn(send(node.clone(), channel, *plan, Arc::clone(told)));
    let stop = sending.abort_handle();
    let mut ticks = tokio::time::interval(TELL_INTERVAL);
    let listening = async {
        loop {
            tokio::select! {
                line = orders.next_line() => match line? {
                    None => return Ok(()),
                    Some(line) if serde_json::from_str::<Order>(&line)? == Order::StopSending => {
                        lock(told).quiet = true;
                    }
                    Some(line) => anyhow::bail!("no order for a sender: {line}"),
                },
                _ = ticks.tick() => tell(node, told).await?,
            }
        }
    };
    // It ends by itself when it is to be quiet, and then there is still to be told and listened.
    let failed = async {
        match sending.await {
            Ok(Ok(())) => std::future::pending().await,
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        }
    };
    let result = tokio::select! {
        result = listening => result,
        error = failed => Err(error),
    };
    stop.abort();
    result
}

/// Sends at the rate until it is to be quiet, and makes up for delays.
async fn send(node: Node, channel: Channel, plan: Plan, told: Shared) -> anyhow::Result<()> {
    let mut events = node.events();
    while node.subscribers(CHANNEL).await?.len() < READERS.len() {
        events.next().await.context("the node ended")?;
    }
    let started = Instant::now();
    let mut ticks = tokio::time::interval(SEND_INTERVAL);
    let mut index = lock(&told).sent_in_all();
    loop {
        ticks.tick().await;
        if lock(&told).quiet {
            return Ok(());
        }
        let due = (started.elapsed().as_secs_f64() * f64::from(plan.rate)) as u64;
        let end = due.min(index + MOST_AT_ONCE);
        let mut sent = lock(&told).sent.clone();
        let batch = (index..end)
            .map(|index| {
                let lane = traffic::lane(index);
                let n = sent.entry(lane_name(lane).to_owned()).or_default();
                *n += 1;
                traffic::message(*n, lane, plan.ttl())
            })
            .collect();
        channel.send_all(batch).await?;
        lock(&told).sent = sent;
        index = end.max(index);
    }
}

async fn be_reader(
    node: &Node,
    told: &Shared,
    orders: &mut Lines<BufReader<Stdin>>,
) -> anyhow::Result<()> {
    let reports = node.join(REPORTS, Mode::Writer).await?;
    let channel = node.join(CHANNEL, Mode::Reader).await?;
    let mine = Arc::clone(told);
    channel.on_message(move |message| take(message, reports.clone(), Arc::clone(&mine))).await?;
    let mut ticks = tokio::time::interval(TELL_INTERVAL);
    loop {
        tokio::select! {
            line = orders.next_line() => match line? {
                None => return Ok(()),
                Some(line) => match serde_json::from_str(&line)? {
                    Order::Pause => channel.pause().await?,
                    Order::Resume => channel.resume().await?,
                    Order::StopSending => anyhow::bail!("a reader does not send"),
                },
            },
            _ = ticks.tick() => tell(node, told).await?,
        }
    }
}

/// Takes a message: in the high lane with a row of our own, in the others by what the handler returns.
async fn take(mut message: Message, reports: Channel, told: Shared) -> HandlerResult {
    let number = traffic::number(message.payload());
    // Numbers that are reported never expire, so that the reports have no gaps.
    if let Some(n) = number.filter(|n| n % REPORT_EVERY == 0)
        && message.priority() == Priority::Normal
    {
        let n = n / REPORT_EVERY;
        let report = waypost::NewMessage::bytes(traffic::payload(n)).to(SENDER);
        // The node may be stopping: then the message comes again.
        reports.send(report).await?;
        lock(&told).sent.insert("reports".to_owned(), n);
    }
    if message.priority() == Priority::High {
        message.ack_in(|tx| tx.execute(EFFECT, [])).await?;
    }
    let key = lane_name(message.priority()).to_owned();
    let mut told = lock(&told);
    told.received.entry(key).or_default().see(number, traffic::may_expire);
    Ok(())
}
