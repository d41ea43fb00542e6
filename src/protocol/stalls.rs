//! Why messages don't move, from a look at a node; and when that is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::report::About;
use crate::message::{ChannelName, MessageId, NodeId};
use crate::reason::{self, Reason};

/// A look at a node.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What hinders the node itself.
    pub node: Vec<Reason>,
    /// Whether it looks for a connection, whatever the reason is called.
    pub no_link: bool,
    /// What waits, by receiver and channel.
    pub waiting: Vec<Waiting>,
    /// How many messages may wait for one receiver, where more are refused.
    pub limit: Option<u64>,
}

/// What waits for one receiver in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `None`: the channel's first reader, yet to come.
    pub receiver: Option<NodeId>,
    pub channel: ChannelName,
    pub pending: u64,
    pub standing: Standing,
}

/// How it is between this node and a receiver, in one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is in the way.
    Moving,
    NeverHeard,
    Offline {
        heard_ms_ago: u64,
    },
    NotJoined,
    Paused,
    /// The receiver has the message at the front and says that it is busy with it.
    Working {
        id: MessageId,
    },
    /// The message at the front was refused.
    Refused {
        id: MessageId,
        attempts: u32,
    },
    /// The message at the front was sent so often without an answer.
    Unanswered {
        id: MessageId,
        attempts: u32,
    },
}

/// All reasons, the most important first. While the node is cut off, nothing is said of its receivers: it knows nothing of them.
pub fn reasons(snapshot: Snapshot) -> Vec<Reason> {
    let Snapshot { node: mut reasons, no_link, waiting, limit } = snapshot;
    let cut_off = no_link || reasons.iter().any(Reason::cuts_off);
    let mut totals: BTreeMap<Audience<'_>, u64> = BTreeMap::new();
    for waiting in &waiting {
        *totals.entry(audience(waiting)).or_default() += waiting.pending;
    }
    for ((receiver, _), waiting) in &totals {
        let (receiver, waiting) = (receiver.cloned(), *waiting);
        if let Some(limit) = limit.filter(|limit| waiting >= *limit) {
            reasons.push(Reason::QueueFull { receiver, waiting, limit });
        }
    }
    if !cut_off {
        let total = |waiting: &Waiting| totals[&audience(waiting)];
        reasons.extend(waiting.iter().filter_map(|waiting| stall(waiting, total(waiting))));
    }
    reason::sort(&mut reasons);
    reasons.dedup_by(|a, b| a.is_about_the_same(b));
    reasons
}

/// What a server has refused, alike with alike.
pub fn refusals(said: &[String]) -> impl Iterator<Item = Reason> {
    let mut refused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for said in said {
        refused.entry(Reason::refused(said.clone()).name()).or_default().push(said);
    }
    refused.into_values().map(|alike| Reason::refused(alike.join("; ")))
}

/// Leaves what is about these messages: also what hinders the node itself.
pub fn keep_about(reasons: &mut Vec<Reason>, about: &About) {
    let receivers: BTreeSet<&NodeId> = about.receivers.iter().take(About::MOST_RECEIVERS).collect();
    reasons.retain(|reason| {
        reason.channel().is_none_or(|channel| *channel == about.channel)
            && reason.receiver().is_none_or(|receiver| receivers.contains(receiver))
    });
}

/// For whom the queue limit counts: a receiver, or a channel's first reader.
type Audience<'a> = (Option<&'a NodeId>, Option<&'a ChannelName>);

fn audience(waiting: &Waiting) -> Audience<'_> {
    let channel = waiting.receiver.is_none().then_some(&waiting.channel);
    (waiting.receiver.as_ref(), channel)
}

/// Why what waits here does not move. `total`: what waits for this receiver in all channels.
fn stall(waiting: &Waiting, total: u64) -> Option<Reason> {
    let Waiting { receiver, channel, pending, standing } = waiting.clone();
    if pending == 0 {
        return None;
    }
    let Some(receiver) = receiver else {
        return Some(Reason::NobodyYet { waiting: pending, channel });
    };
    let waiting = pending;
    Some(match standing {
        Standing::Moving => return None,
        Standing::NeverHeard => Reason::NeverHeard { receiver, waiting: total },
        Standing::Offline { heard_ms_ago } => {
            Reason::Offline { receiver, waiting: total, heard_ms_ago }
        }
        Standing::NotJoined => Reason::NotJoined { receiver, waiting, channel },
        Standing::Paused => Reason::Paused { receiver, waiting, channel },
        Standing::Working { id } => Reason::Working { receiver, waiting, channel, id },
        Standing::Refused { id, attempts } => {
            Reason::Refusing { receiver, waiting, channel, id, attempts: attempts.into() }
        }
        Standing::Unanswered { id, attempts } => {
            Reason::NoAnswer { receiver, waiting, channel, id, attempts: attempts.into() }
        }
    })
}

