//! Joining, leaving, pausing: which channels this node takes part in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Around, Effect, Peers};
use crate::message::{ChannelName, Mode, StartAt};
use crate::protocol::frame::{ChannelPresence, MAX_CHANNELS};
use crate::protocol::inbox::Consumer;
use crate::protocol::membership::Event;

/// Most bytes of a keepalive that the names of channels take that were left for good.
const LEFT_BYTES: usize = 64 * 1024;

/// Who takes a channel's messages: a handler or a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

/// Why something is not done in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    NotJoined,
    NotAReader,
    /// No more channels can be joined.
    TooMany,
}

/// A channel that this node has joined.
#[derive(Debug)]
struct Joined {
    mode: Mode,
    start: StartAt,
    /// By the file's clock.
    joined_ms: u64,
    paused: bool,
    consumers: BTreeSet<ConsumerId>,
}

#[derive(Debug, Default)]
pub(super) struct Channels {
    joined: BTreeMap<ChannelName, Joined>,
    left: BTreeSet<ChannelName>,
    /// Those of them with a message in work, which nobody is told of yet.
    parting: BTreeSet<ChannelName>,
    /// Messages are taken in none of them: the node is being drained.
    held: bool,
}

impl Channels {
    pub(super) fn new(left: Vec<ChannelName>, held: bool) -> Self {
        Self { left: left.into_iter().take(MAX_CHANNELS).collect(), held, ..Self::default() }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &ChannelName> {
        self.joined.keys()
    }

    pub(super) fn has(&self, channel: &ChannelName) -> bool {
        self.joined.contains_key(channel)
    }

    pub(super) fn writes(&self, channel: &ChannelName) -> bool {
        self.joined.get(channel).is_some_and(|joined| joined.mode.writes())
    }

    /// Whether messages are taken now.
    fn is_ready(&self, joined: &Joined) -> bool {
        joined.mode.reads() && !joined.paused && !self.held && !joined.consumers.is_empty()
    }

    /// Those in which it is by this program's own doing that nothing is taken.
    pub(super) fn deaf(&self) -> impl Iterator<Item = &ChannelName> {
        let is_deaf = |it: &Joined| it.mode.reads() && (it.paused || it.consumers.is_empty());
        self.joined.iter().filter(move |(_, joined)| is_deaf(joined)).map(|(name, _)| name)
    }

    /// As others are told of them.
    pub(super) fn presences(&self, now_ms: u64) -> impl Iterator<Item = ChannelPresence> {
        self.joined.iter().take(MAX_CHANNELS).map(move |(name, joined)| ChannelPresence {
            name: name.clone(),
            mode: joined.mode,
            age_ms: now_ms.saturating_sub(joined.joined_ms),
            paused: joined.mode.reads() && !self.is_ready(joined),
            start: joined.start,
        })
    }

    /// The channels that were left, as far as there is room for their names.
    pub(super) fn left_to_announce(&self) -> Vec<ChannelName> {
        let mut bytes = 0;
        let fits = |name: &&ChannelName| {
            bytes += name.as_str().len() + 3;
            bytes <= LEFT_BYTES
        };
        let told = self.left.iter().filter(|channel| !self.parting.contains(*channel));
        told.take(MAX_CHANNELS).take_while(fits).cloned().collect()
    }

    /// What the inbox is to know of a channel.
    fn consumer(&self, channel: &ChannelName) -> Option<Consumer> {
        let joined = self.joined.get(channel).filter(|joined| joined.mode.reads())?;
        Some(if self.is_ready(joined) { Consumer::Ready } else { Consumer::Paused })
    }

    fn join(&mut self, channel: ChannelName, mut joined: Joined) {
        self.left.remove(&channel);
        self.parting.remove(&channel);
        if let Some(before) = self.joined.remove(&channel) {
            joined.paused = before.paused;
            joined.consumers = before.consumers;
            // Another handle may still send or receive in the mode in which it joined.
            if before.mode != joined.mode {
                joined.mode = Mode::ReadWrite;
            }
        }
        self.joined.insert(channel, joined);
    }

    fn leave(&mut self, channel: &ChannelName, works: bool) {
        self.joined.remove(channel);
        self.left.insert(channel.clone());
        if works {
            self.parting.insert(channel.clone());
        }
        if self.left.len() > MAX_CHANNELS {
            // Who has not heard of this one by now learns it from a refusal, and an operator can purge.
            self.left.pop_first();
        }
    }
}

impl Peers {
    /// Whether there is room for this channel, if it is another one.
    pub fn may_join(&self, channel: &ChannelName) -> Result<(), Refused> {
        match self.channels.joined.len() >= MAX_CHANNELS && !self.channels.has(channel) {
            true => Err(Refused::TooMany),
            false => Ok(()),
        }
    }

