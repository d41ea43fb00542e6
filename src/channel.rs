//! A channel that a node has joined: sending, receiving, pausing, leaving.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::driver::{Command, Consumer, ConsumerId};
use crate::incoming::{HandlerResult, Message};
use crate::message::{ChannelName, MessageId, Mode, NewMessage, NodeId};
use crate::refusal::ChannelError;
use crate::shared::Shared;
use crate::spans;
use crate::store::{SendError, Tx};

/// Messages that a stream holds before its consumer takes them; more wait at their senders.
const STREAM_BUFFER: usize = 64;

/// A channel that this node has joined. Cheap to clone; all clones are the same channel.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
    name: ChannelName,
    mode: Mode,
}

impl Channel {
    pub(crate) fn new(shared: Arc<Shared>, name: ChannelName, mode: Mode) -> Self {
        Self { shared, name, mode }
    }

    /// The channel's name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// How this node takes part.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Sends a message to every reader of the channel, or to one with [`NewMessage::to`].
    ///
    /// When this returns, the message is committed to this node's file, by default with an fsync (P1): it will be delivered however
    /// long the network, the server or a receiver is away, unless its time to live ends before. Readers need not be known yet.
    /// Cancelling before the commit leaves open whether the message was sent, never half of it.
    ///
    /// # Errors
    /// Nothing was stored: the message is not valid, the channel was joined as a reader, a receiver's queue is full ([`SendError::QueueFull`],
    /// unless the node drops the oldest), the disk is full ([`SendError::StorageFull`]), the node is shut down.
    pub async fn send(&self, message: impl Into<NewMessage>) -> Result<MessageId, SendError> {
        let ids = self.send_all(vec![message.into()]).await?;
        Ok(ids[0])
    }

    /// Sends this value as JSON; short for `send(NewMessage::json(value))`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and for a value that does not serialize.
    pub async fn send_json<T: Serialize + ?Sized>(
        &self,
        value: &T,
    ) -> Result<MessageId, SendError> {
        self.send(NewMessage::json(value)).await
    }

    /// Sends all of these, in this order, or none: they are committed together. Returns their ids in order.
    ///
    /// # Errors
    /// As [`send`](Self::send); the first message that is refused refuses all.
    pub async fn send_all(&self, messages: Vec<NewMessage>) -> Result<Vec<MessageId>, SendError> {
        let prepared =
            messages.into_iter().map(|m| self.prepare(m)).collect::<Result<Vec<_>, _>>()?;
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        let span = spans::send(&self.shared.id, &self.name, prepared.len());
        let ids = self.shared.store.send(prepared).instrument(span.clone()).await?;
        spans::ids(&span, ids.first().copied(), ids.last().copied());
        Ok(ids)
    }

    /// Sends a message as part of the program's own transaction (see [`Node::transaction`](crate::Node::transaction)): it is
    /// committed with the program's rows, or not at all.
    ///
    /// # Errors
    /// As [`send`](Self::send). Return it from the transaction to undo everything.
    pub fn send_in(
        &self,
        tx: &Tx<'_>,
        message: impl Into<NewMessage>,
    ) -> Result<MessageId, SendError> {
        let span = spans::send(&self.shared.id, &self.name, 1).entered();
        let id = tx.send(self.prepare(message.into())?)?;
        spans::ids(&span, Some(id), Some(id));
        Ok(id)
    }

    /// Who kicked this node from the channel, until it is readmitted or started again; none where it takes part, or left by itself.
    pub fn kicked_by(&self) -> Option<NodeId> {
        self.shared.gate.look().out_of(&self.name).cloned()
    }

    fn prepare(&self, message: NewMessage) -> Result<crate::message::Prepared, SendError> {
        if !self.mode.writes() {
            return Err(SendError::NotAWriter { channel: self.name.clone() });
        }
        self.shared.gate.admits(&self.name)?;
        let config = &self.shared.config;
        let mut prepared =
            message.prepare(&self.name, config.message_ttl, config.max_payload_bytes)?;
        if config.compression {
            prepared.body = prepared.body.compressed();
        }
        Ok(prepared)
    }

    /// Handles every message of the channel with this function, on the runtime on which the node was started.
    ///
    /// `Ok` acknowledges the message, `Err` or a panic refuses it, and it comes again after a pause. Messages of one sender (in one lane) come one at a time,
    /// in order; those of different senders side by side. With several consumers, handlers or [streams](Self::messages), a message is acknowledged
    /// when all have taken it; they get it one after the other, in the order in which they were attached, and all get it again if one refuses it.
    /// [`Message::ack_in`] is for the last of them. A handler may take as long as it likes: the sender is told that it is being worked on.
    ///
    /// The handler stays until the channel is left or the node stops. One that holds a `Channel` or `Node` of its own (to reply, say) keeps the
    /// node running until [`Node::shutdown`](crate::Node::shutdown), dropped or not.
    ///
    /// # Errors
    /// The channel was joined as a writer, or was left; the node is shut down.
    pub async fn on_message<F, Fut>(&self, handler: F) -> Result<(), ChannelError>
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HandlerResult> + Send + 'static,
    {
        let handler = move |message| -> crate::driver::HandlerFuture { Box::pin(handler(message)) };
        self.attach(Consumer::Handler(Arc::new(handler))).await.map(|_| ())
    }

