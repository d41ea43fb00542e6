//! Messages that arrive, in order, once, however long the network is away, with nothing to run but one SQLite file and any
//! plain NATS server.
//!
//! A message waits for 7 days by default ([`Config::message_ttl`]), or for as long as it says; a reader that was away for 7 days is
//! forgotten ([`Config::peer_expiry`]). What expires is told at the sender.
//!
//! # Promises
//!
//! - **P1 Durable before Ok.** [`Channel::send`] returns `Ok` after the message is committed to the sender's own file, by default with
//!   an fsync. Losing power after that loses nothing.
//! - **P2 Nothing vanishes.** Every message committed for a receiver ends in exactly one recorded way: acknowledged, expired,
//!   dead-lettered, purged or forgotten by an operator. For every receiver
//!   `accepted = pending + acknowledged + expired + dead + purged` holds at any moment, across restarts.
//! - **P3 In order.** A receiver's handler sees the messages of one sender (in one priority lane) in commit order, and never sees
//!   one before its predecessor is settled.
//! - **P4 One in flight.** At most one unacknowledged frame per receiver.
//! - **P5 Once.** A message whose acknowledgement was committed is never handed to a handler again, whatever is killed. A handler that
//!   writes through the message's own transaction ([`Message::ack_in`]) has exactly-once effects, power cuts included.
//! - **P6 Outages don't matter.** NATS away for days, either side away, `kill -9` of anything at any instant, a full disk, a
//!   clock that jumps: P1-P5 hold, and delivery resumes by itself.
//! - **P7 Bounded.** Memory does not grow with the backlog. Queues have limits, and what happens at the limit is chosen, visible and
//!   never silent.
//! - **P8 Strangers can't hurt it.** No bytes from the network crash a node, block a queue, acknowledge somebody else's message or make
//!   it allocate without bound.
//!
//! # A tour
//!
//! A [`Node`] has a name, a file and a NATS server. It joins [`Channel`]s, sends on them and handles what arrives:
//!
//! ```no_run
//! use std::time::Duration;
//! use waypost::{Mode, NewMessage, Node};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder()
//!     .id("alice")
//!     .nats(["nats://localhost:4222"])
//!     .storage("./waypost-{id}.db")
//!     .start()
//!     .await?;
//! let orders = node.join("orders", Mode::ReadWrite).await?;
//!
//! orders
//!     .on_message(|message| async move {
//!         println!("{} says {}", message.sender(), message.text()?);
//!         Ok(())
//!     })
//!     .await?;
//!
//! // Committed to disk when this returns, whether there is a network or not.
//! let id = orders.send("two crates of apples").await?;
//! orders
//!     .send(NewMessage::json(&["urgent"]).to("bob").ttl(Duration::from_secs(60)))
//!     .await?;
//!
//! let left = node.flush(Duration::from_secs(5)).await?;
//! println!("sent {id}; {} receivers have messages waiting", left.waiting.len());
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! ## The transactional outbox and inbox
//!
//! The node's file is an SQLite database, and a program can keep its own tables in it. [`Node::transaction`] writes rows and sends
//! messages in one commit; [`Message::ack_in`] writes rows and takes a message in one commit. With both, an effect happens exactly once on
//! either side, whatever is killed in between:
//!
//! ```no_run
//! use waypost::{Channel, Message, Mode, Node, error::SendError, rusqlite};
//!
//! #[derive(Debug)]
//! enum OrderError { Sql(rusqlite::Error), Send(SendError) }
//! # impl From<rusqlite::Error> for OrderError { fn from(e: rusqlite::Error) -> Self { Self::Sql(e) } }
//! # impl From<SendError> for OrderError { fn from(e: SendError) -> Self { Self::Send(e) } }
//!
//! # async fn run(node: Node, orders: Channel, payments: Channel) -> Result<(), Box<dyn std::error::Error>> {
//! // The row and the message are committed together, or neither is.
//! let sender = orders.clone();
//! node.transaction(move |tx| -> Result<(), OrderError> {
//!     tx.execute("INSERT INTO orders (item) VALUES (?1)", ["apples"])?;
//!     sender.send_in(tx, "order: apples")?;
//!     Ok(())
//! })
//! .await
//! .map_err(|error| format!("{error:?}"))?;
//!
//! // The row and the receipt are committed together, or neither is.
//! let mut messages = payments.messages().await?;
//! while let Some(mut message) = messages.next().await {
//!     let paid = message.text()?.to_owned();
//!     message
//!         .ack_in(move |tx| tx.execute("INSERT INTO paid (what) VALUES (?1)", [paid]))
//!         .await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ## What is where
//!
//! - [`Node`]: start, join, transactions, looking around, shutdown. [`Builder`] and [`Config`]: settings.
//! - [`Channel`]: sending and receiving. [`NewMessage`]: a message to be sent. [`Message`]: one that arrived.
//! - [`Event`]: what a node tells its monitors. [`Reason`]: why messages don't move, and what to do. [`management`]: peers, accounts, and asking nodes over the network.
//! - [`election`]: one of the nodes leads, the others know which, and its state outlives it.
//! - [`inspect`]: what a file holds, its node running or not. [`error`]: what can go wrong.
//!
//! ## Features
//!
//! - `metrics` (off by default): `Node::metrics`, what a node counts and measures as Prometheus text. `docs/metrics.md` explains each.
//!
//! A message's way is told as `tracing` spans with the target `waypost::message`, at the level debug, each with the message's id.
//!
//! How it works inside is told in `docs/architecture.md`.

pub mod config;
pub mod election;
pub mod error;
pub mod event;
pub mod management;
pub mod reason;

mod channel;
mod clock;
mod condition;
#[doc(hidden)]
pub mod core;
mod driver;
mod exposure;
mod fresh;
mod gate;
mod incoming;
mod message;
mod metering;
#[cfg(feature = "metrics")]
mod metrics;
mod node;
mod notation;
mod policy;
#[doc(hidden)]
pub mod protocol;
mod refusal;
mod shared;
mod spans;
mod store;
mod transport;

pub use channel::{Channel, Messages};
pub use condition::{Health, Link, LogCut, Outage, StorageUse};
pub use config::{
    Audit, Auth, Batching, Config, Durability, Election, ElectionTimes, Management, Overflow, Tls,
    WallClock,
};
pub use event::{Event, Limit, LimitNear, Status};
pub use incoming::{HandlerError, HandlerResult, Message};
pub use message::{
    CONTENT_TYPE, ChannelName, Headers, Incarnation, InvalidMessage, Kind, MAX_CHANNEL_BYTES,
    MAX_HEADER_BYTES, MAX_HEADERS, MAX_KIND_BYTES, MAX_NODE_ID_BYTES, MessageId, Mode, NameError,
    NewMessage, NodeId, Priority, StartAt, StoreId,
};
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use node::{Builder, ElectionEvents, Events, Node};
pub use reason::Reason;
pub use store::inspect;
pub use store::{DeadLetter, Tx};

/// The SQLite library that the node's file is written with, for use in transactions.
pub use rusqlite;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
