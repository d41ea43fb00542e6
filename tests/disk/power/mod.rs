//! What the tests of power cuts and of failing disks share: a sender and a receiver that do a bit of everything, with a mark in the
//! disk's log for each thing that they were told.
#![allow(unreachable_pub)]

pub mod expect;
pub mod faults;
pub mod wear;
pub mod workload;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use waypost::error::ChannelError;
use waypost::{Builder, Channel, Config, Message, MessageId, Mode, Node, Priority};
use waypost_faultfs::Disk;

/// Handled with a plain `Ok`.
pub const PLAIN: &str = "plain";
/// The same, in the high lane, as marks name it.
pub const URGENT: &str = "plain.high";
/// Each message's effect is a row in the receiver's file, written in the message's own transaction.
pub const EXACT: &str = "exact";
/// Always refused: becomes a dead letter.
pub const POISON: &str = "poison";
/// Nobody handles it: waits until it is purged.
pub const SLOW: &str = "slow";

/// A node that has not recovered by then does not recover any more.
pub const PATIENCE: Duration = Duration::from_secs(60);

const ORDERS: &str = "CREATE TABLE IF NOT EXISTS orders (n INTEGER PRIMARY KEY, id TEXT NOT NULL)";
const EFFECTS: &str =
    "CREATE TABLE IF NOT EXISTS effects (at INTEGER PRIMARY KEY, id TEXT NOT NULL)";

/// A builder for nodes that see only those with the same prefix, clean up often and retry soon.
pub fn quick(url: &str, prefix: &str, folder: &Path, id: &str) -> Builder {
    let mut config = Config::default();
    config.cleanup_interval = Duration::from_millis(100);
    Node::builder()
        .config(config)
        .id(id)
        .nats([url])
        .prefix(prefix)
        .storage(folder.join("{id}.db"))
        .keepalive_interval(Duration::from_millis(500))
        .offline_after(Duration::from_secs(5))
        .ack_timeout(Duration::from_secs(1))
        .retry_delay(Duration::from_millis(20))
        .max_retry_delay(Duration::from_millis(100))
        .max_attempts(std::num::NonZeroU32::new(2).expect("two"))
        .shutdown_timeout(Duration::from_secs(5))
}

/// What a receiver's handlers were given, in that order.
#[derive(Debug, Clone, Default)]
pub struct Handled(Arc<Mutex<Vec<(String, Priority, MessageId)>>>);

impl Handled {
    fn add(&self, message: &Message) {
        let one = (message.channel().to_string(), message.priority(), message.id());
        self.0.lock().expect("not poisoned").push(one);
    }

    /// All of it.
    pub fn all(&self) -> Vec<(String, Priority, MessageId)> {
        self.0.lock().expect("not poisoned").clone()
    }
}

/// The receiver's side: joins all channels and handles what comes. Marks what a power cut must not take back.
pub async fn receive(bob: &Node, handled: &Handled, disk: Option<&Disk>) {
    bob.transaction(|tx| tx.execute(EFFECTS, [])).await.expect("a table");
    let (seen, marks) = (handled.clone(), disk.cloned());
    join(bob, PLAIN, Mode::Reader)
        .await
        .on_message(move |message| {
            seen.add(&message);
            if let Some(disk) = &marks {
                disk.mark(format!("handled {PLAIN} {}", message.id()));
            }
            std::future::ready(Ok(()))
        })
        .await
        .expect("attached");
    let (seen, disk) = (handled.clone(), disk.cloned());
    join(bob, EXACT, Mode::Reader)
        .await
        .on_message(move |mut message| {
            let (seen, disk) = (seen.clone(), disk.clone());
            async move {
                seen.add(&message);
                let id = message.id().to_string();
                if let Some(disk) = &disk {
                    disk.mark(format!("handled {EXACT} {id}"));
                }
                let row = id.clone();
                message
                    .ack_in(move |tx| tx.execute("INSERT INTO effects (id) VALUES (?1)", [row]))
                    .await?;
                if let Some(disk) = disk {
                    disk.mark(format!("effect {EXACT} {id}"));
                }
                Ok(())
            }
        })
        .await
        .expect("attached");
    join(bob, POISON, Mode::Reader)
        .await
        .on_message(async |_| Err("it tastes odd".into()))
        .await
        .expect("attached");
    join(bob, SLOW, Mode::Reader).await;
}

/// Joins a channel, however often the disk fails meanwhile.
pub async fn join(node: &Node, channel: &str, mode: Mode) -> Channel {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        match node.join(channel, mode).await {
            Ok(channel) => return channel,
            Err(ChannelError::Storage(error))
                if error.is_transient() && tokio::time::Instant::now() < end =>
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("not joined: {error:?}"),
        }
    }
}

/// The sender's table.
pub async fn create_orders(alice: &Node) {
    alice.transaction(|tx| tx.execute(ORDERS, [])).await.expect("a table");
}

/// One order: a row of the sender's own and a message, together or not at all.
pub async fn order(
    alice: &Node,
    exact: &Channel,
    n: u32,
) -> Result<MessageId, waypost::error::TransactionError<Box<dyn std::error::Error + Send + Sync>>> {
    let exact = exact.clone();
    alice
        .transaction(move |tx| {
            let id = exact.send_in(tx, n.to_string())?;
            tx.execute("INSERT INTO orders VALUES (?1, ?2)", (n, id.to_string()))?;
            Ok(id)
        })
        .await
}