    /// Handles every message of the channel with this function, in the node's own thread: as [`on_message`](Self::on_message), but without the two
    /// changes of thread that a handler on a runtime costs, which are most of the time between two messages of one sender.
    ///
    /// It is for what takes microseconds and waits for nothing: to count, to fill a map, to put the message into a channel of the program's
    /// own. While it runs the node does nothing else, neither for other channels nor for other nodes: one that blocks stops it, and one that waits
    /// for the node (`block_on(channel.send(..))`, say) stops it for good. `handler_timeout` does not apply. Where the channel has other handlers
    /// too, all of them run on their runtime, this one among them.
    ///
    /// # Errors
    /// As [`on_message`](Self::on_message).
    pub async fn on_message_inline<F>(&self, handler: F) -> Result<(), ChannelError>
    where
        F: Fn(&Message) -> HandlerResult + Send + Sync + 'static,
    {
        self.attach(Consumer::Inline(Arc::new(handler))).await.map(|_| ())
    }

    /// The channel's messages as a stream. Each must be answered; see [`Message`]. Dropping the stream detaches it. A
    /// [`shutdown`](crate::Node::shutdown) gives back what is still in the stream, and waits for the answer to what was taken out of it.
    ///
    /// # Errors
    /// As [`on_message`](Self::on_message).
    pub async fn messages(&self) -> Result<Messages, ChannelError> {
        let (sender, messages) = mpsc::channel(STREAM_BUFFER);
        let id = self.attach(Consumer::Stream(sender)).await?;
        Ok(Messages { messages, id, channel: self.clone() })
    }

    async fn attach(&self, consumer: Consumer) -> Result<ConsumerId, ChannelError> {
        if !self.mode.reads() {
            return Err(ChannelError::NotAReader { channel: self.name.clone() });
        }
        let channel = self.name.clone();
        self.shared.line.ask(|reply| Command::Attach { channel, consumer, reply }).await?
    }

    /// Takes no more messages until [`resume`](Self::resume); they wait at their senders, and cost them no attempts. What is being
    /// handled is finished.
    ///
    /// # Errors
    /// The channel was left, or the node is shut down.
    pub async fn pause(&self) -> Result<(), ChannelError> {
        let channel = self.name.clone();
        self.shared.line.ask(|reply| Command::Pause { channel, paused: true, reply }).await?
    }

    /// Takes messages again; senders learn it at once.
    ///
    /// # Errors
    /// The channel was left, or the node is shut down.
    pub async fn resume(&self) -> Result<(), ChannelError> {
        let channel = self.name.clone();
        self.shared.line.ask(|reply| Command::Pause { channel, paused: false, reply }).await?
    }

    /// Leaves the channel for good: senders purge what still waits for this node there, and keep nothing more for it. A restart is no
    /// leave, and neither is [`Node::shutdown`](crate::Node::shutdown). Handlers are detached; joining again begins anew. Senders hear of it once the
    /// messages that are being handled have been answered.
    ///
    /// # Errors
    /// The channel was left before, the file refuses, or the node is shut down.
    pub async fn leave(&self) -> Result<(), ChannelError> {
        let channel = self.name.clone();
        self.shared.line.ask(|reply| Command::Leave { channel, reply }).await?
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.name).field("mode", &self.mode).finish()
    }
}

/// The messages of a channel, as a stream: [`next`](Self::next), or through [`Stream`].
#[must_use = "messages wait until the stream is read"]
pub struct Messages {
    messages: mpsc::Receiver<Message>,
    id: ConsumerId,
    channel: Channel,
}

impl Messages {
    /// The next message; none once the channel is left or the node has stopped. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let message = self.messages.recv().await?;
            if message.look_at() {
                return Some(message);
            }
        }
    }
}

impl Stream for Messages {
    type Item = Message;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            match self.messages.poll_recv(cx) {
                // It was given back when the node began to stop.
                Poll::Ready(Some(message)) if !message.look_at() => {}
                polled => return polled,
            }
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let (_, nothing) = mpsc::channel(1);
        let messages = std::mem::replace(&mut self.messages, nothing);
        empty(messages, &self.channel.shared.handlers, Message::give_back);
        let channel = self.channel.name.clone();
        self.channel.shared.line.tell(Command::Detach { channel, consumer: self.id });
    }
}

/// What nobody looked at goes back to its sender without counting as an attempt. Where something is being put into the queue at
/// this moment, that is waited for elsewhere: dropped with its queue it would stay there, and its handler wait for an answer for good.
fn empty<T: Send + 'static>(mut queue: mpsc::Receiver<T>, runtime: &Handle, give_back: fn(T)) {
    queue.close();
    while let Ok(waiting) = queue.try_recv() {
        give_back(waiting);
    }
    if queue.capacity() < queue.max_capacity() {
        runtime.spawn(async move {
            while let Some(late) = queue.recv().await {
                give_back(late);
            }
        });
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("channel", &self.channel.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_put_into_a_stream_while_it_is_dropped_goes_back() {
        type Reply = oneshot::Sender<&'static str>;
        let (sender, messages) = mpsc::channel::<Reply>(2);
        let (waiting, waits) = oneshot::channel();
        sender.try_send(waiting).expect("there is room");
        // It has its place in the queue, and is not there yet.
        let place = sender.reserve().await.expect("there is room");
        empty(messages, &Handle::current(), |reply: Reply| {
            reply.send("given back").expect("somebody waits");
        });
        assert_eq!(waits.await.expect("answered"), "given back");
        let (late, answer) = oneshot::channel();
        place.send(late);
        assert_eq!(answer.await.expect("answered"), "given back");
        assert!(sender.is_closed());
    }
}
