//! What the rest of the crate asks of the store. Every write is committed when what its method returns gives `Ok`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::dead_letters::RedriveError;
use super::error::{SendError, StoreError};
use super::fault::{self, At, JobError};
use super::job::{Group, Task};
use super::room::FREE_PAGES;
use super::tx::TransactionError;
use super::tx::{self, Tx};
use super::types::{
    Cursor, DeadLetter, Forgotten, InboxAdvance, Outcome, Page, PageRequest, Peer, Settlement,
    Start, Stray, UnderWay,
};
use super::writer::{Alone, Message};
use super::{
    Answer, Entry, Store, audit, cursors, dead_letters, election, inbox, members, meta, outbox,
    pager, strays,
};
use crate::condition::StorageUse;
use crate::config::Durability;
use crate::message::{ChannelName, MessageId, NodeId, Prepared, StoreId, TopicId};
use crate::protocol::election::{Record, StaleToken, Token};
use crate::protocol::looks::Pending;
use crate::protocol::report::Account;
use crate::protocol::settling::Attempt;

/// What a message takes in the writer's queue besides its payload, roughly.
const MESSAGE_BYTES: usize = 256;
/// Most settlements in one transaction where there is little room.
const SETTLE_STEP: usize = 8;
/// An account, and where what waits begins.
type Counted = (Account, Vec<(TopicId, u64)>);

/// How long the ages of what waits are looked for.
const OLDEST_TIME: Duration = Duration::from_millis(250);

impl Store {
    /// Accepts all messages or none; their ids in the same order. Fsynced, if the node's durability is `Full`.
    pub(crate) async fn send(&self, batch: Vec<Prepared>) -> Result<Vec<MessageId>, SendError> {
        if self.inner.intake_stopped.load(Ordering::SeqCst) {
            return Err(SendError::Closed);
        }
        let bytes = batch.iter().map(|message| MESSAGE_BYTES + message.body.data.len()).sum();
        let work = move |group: &mut Group<'_>| outbox::send(group, &batch);
        let (mut task, answer) = Task::new(self.inner.durability, work);
        task.bytes = bytes;
        self.submit(task, answer).await
    }