    /// The file has this channel as joined, since then by its clock.
    pub fn joined(
        &mut self,
        around: &mut Around<'_>,
        channel: ChannelName,
        (mode, start): (Mode, StartAt),
        joined_ms: u64,
    ) {
        let (paused, consumers) = (false, BTreeSet::new());
        let joined = Joined { mode, start, joined_ms, paused, consumers };
        self.channels.join(channel.clone(), joined);
        let writes = self.channels.writes(&channel);
        self.announce(around, channel.clone());
        if writes {
            self.subscribe_known(around, &channel);
        }
    }

    /// The file has this channel as left for good. Others hear of it once nothing of it is in work any more: senders purge what has no answer
    /// by then.
    pub fn left(&mut self, around: &mut Around<'_>, channel: ChannelName) {
        let works = (around.works_for)(&channel);
        self.channels.leave(&channel, works);
        self.announce(around, channel);
    }

    /// Whether a channel was left that is still in work: [`part`](Self::part) is to be said after whatever the inbox decides.
    pub fn is_parting(&self) -> bool {
        !self.channels.parting.is_empty()
    }

    /// Says which channels were left for good, once nothing of theirs is in work any more.
    pub fn part(&mut self, around: &mut Around<'_>) {
        let parting = &mut self.channels.parting;
        let before = parting.len();
        parting.retain(|channel| (around.works_for)(channel));
        if parting.len() < before {
            self.handle(around, Event::Changed);
        }
    }

    pub fn pause(
        &mut self,
        around: &mut Around<'_>,
        channel: &ChannelName,
        paused: bool,
    ) -> Result<(), Refused> {
        self.change(around, channel, |joined| joined.paused = paused)
    }

    /// Somebody takes the channel's messages, as soon as [`Effect::Consumer`] says so.
    pub fn attach(
        &mut self,
        around: &mut Around<'_>,
        channel: &ChannelName,
        consumer: ConsumerId,
    ) -> Result<(), Refused> {
        if self.channels.joined.get(channel).is_some_and(|joined| !joined.mode.reads()) {
            return Err(Refused::NotAReader);
        }
        self.change(around, channel, |joined| {
            joined.consumers.insert(consumer);
        })
    }

    /// And does so no more. The channel may have been left before.
    pub fn detach(&mut self, around: &mut Around<'_>, channel: &ChannelName, consumer: ConsumerId) {
        let _ = self.change(around, channel, |joined| {
            joined.consumers.remove(&consumer);
        });
    }

    /// Takes messages in no channel while the node is being drained, and in all again afterwards.
    pub fn hold(&mut self, around: &mut Around<'_>, held: bool) {
        self.channels.held = held;
        for channel in self.channels.names() {
            let (channel, consumer) = (channel.clone(), self.channels.consumer(channel));
            around.out.push(Effect::Consumer { channel, consumer });
        }
        self.handle(around, Event::Changed);
    }

    /// Changes a joined channel, and lets the inbox and the peers know.
    fn change(
        &mut self,
        around: &mut Around<'_>,
        channel: &ChannelName,
        change: impl FnOnce(&mut Joined),
    ) -> Result<(), Refused> {
        let before = self.channels.consumer(channel);
        change(self.channels.joined.get_mut(channel).ok_or(Refused::NotJoined)?);
        if self.channels.consumer(channel) != before {
            self.announce(around, channel.clone());
        }
        Ok(())
    }

    fn announce(&mut self, around: &mut Around<'_>, channel: ChannelName) {
        let consumer = self.channels.consumer(&channel);
        around.out.push(Effect::Consumer { channel, consumer });
        self.handle(around, Event::Changed);
    }
}
