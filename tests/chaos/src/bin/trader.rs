//! A node with a business of its own. Sellers write what they sold and send it in one transaction; buyers take it and write what they bought in one
//! transaction. The tables have no unique keys but the sellers' own numbers: what comes twice is there twice.
//!
//! Its name, file and server come from WAYPOST_ID, WAYPOST_DB and WAYPOST_NATS. Ends on SIGTERM.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use waypost::error::{SendError, TransactionError};
use waypost::rusqlite::{self, params};
use waypost::{Channel, Config, Message, Mode, NewMessage, Node, StartAt};
use waypost_chaos::pace;

const CHANNEL: &str = "trade";
/// Sales under way at the same time; they share commits.
const COUNTERS: usize = 24;
/// Sellers wait for buyers beyond this, so that a calm is short.
const QUEUE_LIMIT: u32 = 2_000;
/// While a queue or the disk is full.
const PAUSE: Duration = Duration::from_millis(30);
/// One sale in so many is called off after it was written, and one purchase in so many fails in each of the ways that there are.
const CALLED_OFF: u32 = 40;
const FAILS: u32 = 60;

const SOLD: &str = "CREATE TABLE IF NOT EXISTS sold (
    n INTEGER PRIMARY KEY, item TEXT NOT NULL, amount INTEGER NOT NULL, buyer TEXT) STRICT";
const BOUGHT: &str = "CREATE TABLE IF NOT EXISTS bought (
    place INTEGER PRIMARY KEY, seller TEXT NOT NULL, n INTEGER NOT NULL, item TEXT NOT NULL, amount INTEGER NOT NULL, buyer TEXT) STRICT";
const NEXT: &str = "SELECT coalesce(max(n), 0) + 1 FROM sold";
const SELL: &str = "INSERT INTO sold (n, item, amount, buyer) VALUES (?1, ?2, ?3, ?4)";
const BUY: &str = "INSERT INTO bought (seller, n, item, amount, buyer) VALUES (?1, ?2, ?3, ?4, ?5)";

#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    trade: Trade,
}

#[derive(Subcommand)]
enum Trade {
    /// Sells to these, until it is ended; prints the number of each sale after its commit
    Sell {
        /// Those who buy
        buyers: Vec<String>,
        /// Only deliver what was sold before
        #[arg(long)]
        closed: bool,
    },
    /// Buys all that is sold to it
    Buy,
}

/// What was sold, to one buyer or to all.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sale {
    n: i64,
    item: String,
    amount: i64,
    buyer: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum SaleError {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("called off")]
    CalledOff,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse().trade).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trader: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(trade: Trade) -> anyhow::Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    let node =
        Node::builder().config(config()?).start().await.context("the node does not start")?;
    let work = async {
        match trade {
            Trade::Buy => buy(&node).await,
            Trade::Sell { buyers, closed } => sell(&node, buyers, closed).await,
        }
    };
    let result = tokio::select! {
        result = work => result,
        _ = end.recv() => Ok(()),
    };
    node.shutdown().await;
    result
}

fn config() -> anyhow::Result<Config> {
    let mut settings = serde_json::to_value(Config::default())?;
    for (name, value) in pace::SETTINGS {
        settings[name] = value.into();
    }
    for (name, variable) in [("id", "WAYPOST_ID"), ("storage", "WAYPOST_DB")] {
        settings[name] = std::env::var(variable).with_context(|| variable.to_owned())?.into();
    }
    settings["nats"] = vec![std::env::var("WAYPOST_NATS").context("WAYPOST_NATS")?].into();
    settings["message_ttl"] = "none".into();
    settings["queue_limit"] = QUEUE_LIMIT.into();
    settings["shutdown_timeout"] = "1s".into();
    serde_json::from_value(settings).context("the settings are wrong")
}

async fn sell(node: &Node, buyers: Vec<String>, closed: bool) -> anyhow::Result<()> {
    node.transaction(|tx| tx.execute_batch(SOLD)).await?;
    let channel = node.join(CHANNEL, Mode::Writer).await?;
    let mut counters = JoinSet::new();
    if !closed {
        for _ in 0..COUNTERS {
            counters.spawn(counter(node.clone(), channel.clone(), buyers.clone()));
        }
    }
    while let Some(ended) = counters.join_next().await {
        ended.context("a counter does not panic")??;
    }
    std::future::pending().await
}

async fn counter(node: Node, channel: Channel, buyers: Vec<String>) -> anyhow::Result<()> {
    loop {
        let (channel, call_off) = (channel.clone(), fastrand::u32(..CALLED_OFF) == 0);
        // One sale in four is for everybody.
        let buyer = buyers.get(fastrand::usize(..buyers.len() + buyers.len().div_ceil(3))).cloned();
        let sold = node.transaction(move |tx| {
            let n = tx.query_row(NEXT, [], |row| row.get(0))?;
            let sale = Sale { n, item: format!("crate {n}"), amount: n * 7 % 1_000 + 1, buyer };
            tx.execute(SELL, params![sale.n, sale.item, sale.amount, sale.buyer])?;
            let mut message = NewMessage::json(&sale);
            if let Some(buyer) = &sale.buyer {
                message = message.to(buyer);
            }
            channel.send_in(tx, message)?;
            if call_off { Err(SaleError::CalledOff) } else { Ok(n) }
        });
        match sold.await {
            Ok(n) => (&std::io::stdout()).write_all(format!("{n}\n").as_bytes())?,
            Err(TransactionError::User(SaleError::CalledOff)) => {}
            Err(TransactionError::User(SaleError::Send(error))) if error.is_transient() => {
                tokio::time::sleep(PAUSE).await
            }
            Err(TransactionError::Storage(error)) if error.is_transient() => {
                tokio::time::sleep(PAUSE).await
            }
            // A full disk shows itself in the statement that it stopped.
            Err(TransactionError::User(SaleError::Sql(error))) if is_full(&error) => {
                tokio::time::sleep(PAUSE).await
            }
            Err(error) => return Err(error).context("a sale failed"),
        }
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

async fn buy(node: &Node) -> anyhow::Result<()> {
    node.transaction(|tx| tx.execute_batch(BOUGHT)).await?;
    let channel = node.join_from(CHANNEL, Mode::Reader, StartAt::All).await?;
    channel.on_message(purchase).await?;
    std::future::pending().await
}

/// Takes a message and writes what it says, or fails on purpose: before anything, after the row was written, by a panic there, or after all
/// is committed.
async fn purchase(mut message: Message) -> waypost::HandlerResult {
    let way = fastrand::u32(..FAILS);
    if way == 0 {
        return Err("it failed before it wrote anything".into());
    }
    let sale: Sale = message.json()?;
    let seller = message.sender().to_string();
    let taken = message.ack_in(move |tx| {
        tx.execute(BUY, params![seller, sale.n, sale.item, sale.amount, sale.buyer])?;
        match way {
            1 => Err(rusqlite::Error::InvalidQuery),
            2 if sale.n % 5 == 0 => panic!("on purpose"),
            _ => Ok(()),
        }
    });
    taken.await?;
    if way == 3 { Err("it failed after it had taken the message".into()) } else { Ok(()) }
}
