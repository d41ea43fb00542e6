//! The node: start, join, transactions, looking around, shutdown.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::channel::Channel;
use crate::config::Config;
use crate::driver::Command;
use crate::event::{Event, Status};
use crate::management::{
    Account, ChannelInfo, Flushed, Lost, PeerInfo, Statistics, Topology, Waiting,
};
use crate::message::{ChannelName, MessageId, Mode, NodeId, StartAt};
#[cfg(feature = "metrics")]
use crate::metrics::Metrics;
use crate::reason::{self, Reason};
use crate::refusal::{ChannelError, NodeError};
use crate::shared::Shared;
use crate::store::{DeadLetter, StoreError, TransactionError, Tx};

mod builder;
mod election;
mod orders;
mod readiness;
mod start;

pub use builder::Builder;
pub use election::ElectionEvents;

/// A running node. Cheap to clone; all clones are the same node. When the last clone, channel and stream is dropped, the node is
/// cancelled: nothing is lost, but peers have to notice the silence. A handler that holds a clone or a channel of its own node keeps it running. [`shutdown`](Self::shutdown) is the polite way.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

impl Node {
    /// A builder with the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The node's name.
    pub fn id(&self) -> &NodeId {
        &self.shared.id
    }

    /// The node's settings.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The path of the node's file.
    pub fn storage(&self) -> PathBuf {
        self.shared.store.path().to_owned()
    }

    /// Joins a channel. Joining again gives the same channel; in another mode, the mode changes for new handles.
    ///
    /// When this returns, the join is in the file, and peers hear of it at once if there is a connection. A reader gets what was sent from now on; with
    /// [`join_from`](Self::join_from) also what was sent before.
    ///
    /// # Errors
    /// The name is not valid, the file refuses, or the node is shut down.
    pub async fn join(
        &self,
        channel: impl AsRef<str>,
        mode: Mode,
    ) -> Result<Channel, ChannelError> {
        self.join_from(channel, mode, StartAt::default()).await
    }