    /// Runs the closure on the writer's thread, in a savepoint of its own: `Err` or a panic undoes what it did and nothing
    /// else. Everybody else's writing waits for it.
    pub(crate) async fn transaction<R, E>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<R, E> + Send + 'static,
    ) -> Result<R, TransactionError<E>>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        if self.inner.intake_stopped.load(Ordering::SeqCst) {
            return Err(StoreError::Closed.into());
        }
        self.savepoint(self.inner.durability, |_| Ok(()), work).await
    }

    /// Notes that a message is done with. Durable as the node's `inbox_durability` says.
    pub(crate) fn accept(&self, advance: InboxAdvance) -> Answer<()> {
        let durability = self.inner.inbox_durability;
        self.run(durability, move |group| inbox::advance(group, &advance).map(drop))
    }

    /// The same at once, in the caller's thread, where that needs no fsync and nobody else is writing. `false`: it has to be asked for
    /// otherwise.
    pub(crate) fn accept_alone(&self, advance: &InboxAdvance) -> bool {
        if self.inner.inbox_durability == Durability::Full {
            return false;
        }
        let Ok(mut writer) = self.inner.writer.try_lock() else { return false };
        if self.inner.closed.load(Ordering::SeqCst) {
            return false;
        }
        let committed = writer.commit_alone(advance);
        drop(writer);
        if let Some(Alone { look: true }) = committed {
            // Where it is gone, there is nothing to look after.
            let _ = self.inner.jobs.send(Message::Look);
        }
        committed.is_some()
    }

    /// The same; `done` is called on the writer's thread with how it ended.
    pub(crate) fn accept_then(
        &self,
        advance: InboxAdvance,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let durability = self.inner.inbox_durability;
        let work = move |group: &mut Group<'_>| inbox::advance(group, &advance).map(drop);
        self.hand_over(Box::new(Task::replying(durability, work, done)));
    }

    /// The same as `accept`, together with what the closure writes; always fsynced. If it was noted before, the closure is not run.
    pub(crate) async fn accept_in<R, E>(
        &self,
        advance: InboxAdvance,
        work: impl FnOnce(&Tx<'_>) -> Result<R, E> + Send + 'static,
    ) -> Result<R, TransactionError<E>>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        let before = move |group: &mut Group<'_>| {
            if inbox::advance(group, &advance)? {
                Ok(())
            } else {
                Err(TransactionError::AlreadyAccepted)
            }
        };
        self.savepoint(Durability::Full, before, work).await
    }

    async fn savepoint<R, E>(
        &self,
        durability: Durability,
        before: impl FnOnce(&mut Group<'_>) -> Result<(), TransactionError<E>> + Send + 'static,
        work: impl FnOnce(&Tx<'_>) -> Result<R, E> + Send + 'static,
    ) -> Result<R, TransactionError<E>>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        let mut closures = Some((before, work));
        let (task, answer) = Task::new(durability, move |group: &mut Group<'_>| {
            let Some((before, work)) = closures.take() else {
                return Err(TransactionError::from_store(StoreError::Unanswered));
            };
            tx::run(group, before, work)
        });
        self.submit(task.once(), answer).await
    }

    /// Takes over how messages ended and what went wrong. Runs that the file knows already are ignored. Acknowledgements are not fsynced: one
    /// that is lost costs a repetition, which the receiver recognises. What ended otherwise is nowhere else on record, and is as
    /// durable as a message.
    pub(crate) fn settle(
        &self,
        settlements: Vec<Settlement>,
        attempts: Vec<Attempt>,
    ) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let acknowledged = |settlement: &Settlement| settlement.outcome == Outcome::Acknowledged;
        let durability = match settlements.iter().all(acknowledged) {
            true => Durability::Normal,
            false => self.inner.durability,
        };
        let (settlements, attempts) = (Arc::new(settlements), Arc::new(attempts));
        let (runs, failed) = (Arc::clone(&settlements), Arc::clone(&attempts));
        let all = move |group: &mut Group<'_>| cursors::settle(group, &runs, &failed);
        let (settled, store) = (self.run(durability, all), self.clone());
        async move {
            match settled.await {
                Err(error) if error.is_no_room() && settlements.len() > 1 => {}
                settled => return settled,
            }
            // In steps that fit into a small log. What is taken over now is known the next time.
            for step in settlements.chunks(SETTLE_STEP) {
                let step = step.to_vec();
                store.run(durability, move |group| cursors::settle(group, &step, &[])).await?;
            }
            store.run(durability, move |group| cursors::settle(group, &[], &attempts)).await
        }
    }

    /// How much of the disk the node's files take, and may take.
    pub(crate) fn storage(&self) -> impl Future<Output = Result<StorageUse, StoreError>> + use<> {
        let free = |group: &mut Group<'_>| {
            let free = group.conn.query_row(FREE_PAGES, [], |row| row.get::<_, u64>(0));
            free.at("count free pages")
        };
        let (free, seen) =
            (self.run(Durability::Normal, free), Arc::clone(&self.inner.shared.seen));
        async move { Ok(seen.in_use(free.await?)) }
    }

    /// Where the driver leaves what it knows to be settled until it is on record.
    pub(crate) fn under_way(&self) -> UnderWay {
        self.inner.under_way.clone()
    }

    pub(crate) fn know_peers(&self, peers: Vec<Peer>) -> Answer<()> {
        let work = move |group: &mut Group<'_>| {
            peers.iter().try_for_each(|peer| members::know_peer(group, peer))
        };
        self.run(Durability::Normal, work)
    }

    /// From now on the node is a receiver of the channel. Returns the cursors that were opened for it; those of topics to
    /// come are told by notices, as these are.
    pub(crate) fn subscribe(
        &self,
        node: NodeId,
        channel: ChannelName,
        start: Start,
    ) -> Answer<Vec<Cursor>> {
        let work = move |group: &mut Group<'_>| members::subscribe(group, &node, &channel, start);
        self.run(self.inner.durability, work)
    }

    /// The node has left the channel. Returns how many messages waited for it there, and are purged. What the driver knows to be settled is taken
    /// over first, with the durability that it has in `settle`; so do the next three.
    pub(crate) fn unsubscribe(&self, node: NodeId, channel: ChannelName) -> Answer<u64> {
        let work = move |group: &mut Group<'_>| members::unsubscribe(group, &node, &channel);
        self.run(self.inner.durability, work)
    }

    /// Forgets a peer, with what it read and what waited for it.
    pub(crate) fn forget(&self, node: NodeId) -> Answer<Forgotten> {
        self.run(self.inner.durability, move |group| members::forget(group, &node))
    }

    /// Gives up what waits for a receiver, in one channel or in all. Returns how many messages that were.
    pub(crate) fn purge(&self, receiver: NodeId, channel: Option<ChannelName>) -> Answer<u64> {
        let work = move |group: &mut Group<'_>| cursors::purge(group, &receiver, channel.as_ref());
        self.run(self.inner.durability, work)
    }

    /// The same for all receivers that are known.
    pub(crate) fn purge_queue(&self) -> Answer<u64> {
        self.run(self.inner.durability, cursors::purge_queue)
    }

    /// How many messages wait, for all receivers together, and for first readers.
    pub(crate) fn waiting(&self) -> Answer<u64> {
        let counted = |group: &mut Group<'_>| {
            let accounts = cursors::accounts(group).into_iter();
            Ok::<u64, StoreError>(accounts.map(|(account, _)| account.pending).sum())
        };
        self.run(Durability::Normal, counted)
    }

    /// What waits in each topic, by receiver. Where a channel has no reader, what waits for a first one.
    pub(crate) fn pending(&self) -> Answer<Vec<Pending>> {
        self.run(Durability::Normal, |group| Ok::<_, StoreError>(group.ledger.all_pending()))
    }

    /// Whether a little can be written beside the file.
    pub(crate) async fn can_write(&self) -> std::io::Result<()> {
        let path = self.path().to_owned();
        let written = tokio::task::spawn_blocking(move || fault::can_write(&path)).await;
        written.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// This node has joined the channel. Returns since when, which is earlier if it had joined it before.
    pub(crate) fn join(&self, channel: ChannelName) -> Answer<u64> {
        self.run(self.inner.durability, move |group| members::join(group, &channel))
    }

    /// This node has left all of these, or none.
    pub(crate) fn leave(&self, channels: Vec<ChannelName>) -> Answer<()> {
        let leave = move |group: &mut Group<'_>| {
            channels.iter().try_for_each(|channel| members::leave(group, channel))
        };
        self.run(Durability::Normal, leave)
    }

    /// Lets messages with an id above `from_id` travel under a new store id, and gives no message an id at or below `newest` from now on, unless
    /// that lies too far in the future to be true. Fsynced.
    pub(crate) fn new_store(&self, from_id: MessageId, newest: MessageId) -> Answer<StoreId> {
        self.run(Durability::Full, move |group| {
            group.raise_last_id(newest);
            meta::new_store(group, from_id)
        })
    }

    /// The account of promise P2 for every receiver. An age that is not found soon is left out.
    pub(crate) fn accounts(
        &self,
    ) -> impl Future<Output = Result<Vec<Account>, StoreError>> + use<> {
        let (counted, store) = (self.run(Durability::Normal, accounts), self.clone());
        async move {
            let counted = counted.await?;
            let places = counted.iter().flat_map(|(_, waiting)| waiting).copied().collect();
            let end = Instant::now() + OLDEST_TIME;
            let times = store.read_aside(move |conn| pager::first_times(conn, places, end)).await?;
            let aged = counted.into_iter().map(|(account, waiting)| {
                let oldest = waiting.iter().filter_map(|place| times.get(place)).min();
                Account { oldest_pending_ms: oldest.copied(), ..account }
            });
            Ok(aged.collect())
        }
    }

    /// The same without the ages, which cost a look at the log.
    pub(crate) async fn accounts_without_ages(&self) -> Result<Vec<Account>, StoreError> {
        let counted = self.run(Durability::Normal, accounts).await?;
        Ok(counted.into_iter().map(|(account, _)| account).collect())
    }

    /// The latest dead letters, the latest first.
    pub(crate) async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.read_aside(move |conn| dead_letters::list(conn, limit)).await
    }

    /// Sends a dead letter again as a new message, with a time to live of its own.
    pub(crate) async fn redrive(
        &self,
        receiver: NodeId,
        id: MessageId,
        ttl_ms: Option<u64>,
    ) -> Result<MessageId, RedriveError> {
        let work = move |group: &mut Group<'_>| dead_letters::redrive(group, &receiver, id, ttl_ms);
        let (task, answer) = Task::new(self.inner.durability, work);
        self.submit(task, answer).await
    }

    /// Puts these on record, in one commit.
    pub(crate) fn enter(&self, entries: Vec<Entry>) -> Answer<()> {
        let enter = move |group: &mut Group<'_>| {
            entries.iter().try_for_each(|entry| audit::write(group, entry))
        };
        self.run(Durability::Normal, enter)
    }

    /// Puts an order on record before it is obeyed. One with a token is refused where a higher one was seen before; that this is the highest is
    /// fsynced.
    pub(crate) fn note_order(
        &self,
        token: Option<Token>,
        entries: Vec<Entry>,
    ) -> Answer<Result<(), StaleToken>> {
        let durability = if token.is_some() { Durability::Full } else { Durability::Normal };
        let note =
            move |group: &mut Group<'_>| election::note_order(group, token.as_ref(), &entries);
        self.run(durability, note)
    }

    /// Keeps what this node promises in an election, and puts `entries` on record, in one commit. Fsynced, whatever the node's durability:
    /// what is said next rests on it.
    pub(crate) fn save_election(&self, record: Record, entries: Vec<Entry>) -> Answer<()> {
        self.run(Durability::Full, move |group| election::save(group, &record, &entries))
    }

    /// Puts messages back into their topics. Fsynced, if the node's durability is `Full`.
    pub(crate) fn put_back(&self, strays: Vec<Stray>) -> Answer<()> {
        self.run(self.inner.durability, move |group| strays::put_back(group, &strays))
    }

    /// Reads a page of a backlog. Blocks.
    pub(crate) fn page(&self, request: &PageRequest) -> Result<Page, StoreError> {
        self.read(|conn| pager::page(conn, request))
    }
}

/// The accounts, once what has expired without any reader is counted so.
fn accounts(group: &mut Group<'_>) -> Result<Vec<Counted>, StoreError> {
    group.expire_some_unclaimed()?;
    Ok(cursors::accounts(group))
}
