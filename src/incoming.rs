//! A received message, and how to answer it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};

use crate::message::{
    CONTENT_TYPE, ChannelName, Headers, Kind, MessageId, NodeId, Priority, TOKEN_HEADER, Token,
};
use crate::protocol::inbox::Done;
use crate::store::{InboxAdvance, Store, StoreError, TransactionError, Tx};

/// What a handler returns: `Ok` acknowledges the message, `Err` refuses it, and it is sent again after a pause.
pub type HandlerResult = Result<(), HandlerError>;
/// Any error; its text travels to the sender as the reason.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// A message that could not be acknowledged. It comes again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// It was answered before.
    #[error("the message was answered before")]
    Answered,
    /// The file could not be written.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

/// What a message is, shared by all who handle it.
pub(crate) struct Content {
    pub(crate) id: MessageId,
    pub(crate) sender: NodeId,
    pub(crate) channel: ChannelName,
    pub(crate) direct: bool,
    pub(crate) priority: Priority,
    pub(crate) kind: Kind,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
    pub(crate) created_ms: u64,
    pub(crate) ttl_left_ms: Option<u64>,
    pub(crate) attempt: u32,
    pub(crate) advance: InboxAdvance,
    pub(crate) receipt: Receipt,
}

/// What has become of a message's receipt, whoever still listens.
pub(crate) struct Receipt {
    /// One of its handlers has committed it: whatever becomes of the others, or of this one, it does not come again.
    committed: AtomicBool,
    /// The file did not take it: no fault of the message's.
    storage_failed: AtomicBool,
    /// Held while a commit is under way; made for the first one.
    under_way: OnceLock<Arc<Mutex<()>>>,
    /// Where a commit is seen to its end, also when the handler that asked for it is cancelled.
    runtime: Handle,
}

impl Receipt {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self {
            committed: AtomicBool::new(false),
            storage_failed: AtomicBool::new(false),
            under_way: OnceLock::new(),
            runtime,
        }
    }

    /// How the message really ended, once nothing is under way any more: a handler that fails, panics or is cut short after its
    /// commit has taken the message, and one that failed because of the file has not failed the message.
    pub(crate) async fn outcome(&self, result: Result<Done, String>) -> Result<Done, String> {
        if let Some(under_way) = self.under_way.get() {
            drop(under_way.lock().await);
        }
        if self.committed.load(Ordering::SeqCst) {
            if let Err(reason) = &result {
                tracing::error!(
                    reason,
                    "a handler failed after its message was committed; it does not come again"
                );
            }
            return Ok(Done::Committed);
        }
        match result {
            Err(_) if self.storage_failed.load(Ordering::SeqCst) => Ok(Done::Returned),
            result => result,
        }
    }
}

impl Content {
    /// Sees this commit to its end.
    async fn commit<R, E>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<R, E>> + Send + 'static,
        judge: fn(&Result<R, E>) -> Commit,
    ) -> Option<Result<R, E>>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        let under_way = self.receipt.under_way.get_or_init(Arc::default).clone();
        let under_way = under_way.lock_owned().await;
        let content = self.clone();
        let task = self.receipt.runtime.spawn(async move {
            let result = work.await;
            match judge(&result) {
                Commit::Done => content.receipt.committed.store(true, Ordering::SeqCst),
                Commit::Storage => content.receipt.storage_failed.store(true, Ordering::SeqCst),
                Commit::Refused => {}
            }
            drop(under_way);
            result
        });
        task.await.ok()
    }
}

/// How a commit ended.
enum Commit {
    Done,
    Storage,
    Refused,
}

/// How the answer reaches the node.
pub(crate) type Reply = oneshot::Sender<Result<Done, String>>;

/// Which of a channel's consumers has a message: what one of them answers commits it only if all others have taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Last,
    OthersFollow,
}

/// Whether a message that is put into a stream's queue was looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Looked(Arc<AtomicU8>);