    /// Joins a channel, and says where to begin with senders that do not know this node as a reader yet.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn join_from(
        &self,
        channel: impl AsRef<str>,
        mode: Mode,
        start: StartAt,
    ) -> Result<Channel, ChannelError> {
        let channel = ChannelName::new(channel)?;
        let name = channel.clone();
        self.shared.line.ask(|reply| Command::Join { channel: name, mode, start, reply }).await??;
        Ok(Channel::new(self.shared.clone(), channel, mode))
    }

    /// Runs `write` in a transaction on the node's file. Rows of the program's own tables and messages sent with [`Channel::send_in`] are
    /// committed together, with an fsync by default, or not at all: the transactional outbox.
    ///
    /// `write` runs on the thread that does all the node's writing: keep it short, and do not wait for anything in it. It can read
    /// waypost's tables, not write them, and it cannot commit or roll back by itself. Cancelling leaves open whether it was committed, never half of it.
    ///
    /// # Errors
    /// [`TransactionError::User`] with what `write` returned, [`TransactionError::Panicked`], or what the file says. Nothing was written.
    pub async fn transaction<R, E, F>(&self, write: F) -> Result<R, TransactionError<E>>
    where
        F: FnOnce(&Tx<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
    {
        self.shared.store.transaction(write).await
    }

    /// The node's state in short. Costs nothing.
    pub fn status(&self) -> Status {
        let mut status = self.shared.status.borrow().clone();
        status.uptime = self.shared.started.elapsed();
        status.storage = self.shared.store.health();
        // The file's state is newer than the driver's last look.
        status.reasons.retain(|reason| !reason.is_about_the_file());
        status.reasons.extend(self.shared.store.reasons());
        if self.shared.line.has_ended() {
            status.reasons = vec![Reason::Ended {}];
        }
        reason::sort(&mut status.reasons);
        status
    }

    /// Why messages don't move, looked at anew, the most important first; empty where nothing is in the way. Cancelling is safe.
    ///
    /// # Errors
    /// The node is shut down.
    pub async fn reasons(&self) -> Result<Vec<Reason>, NodeError> {
        self.shared.line.ask(|reply| Command::Reasons { reply }).await
    }

    /// What the node counts and measures, as Prometheus text.
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> Metrics {
        Metrics::new(self.shared.clone())
    }

    /// Waits until the state is as asked for.
    ///
    /// # Errors
    /// The node is shut down.
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&Status) -> bool,
    ) -> Result<Status, NodeError> {
        let mut status = self.shared.status.clone();
        let found = status.wait_for(|status| condition(status)).await;
        found.map(|status| status.clone()).map_err(|_| NodeError::ShutDown)
    }

    /// What happens in the node from now on. A listener that is more than 1,024 events behind misses the oldest.
    pub fn events(&self) -> Events {
        Events { events: self.shared.events.resubscribe() }
    }

    /// The same, with what has happened since the node was started, as what expired while it did not run. Only the first call gets that.
    pub fn events_since_start(&self) -> Events {
        let first = self.shared.first_events.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map_or_else(|| self.events(), |events| Events { events })
    }

    /// The peers that this node knows, online or not.
    ///
    /// # Errors
    /// The node is shut down.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, NodeError> {
        self.topology().await.map(|topology| topology.peers)
    }

    /// The channels that this node has joined.
    ///
    /// # Errors
    /// The node is shut down.
    pub async fn channels(&self) -> Result<Vec<ChannelInfo>, NodeError> {
        self.topology().await.map(|topology| topology.channels)
    }

    /// This node, its peers, and who takes part in which channel.
    ///
    /// # Errors
    /// The node is shut down.
    pub async fn topology(&self) -> Result<Topology, NodeError> {
        self.shared.line.ask(|reply| Command::Topology { reply }).await
    }

    /// The peers that read this channel, by their last word, online or not.
    ///
    /// # Errors
    /// The name is not valid, or the node is shut down.
    pub async fn subscribers(&self, channel: impl AsRef<str>) -> Result<Vec<NodeId>, ChannelError> {
        let channel = ChannelName::new(channel)?;
        Ok(self.shared.line.ask(|reply| Command::Subscribers { channel, reply }).await?)
    }

    /// The accounts of every receiver and the counters since the start.
    ///
    /// # Errors
    /// What the file says, or the node is shut down.
    pub async fn statistics(&self) -> Result<Statistics, NodeError> {
        let accounts = self.accounts().await?;
        Ok(Statistics {
            queued: accounts.iter().map(|account| account.pending).sum(),
            accounts,
            counters: self.shared.tally.read(),
            wal_bytes: self.shared.store.wal_bytes(),
            storage: self.shared.store.storage().await?,
            uptime: self.shared.started.elapsed(),
        })
    }

    async fn accounts(&self) -> Result<Vec<Account>, NodeError> {
        self.shared.line.ask(|reply| Command::SettleNow { reply }).await??;
        Ok(self.shared.store.accounts().await?)
    }

    /// Waits until every message is settled by every known reader, or the deadline is over, and tells what still waits and for
    /// whom. Messages whose channel has no known reader count as waiting. Cancelling is safe.
    ///
    /// # Errors
    /// What the file says, or the node is shut down.
    pub async fn flush(&self, deadline: Duration) -> Result<Flushed, NodeError> {
        let end = tokio::time::Instant::now() + deadline;
        let mut settled = self.shared.line.ask(|reply| Command::WatchSettled { reply }).await?;
        let mut waiting = self.waiting(Recency::Now).await?;
        loop {
            if waiting.is_empty() {
                return Ok(Flushed { waiting });
            }
            tokio::select! {
                changed = settled.changed() => changed.map_err(|_| NodeError::ShutDown)?,
                () = tokio::time::sleep_until(end) => {
                    return Ok(Flushed { waiting: self.waiting(Recency::Now).await? });
                }
            }
            // Whoever waits is told of each commit, and asks for none of its own: that would be another one to be told of.
            waiting = self.waiting(Recency::OnRecord).await?;
        }
    }

    async fn waiting(&self, recency: Recency) -> Result<Vec<Waiting>, NodeError> {
        if recency == Recency::Now {
            self.shared.line.ask(|reply| Command::SettleNow { reply }).await??;
        }
        let accounts = self.shared.store.accounts_without_ages().await?;
        if accounts.iter().all(|account| account.pending == 0) {
            return Ok(Vec::new());
        }
        let peers = self.peers().await?;
        let online = |receiver: &Option<NodeId>| {
            peers.iter().any(|peer| peer.online && Some(&peer.node) == receiver.as_ref())
        };
        let waiting =
            accounts.into_iter().filter(|account| account.pending > 0).map(|account| Waiting {
                online: online(&account.receiver),
                receiver: account.receiver,
                pending: account.pending,
            });
        Ok(waiting.collect())
    }

    /// What will not arrive of the messages that were accepted since this node was started, because it expired or became a dead letter, by
    /// receiver. Counted while the node runs, so that it holds however soon settled messages are deleted from the file. Messages that
    /// gave way to newer ones, and purged ones, are not among them.
    ///
    /// # Errors
    /// What the file says, or the node is shut down.
    pub async fn lost(&self) -> Result<Vec<Lost>, NodeError> {
        self.shared.line.ask(|reply| Command::SettleNow { reply }).await??;
        Ok(self.shared.store.lost().await?)
    }

    /// Forgets a peer: what waits for it is discarded, and it blocks nobody any more. Audited. If it is heard again, it is a new peer.
    /// Returns how many messages waited for it.
    ///
    /// # Errors
    /// The name is not valid, what the file says, or the node is shut down.
    pub async fn forget(&self, node: impl AsRef<str>) -> Result<u64, NodeError> {
        let node = NodeId::new(node)?;
        self.shared.line.ask(|reply| Command::Forget { node, reply }).await?
    }

    /// Discards what waits for this receiver, in one channel or in all. Returns how many messages.
    ///
    /// # Errors
    /// A name is not valid, what the file says, or the node is shut down.
    pub async fn purge(
        &self,
        node: impl AsRef<str>,
        channel: Option<&str>,
    ) -> Result<u64, NodeError> {
        let node = NodeId::new(node)?;
        let channel = channel.map(ChannelName::new).transpose()?;
        Ok(self.shared.line.ask(|reply| Command::Purge { node, channel, reply }).await??)
    }

    /// The newest dead letters: messages that a receiver refused or failed too often.
    ///
    /// # Errors
    /// What the file says.
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.shared.store.dead_letters(limit).await
    }

    /// Sends a dead letter again, to the receiver that refused it, as a new message that names the old one in the header
    /// `waypost-redrive-of`. Returns the new id.
    ///
    /// # Errors
    /// There is no such dead letter, it was redriven before, or what the file says.
    pub async fn redrive(
        &self,
        receiver: impl AsRef<str>,
        id: MessageId,
    ) -> Result<MessageId, crate::store::RedriveError> {
        let receiver = NodeId::new(receiver)?;
        let ttl = self.shared.config.message_ttl;
        let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        self.shared.store.redrive(receiver, id, ttl_ms).await
    }

    /// Stops the node: no message is taken any more, running handlers and what can still be delivered to peers that are online
    /// get up to `shutdown_timeout`, peers are told goodbye, the file is closed. When this returns, no task or thread of the node is left.
    /// Works also while disconnected. Calling it again is allowed.
    ///
    /// Inside a handler, or a callback of the election, it begins the stop and returns at once, since the node waits for what runs: the message is still
    /// acknowledged when its handler returns, and another call elsewhere waits for the end. A task that the handler spawned and waits for counts
    /// as elsewhere. Messages that wait in a stream are given back; one that was taken out of it is waited for until it is answered or dropped.
    pub async fn shutdown(&self) {
        let deadline = self.shared.config.shutdown_timeout;
        self.shared.store.stop_intake();
        if crate::driver::is_inside(&self.shared.gate) {
            let (reply, _) = tokio::sync::oneshot::channel();
            // An error says that it was shut down before.
            let _ = self.shared.line.order(Command::Shutdown { deadline, reply }).await;
            return;
        }
        // An error says that it was shut down before.
        let _ = self.shared.line.ask(|reply| Command::Shutdown { deadline, reply }).await;
        // Whoever calls it at the same time waits here until the thread is gone.
        let mut thread = self.shared.thread.lock().await;
        if let Some((thread, ended)) = thread.take() {
            // Without a thread that waits for it, of which the system may give none.
            let _ = ended.await;
            let _ = thread.join();
        }
    }
}

/// How much of what is known an account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recency {
    /// All of it: what is not on record yet is written first.
    Now,
    /// What is on record, which is at most some moments behind.
    OnRecord,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.shared.id).finish_non_exhaustive()
    }
}

/// A stream of [`Event`]s.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<Event>,
}

impl Events {
    /// The next event; none once the node has stopped. What a slow listener missed is skipped. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
