//! What the tests of bit rot share: a sender with messages for a receiver that is away, and where they lie in its file.
#![allow(unreachable_pub)]

pub mod fate;
pub mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use waypost::{Builder, Event, Message, MessageId, Mode, NewMessage, Node};

use crate::nodes::{begin, builder_at, reader_is_known};
use crate::power::join;
use crate::support::nats_server::NatsServer;

/// The channel of the messages that rot. It is not the first one, so that its number takes a byte in each row.
pub const CHANNEL: &str = "work";
pub const OTHER: &str = "other";
pub const READER: &str = "bob";
const KIND: &str = "rotten";
const HEADER: &str = "number";
const TTL: Duration = Duration::from_secs(86_400);
/// No message is on its way for longer.
const TTL_LEFT: Range<Duration> = Duration::from_secs(80_000)..Duration::from_secs(86_401);

/// A sender's and a receiver's files, both stopped; or the sender still running.
pub struct Stock {
    pub folder: TempDir,
    pub sent: Vec<(MessageId, String)>,
}

/// A builder of nodes that see only those with the same prefix.
pub fn builder(url: &str, prefix: &str, folder: &Path, id: &str) -> Builder {
    builder_at(url, folder, id).prefix(prefix)
}

impl Stock {
    /// Both know each other, and the receiver went away.
    pub async fn begin(server: &NatsServer, prefix: &str, folder: TempDir) -> (Self, Node) {
        let bob = begin(builder(&server.url(), prefix, folder.path(), READER)).await;
        let alice = begin(builder(&server.url(), prefix, folder.path(), "alice")).await;
        for channel in [OTHER, CHANNEL] {
            join(&bob, channel, Mode::Reader).await;
            join(&alice, channel, Mode::Writer).await;
            reader_is_known(&alice, channel, READER).await;
        }
        bob.shutdown().await;
        (Self { folder, sent: Vec::new() }, alice)
    }

    /// Two files at rest, with so many messages that wait.
    pub async fn at_rest(server: &NatsServer, prefix: &str, count: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut stock, alice) = Self::begin(server, prefix, folder).await;
        stock.send(&alice, count).await;
        alice.shutdown().await;
        assert!(!stock.path("alice.db-wal").exists());
        stock
    }

    /// One for the other channel, and so many that are alike in length, as one transaction.
    pub async fn send(&mut self, alice: &Node, count: usize) {
        let other = join(alice, OTHER, Mode::Writer).await;
        let id = other.send("of another channel").await.expect("sent");
        self.sent.push((id, "of another channel".to_owned()));
        let channel = join(alice, CHANNEL, Mode::Writer).await;
        let mut dice = fastrand::Rng::with_seed(count as u64);
        let texts: Vec<String> = (0..count)
            .map(|n| {
                let noise = std::iter::repeat_with(|| dice.alphanumeric());
                format!("{n:05} {}", noise.take(24).collect::<String>())
            })
            .collect();
        let batch = texts.iter().enumerate().map(|(n, text)| {
            NewMessage::text(text).kind(KIND).header(HEADER, format!("{n:05}")).ttl(TTL)
        });
        let ids = channel.send_all(batch.collect::<Vec<_>>()).await.expect("sent");
        self.sent.extend(ids.into_iter().zip(texts));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of both files.
    pub fn copied(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["alice.db", "bob.db"] {
            std::fs::copy(self.path(name), folder.path().join(name)).expect("copied");
        }
        Self { folder, sent: self.sent.clone() }
    }
}

/// What arrived, in that order.
#[derive(Debug, Clone, Default)]
pub struct Arrived(Arc<Mutex<Vec<One>>>);

#[derive(Debug, Clone)]
struct One {
    channel: &'static str,
    id: MessageId,
    text: String,
    /// All but the text is as it was sent.
    fits: bool,
}

impl Arrived {
    /// Takes all that comes.
    pub async fn at(bob: &Node) -> Self {
        let arrived = Self::default();
        for channel in [OTHER, CHANNEL] {
            let seen = arrived.clone();
            join(bob, channel, Mode::Reader)
                .await
                .on_message(move |message| {
                    seen.add(channel, &message);
                    std::future::ready(Ok(()))
                })
                .await
                .expect("attached");
        }
        arrived
    }

    fn add(&self, channel: &'static str, message: &Message) {
        let text = message.text().unwrap_or("no text").to_owned();
        let id = message.id();
        let age = message.created().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let fits = age.as_millis() == u128::from(id.timestamp_ms())
            && (channel == OTHER
                || message.kind().as_str() == KIND
                    && message.header(HEADER) == text.get(..5)
                    && message.ttl_left().is_some_and(|left| TTL_LEFT.contains(&left)));
        self.0.lock().expect("not poisoned").push(One { channel, id, text, fits });
    }

    pub fn ids(&self) -> BTreeSet<MessageId> {
        self.0.lock().expect("not poisoned").iter().map(|one| one.id).collect()
    }

    /// What arrived otherwise than it was sent, twice, or before an earlier one.
    pub fn wrong(&self, sent: &[(MessageId, String)]) -> Vec<String> {
        let sent: BTreeMap<MessageId, &String> =
            sent.iter().map(|(id, text)| (*id, text)).collect();
        let mut last: BTreeMap<&str, MessageId> = BTreeMap::new();
        let mut wrong = Vec::new();
        for One { channel, id, text, fits } in self.0.lock().expect("not poisoned").iter() {
            if sent.get(id) != Some(&text) || !fits {
                wrong.push(format!("{id} arrived as {text:?}, and was sent as {:?}", sent.get(id)));
            }
            if let Some(last) = last.insert(channel, *id).filter(|last| last >= id) {
                wrong.push(format!("{id} arrived after {last}"));
            }
        }
        wrong
    }
}

/// What a node told of its messages and its file.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    /// Notes all events from now on.
    pub fn by(node: &Node) -> Self {
        let told = Self::default();
        let (seen, mut events) = (told.clone(), node.events());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                seen.0.lock().expect("not poisoned").push(event);
            }
        });
        told
    }

    pub fn dead(&self) -> BTreeSet<MessageId> {
        let events = self.0.lock().expect("not poisoned");
        let dead = events.iter().filter_map(|event| match event {
            Event::DeadLettered { id, reason, .. } if reason.contains("damaged") => Some(*id),
            _ => None,
        });
        dead.collect()
    }

    pub fn file_failed(&self) -> bool {
        let events = self.0.lock().expect("not poisoned");
        events.iter().any(|event| matches!(event, Event::StorageFailed { .. }))
    }
}