impl Looked {
    const AT: u8 = 1;
    const GIVEN_BACK: u8 = 2;

    fn set(&self, to: u8) -> bool {
        self.0.compare_exchange(0, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Gives it back, if nobody has looked at it.
    pub(crate) fn give_back(&self) -> bool {
        self.set(Self::GIVEN_BACK)
    }
}

/// A received message.
///
/// In a handler ([`Channel::on_message`](crate::Channel::on_message)) the result of the handler is the answer, unless it called
/// [`nack`](Self::nack) or took the message in a transaction. From a
/// stream ([`Channel::messages`](crate::Channel::messages)) the message must be answered with [`ack`](Self::ack), [`nack`](Self::nack) or
/// [`ack_in`](Self::ack_in); one that is dropped unanswered is refused, and comes again.
pub struct Message {
    content: Arc<Content>,
    store: Store,
    reply: Option<Reply>,
    turn: Turn,
    /// Where it is put into a stream's queue.
    looked: Option<Looked>,
}

impl Message {
    pub(crate) fn new(content: Arc<Content>, store: Store, reply: Reply, turn: Turn) -> Self {
        Self { content, store, reply: Some(reply), turn, looked: None }
    }

    /// One that its handler only looks at.
    pub(crate) fn shown(content: Arc<Content>, store: Store) -> Self {
        Self { content, store, reply: None, turn: Turn::Last, looked: None }
    }

    /// The message's id, as its sender's `send` returned it.
    pub fn id(&self) -> MessageId {
        self.content.id
    }

    /// Who sent it.
    pub fn sender(&self) -> &NodeId {
        &self.content.sender
    }

    /// The channel on which it came.
    pub fn channel(&self) -> &ChannelName {
        &self.content.channel
    }

    /// Whether it was sent to this node alone.
    pub fn is_direct(&self) -> bool {
        self.content.direct
    }

    /// What it is about.
    pub fn kind(&self) -> &Kind {
        &self.content.kind
    }

    /// Its lane.
    pub fn priority(&self) -> Priority {
        self.content.priority
    }

    /// Its headers.
    pub fn headers(&self) -> &Headers {
        &self.content.headers
    }

    /// The value of this header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.content.headers.get(name).map(String::as_str)
    }

    /// The fencing token that the sender has shown with [`NewMessage::fenced`](crate::NewMessage::fenced), where it is the sender's own. It
    /// proves nothing by itself: a [`Fence`](crate::election::Fence) or [`Tx::fence`] says whether a later master was seen.
    pub fn fencing_token(&self) -> Option<Token> {
        let token: Token = self.header(TOKEN_HEADER)?.parse().ok()?;
        (token.node == *self.sender()).then_some(token)
    }

    /// What the sender says that the payload is; see [`CONTENT_TYPE`].
    pub fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE)
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.content.payload
    }

    /// The payload as text, if it is UTF-8.
    ///
    /// # Errors
    /// Where the first byte stands that is no UTF-8.
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.content.payload)
    }

    /// The payload, read as JSON.
    ///
    /// # Errors
    /// Where and why it is not JSON of that shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.content.payload)
    }

    /// When it was sent, by the sender's clock.
    pub fn created(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.content.created_ms)
    }

    /// How long it had left to live when it was sent to us; none: for ever.
    pub fn ttl_left(&self) -> Option<Duration> {
        self.content.ttl_left_ms.map(Duration::from_millis)
    }

    /// Which attempt this is, from 1: one more than handlers refused or failed it, or its receiver's process ended while one handled it. Repetitions
    /// because of an outage, or because no answer came, are no attempts of their own.
    pub fn attempt(&self) -> u32 {
        self.content.attempt
    }

    /// Takes the message: commits that it was received, and lets the sender know.
    ///
    /// When this returns, the inbox row is committed (with the default `inbox_durability` not fsynced): whatever is killed, the message is not
    /// handed out again. Cancelling leaves open whether it was taken. Where other consumers of the channel follow this one, they get the message now,
    /// and it is committed when all of them have taken it: if one of them refuses it, it comes again to all.
    ///
    /// # Errors
    /// [`AckError::Answered`] after an earlier answer; otherwise what the file says, and the message comes again.
    pub async fn ack(mut self) -> Result<(), AckError> {
        let reply = self.reply.take().ok_or(AckError::Answered)?;
        if self.turn == Turn::OthersFollow {
            return reply.send(Ok(Done::Handled)).map_err(|_| StoreError::Closed.into());
        }
        let (store, advance) = (self.store.clone(), self.content.advance.clone());
        let work = async move { store.accept(advance).await };
        let judge = |result: &Result<(), _>| match result {
            Ok(()) => Commit::Done,
            Err(_) => Commit::Storage,
        };
        self.content.commit(work, judge).await.unwrap_or(Err(StoreError::Unanswered))?;
        // The node is stopping if nobody listens any more; the row is committed all the same.
        let _ = reply.send(Ok(Done::Committed));
        Ok(())
    }

    /// Refuses the message. It is sent again after a pause that grows, up to the sender's `max_attempts`; then it is a dead
    /// letter there, with this reason.
    pub fn nack(mut self, reason: impl fmt::Display) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(reason.to_string()));
        }
    }

    /// Runs `write` in a transaction on this node's file and takes the message in the same transaction: the effects of `write`
    /// and the receipt are committed together, with an fsync, or not at all. That makes the effects exactly-once (P5).
    ///
    /// `write` runs on the thread that does all the node's writing: keep it short, and do not wait for anything in it. In a handler, return
    /// `Ok(())` after it: an error or a panic that comes after the commit is logged and changes nothing. Cancelling leaves open whether it was
    /// committed, never half of it.
    ///
    /// # Errors
    /// [`TransactionError::User`] with what `write` returned, or what the file says; nothing was written, and the message can be answered
    /// otherwise, or comes again. [`TransactionError::AlreadyAccepted`] after an earlier answer that took it. [`TransactionError::NotLast`] where other
    /// consumers of the channel follow this one: the receipt would be committed before they have taken the message.
    pub async fn ack_in<R, E, F>(&mut self, write: F) -> Result<R, TransactionError<E>>
    where
        F: FnOnce(&Tx<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
    {
        if self.reply.is_none() {
            return Err(TransactionError::AlreadyAccepted);
        }
        if self.turn == Turn::OthersFollow {
            return Err(TransactionError::NotLast { channel: self.content.channel.clone() });
        }
        let (store, advance) = (self.store.clone(), self.content.advance.clone());
        let work = async move { store.accept_in(advance, write).await };
        let judge = |result: &Result<R, TransactionError<E>>| match result {
            Ok(_) | Err(TransactionError::AlreadyAccepted) => Commit::Done,
            Err(TransactionError::Storage(_)) => Commit::Storage,
            Err(_) => Commit::Refused,
        };
        let result = self.content.commit(work, judge).await;
        let result = result.unwrap_or(Err(StoreError::Unanswered.into()))?;
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Ok(Done::Committed));
        }
        Ok(result)
    }
}

impl Message {
    /// It is taken out of a stream's queue. `false`: it was given back meanwhile.
    pub(crate) fn look_at(&self) -> bool {
        self.looked.as_ref().is_none_or(|looked| looked.set(Looked::AT))
    }

    /// The same message for a stream's queue, and what tells whether it was taken out.
    pub(crate) fn queued(mut self) -> (Self, Looked) {
        let looked = self.looked.get_or_insert_default().clone();
        (self, looked)
    }

    /// Gives it back unhandled: its consumer went away before it looked at it.
    pub(crate) fn give_back(mut self) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Ok(Done::Returned));
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.content.id)
            .field("sender", &self.content.sender)
            .field("channel", &self.content.channel)
            .field("kind", &self.content.kind)
            .field("bytes", &self.content.payload.len())
            .finish_non_exhaustive()
    }
}
