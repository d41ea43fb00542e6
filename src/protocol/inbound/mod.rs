//! Receiving, put together: whose frames are looked at, what of them goes to the [`Inbox`], and who commits what was handled. What is
//! decided comes out as [`Effect`]s, which the shell performs in their order. What follows from performing one (a handler that ended
//! on the spot, a receipt that was committed on the spot) is said after the rest of them.

use std::time::{Duration, Instant};

use super::Now;
use super::frame::{Answer, FrameMessage, MessageFrame, Verdict, detail};
use super::inbox::begun::{Note, Slot};
use super::inbox::{Action, Arrival, Event, Gap, Inbox, Incoming, Limits, Source};
use super::peers::Peers;
use crate::message::{ChannelName, MessageId, NodeId};

/// A sender that is no peer yet, or that may have sent to another node of our name, is asked to come again after this. By then it is
/// known.
const MEET_FIRST: Duration = Duration::from_millis(250);

/// What is to be done, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect<B> {
    /// Let these be handled, one after the other, up to the first that does not end well; then say [`Event::Finished`]. Before the first
    /// begins, note at this place that they did, and when so many processes had ended.
    Handle {
        source: Source,
        messages: Vec<(MessageId, B)>,
        note: Option<(Slot, u32)>,
        /// Others are being handled at the same time, and their receipts can share a commit: whoever handles these brings the last one's
        /// into the file, where all end well, and then says that they are committed.
        beside_others: bool,
    },
    /// What was noted there means nothing any more.
    Unnote { slot: Slot },
    /// Begin none any more of those that were handed out of this source.
    Cease { source: Source },
    /// Write the receipt, then say [`Event::Committed`] or [`Event::CommitFailed`].
    Commit {
        source: Source,
        id: MessageId,
        /// Nothing else is being handled: no other receipt would share the commit, and it may be made on the spot.
        alone: bool,
    },
    /// To be published. One that does not leave is asked for again by the sender.
    Answer(Answer),
    /// Messages that this node will not see.
    Gap { source: Source, gap: Gap },
    /// A repetition was recognised.
    Repeated { source: Source, id: MessageId },
    /// A frame holds what cannot be taken.
    Refused { sender: NodeId, reason: String },
    /// The membership is to ask who this is, or whether it is there.
    Unknown { sender: NodeId },
    /// When to say [`Event::Woke`].
    WakeAt { at: Option<Instant> },
}

/// What is around it: looked at, or added to.
pub struct Around<'a, B> {
    pub now: Now,
    pub peers: &'a mut Peers,
    pub out: &'a mut Vec<Effect<B>>,
}

/// All that this node receives.
#[derive(Debug)]
pub struct Inbound<B> {
    me: NodeId,
    inbox: Inbox<B>,
    /// Runs of messages that are being handled.
    handling: usize,
    wake_at: Option<Instant>,
}

impl<B> Inbound<B> {
    /// `known`: what the file says is committed.
    pub fn new(
        me: NodeId,
        limits: Limits,
        known: impl IntoIterator<Item = (Source, MessageId)>,
    ) -> Self {
        Self { me, inbox: Inbox::new(limits, known), handling: 0, wake_at: None }
    }

    /// What earlier processes noted, told before anything else. Returns what is to be noted in its place.
    pub fn noted(&mut self, notes: Vec<Note>) -> Vec<(Slot, Note)> {
        self.inbox.noted(notes)
    }

    /// What an orderly end leaves noted.
    pub fn noted_at_end(&self) -> Vec<(Slot, Note)> {
        self.inbox.noted_at_end()
    }

    /// Messages that are being handled or written.
    pub fn busy(&self) -> usize {
        self.inbox.busy()
    }

    /// Messages that are being written.
    pub fn committing(&self) -> usize {
        self.inbox.committing()
    }

    /// Whether a message of this channel is in work.
    pub fn works_for(&self, channel: &ChannelName) -> bool {
        self.inbox.works_for(channel)
    }