/// How long something that often passes by itself has to last before it is told.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// A handler may take its time.
const LONG_PATIENCE: Duration = Duration::from_secs(60);
/// Least time between two tellings of the same.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Most reasons that are told in [`AGAIN_AFTER`]: of a thousand receivers all may be offline.
const MOST: usize = 20;

/// To be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Begins(Reason),
    Ends(Reason),
}

type Key = (usize, Option<NodeId>, Option<ChannelName>);

/// What has been told: each reason once when it begins and once when it ends, and only so many a minute.
#[derive(Debug, Default)]
pub struct Telling {
    known: BTreeMap<Key, Known>,
    /// When the last ones were told.
    told: Vec<Instant>,
    /// At the last look.
    was_cut_off: bool,
}

#[derive(Debug)]
struct Known {
    reason: Reason,
    since: Instant,
    /// It holds now.
    holds: bool,
    /// It was told that it began, and not yet that it ended.
    told: bool,
    /// Not to be told again before this time.
    again_at: Option<Instant>,
}

impl Telling {
    /// Takes what holds now, and says what is to be told. `no_link`: the node looks for a connection, whatever the reason is called.
    pub fn look(&mut self, now: Instant, no_link: bool, reasons: &[Reason]) -> Vec<News> {
        let no_link = no_link || reasons.iter().any(Reason::is_about_the_link);
        let cut_off = no_link || reasons.iter().any(Reason::cuts_off);
        self.take(now, cut_off, reasons);
        let mut news = Vec::new();
        let is_of_a_link =
            |reason: &Reason| reason.is_about_the_link() || reason.is_of_the_server();
        for known in self.known.values_mut().filter(|known| known.told && !known.holds) {
            known.told = false;
            // One reason for which there is no connection has become another.
            if !(no_link && is_of_a_link(&known.reason)) {
                news.push(News::Ends(known.reason.clone()));
            }
        }
        self.told.retain(|told| *told + AGAIN_AFTER > now);
        for known in self.known.values_mut().filter(|known| known.holds && !known.told) {
            if known.due_at() <= now && self.told.len() < MOST && !known.is_hidden(cut_off) {
                self.told.push(now);
                known.told = true;
                known.again_at = Some(now + AGAIN_AFTER);
                news.push(News::Begins(known.reason.clone()));
            }
        }
        self.known.retain(|_, known| known.holds || known.again_at.is_some_and(|at| at > now));
        news
    }

    fn take(&mut self, now: Instant, cut_off: bool, reasons: &[Reason]) {
        // Those are told at each of their marks, by who looks after them.
        let is_told_elsewhere =
            |it: &&Reason| matches!(it, Reason::LimitNear { .. } | Reason::StorageNear { .. });
        let here = reasons.iter().filter(|it| !is_told_elsewhere(it));
        let mut current: BTreeMap<Key, &Reason> = here.map(|it| (key(it), it)).collect();
        for (key, known) in &mut self.known {
            let is_hidden = known.is_hidden(cut_off);
            let held = known.holds;
            known.holds = held && is_hidden;
            if let Some(reason) = current.remove(key) {
                known.reason = reason.clone();
                known.holds = true;
            }
            if !held || known.is_hidden(cut_off || self.was_cut_off) {
                known.since = now;
            }
        }
        self.was_cut_off = cut_off;
        for (key, reason) in current {
            let reason = reason.clone();
            let known = Known { reason, since: now, holds: true, told: false, again_at: None };
            self.known.insert(key, known);
        }
    }

    /// When to look again, if nothing changes before.
    pub fn wake_at(&self) -> Option<Instant> {
        let due = self.known.values().filter(|known| known.holds && !known.told);
        let room_at = self.told.first().filter(|_| self.told.len() >= MOST);
        let room_at = room_at.map(|first| *first + AGAIN_AFTER);
        due.map(Known::due_at).min().map(|due| due.max(room_at.unwrap_or(due)))
    }
}

impl Known {
    /// Whether nothing is known of it at present, so that what was known goes on.
    fn is_hidden(&self, cut_off: bool) -> bool {
        cut_off && self.reason.is_about_a_receiver()
    }

    fn due_at(&self) -> Instant {
        let due = self.since + patience(&self.reason);
        self.again_at.map_or(due, |at| due.max(at))
    }
}

fn key(reason: &Reason) -> Key {
    let (rank, receiver, channel) = reason.key();
    (rank, receiver.cloned(), channel.cloned())
}

/// A receiver that is away for a moment is nothing to tell.
fn patience(reason: &Reason) -> Duration {
    match reason {
        Reason::QueueFull { .. } => Duration::ZERO,
        Reason::Working { .. } => LONG_PATIENCE,
        Reason::NoQuorum { .. } | Reason::PausedHere { .. } => PATIENCE,
        reason if reason.is_about_a_receiver() => PATIENCE,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