    /// A frame of messages came. `open` makes of each what its handler gets, or says why it cannot.
    pub fn messages(
        &mut self,
        around: &mut Around<'_, B>,
        frame: MessageFrame,
        mut open: impl FnMut(&Source, FrameMessage) -> Result<Incoming<B>, String>,
    ) {
        let source = Source { sender: frame.from, store: frame.store, stream: frame.stream };
        let Some(first) = frame.messages.first().map(|message| message.id) else { return };
        let come_again = Verdict::Busy { retry_ms: MEET_FIRST.as_millis() as u64 };
        if around.peers.is_in_doubt() {
            // Another node may have taken our place, and handle this as well.
            return self.answer(around, source, first, come_again, None);
        }
        let online = around.peers.spoke(around.now, &source.sender);
        let sender = source.sender.clone();
        // What a stranger sends is not even unpacked.
        if !around.peers.is_peer(&sender) {
            self.answer(around, source, first, come_again, None);
            return around.out.push(Effect::Unknown { sender });
        }
        if !online {
            around.out.push(Effect::Unknown { sender: sender.clone() });
        }
        let mut messages = Vec::with_capacity(frame.messages.len());
        for message in frame.messages {
            let id = message.id;
            match open(&source, message) {
                Ok(incoming) => messages.push(incoming),
                // Those before it are taken; its own turn comes when it is the first.
                Err(_) if !messages.is_empty() => break,
                Err(reason) => {
                    let verdict = Verdict::Refused { detail: detail(&reason) };
                    around.out.push(Effect::Refused { sender, reason });
                    return self.answer(around, source, id, verdict, None);
                }
            }
        }
        let arrival = Arrival {
            source,
            previous: frame.previous,
            skipped: frame.skipped,
            ack_timeout: Duration::from_millis(frame.ack_timeout_ms),
            messages,
        };
        self.say(around, Event::Frame(arrival));
    }

    /// Says this to the inbox.
    pub fn say(&mut self, around: &mut Around<'_, B>, event: Event<B>) {
        if let Event::Finished { .. } = event {
            self.handling = self.handling.saturating_sub(1);
        }
        if let Event::Woke = event {
            // The shell's timer is spent, whether it came in time or too early.
            self.wake_at = None;
        }
        let mut actions = Vec::new();
        self.inbox.handle(around.now, event, &mut actions);
        for action in actions {
            self.act(around, action);
        }
        let wake_at = self.inbox.wake_at();
        if std::mem::replace(&mut self.wake_at, wake_at) != wake_at {
            around.out.push(Effect::WakeAt { at: wake_at });
        }
    }

    fn act(&mut self, around: &mut Around<'_, B>, action: Action<B>) {
        let effect = match action {
            Action::Handle { source, messages, note } => {
                self.handling += 1;
                Effect::Handle { source, messages, note, beside_others: self.handling > 1 }
            }
            Action::Unnote { slot } => Effect::Unnote { slot },
            Action::Cease { source } => Effect::Cease { source },
            Action::Commit { source, id } => {
                Effect::Commit { source, id, alone: self.handling == 0 }
            }
            Action::Answer { source, id, verdict, last } => {
                return self.answer(around, source, id, verdict, last);
            }
            Action::Gap { source, gap } => Effect::Gap { source, gap },
            Action::Repeated { source, id } => Effect::Repeated { source, id },
        };
        around.out.push(effect);
    }

    fn answer(
        &self,
        around: &mut Around<'_, B>,
        source: Source,
        id: MessageId,
        verdict: Verdict,
        last: Option<MessageId>,
    ) {
        let Source { sender: to, store, stream } = source;
        let answer = Answer { from: self.me.clone(), to, store, stream, id, last, verdict };
        around.out.push(Effect::Answer(answer));
    }
}

#[cfg(test)]
mod tests;
