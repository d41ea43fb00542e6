//! Messages whose handling began and was not seen to end, because the process ended first.
//!
//! Before messages are handed out, that is noted outside the database: what a process wrote outlives it, without an fsync. What a start finds
//! noted and not committed was in work when the last process ended. A single message that was alone in work has ended it: its next arrival is
//! answered as a failed attempt, which its sender counts like any other. Where several were in work, each is a suspect, and nothing is held
//! against it yet: it is handled again by itself, with no other beside it, so that the next end names one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Source;
use crate::message::MessageId;

/// Most notes. Messages beyond are handled without one.
pub const MAX_NOTES: usize = 1024;
/// How long the others wait for a suspect to end, and it for them to. Then it is handled beside them.
const ALONE: Duration = Duration::from_secs(10);
/// It doubles with each process that ended since, so that what takes minutes to end one is alone in the end: up to 11 minutes.
const DOUBLED: u32 = 6;
/// A single message that was in work, beside others, when so many processes in a row ended is taken to have ended them.
const SUSPICIOUS: u32 = DOUBLED + 2;

/// What an answer says of a message that ended the process.
pub const ENDED: &str = "the receiver's process ended while it handled this message";

/// What is known of messages that were handed out together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub source: Source,
    pub first: MessageId,
    pub last: MessageId,
    /// How many processes in a row ended while they were in work.
    pub ends: u32,
    pub standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Handed out.
    Begun,
    /// In work, with others, when the process ended.
    Suspect,
    /// Alone in work when the process ended.
    Blamed,
}

impl Note {
    fn is_single(&self) -> bool {
        self.first == self.last
    }

    fn covers(&self, source: &Source, id: MessageId) -> bool {
        self.source == *source && (self.first..=self.last).contains(&id)
    }
}

/// A place for a note.
pub type Slot = usize;

#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Suspects and blamed ones, of earlier processes.
    left: HashMap<Slot, Note>,
    /// Places that are in use.
    used: Vec<bool>,
    /// A suspect is in work, and nothing is begun beside it before this time.
    alone_until: Option<Instant>,
    /// A suspect waits until nothing else is in work, at most until this time.
    waits_until: Option<Instant>,
}

impl Begun {
    /// Judges what was noted, by what is committed. Returns what is to be noted instead.
    pub(super) fn new(
        noted: Vec<Note>,
        last: &HashMap<Source, MessageId>,
    ) -> (Self, Vec<(Slot, Note)>) {
        let unfinished = |note: &Note| last.get(&note.source).is_none_or(|last| *last < note.last);
        let mut notes: Vec<Note> =
            noted.into_iter().filter(unfinished).take(MAX_NOTES / 2).collect();
        let begun = notes.iter().filter(|note| note.standing == Standing::Begun).count();
        for note in notes.iter_mut().filter(|note| note.standing == Standing::Begun) {
            note.ends = note.ends.saturating_add(1);
            let ended_it = note.is_single() && (begun == 1 || note.ends >= SUSPICIOUS);
            note.standing = if ended_it { Standing::Blamed } else { Standing::Suspect };
        }
        let used = vec![true; notes.len()];
        let notes: Vec<(Slot, Note)> = notes.into_iter().enumerate().collect();
        let left = notes.iter().cloned().collect();
        (Self { left, used, ..Self::default() }, notes)
    }

    /// Nothing of an earlier process is to be thought of.
    fn is_calm(&self) -> bool {
        self.left.is_empty()
    }

    /// What is held against messages of earlier processes and was not answered yet.
    pub(super) fn left(&self) -> Vec<(Slot, Note)> {
        self.left.iter().map(|(slot, note)| (*slot, note.clone())).collect()
    }

    fn place(&mut self) -> Option<Slot> {
        let free = self.used.iter().position(|used| !used);
        let slot = free.unwrap_or(self.used.len());
        if slot >= MAX_NOTES {
            return None;
        }
        if free.is_none() {
            self.used.push(false);
        }
        self.used[slot] = true;
        Some(slot)
    }

    /// These are handed out: where to note that, and how many processes ended before while the first was in work.
    pub(super) fn begin(
        &mut self,
        source: &Source,
        (first, last): (MessageId, MessageId),
    ) -> Option<(Slot, u32)> {
        let mut ends = 0;
        let mut own = None;
        if !self.is_calm() {
            for (slot, note) in self.left.iter().filter(|(_, note)| note.covers(source, first)) {
                ends = note.ends.max(ends);
                own = own.or((note.is_single() && first == last).then_some(*slot));
            }
        }
        if let Some(slot) = own {
            // Its own place: for the time being it is a suspect no more, but begun.
            self.left.remove(&slot);
        }
        Some((own.or_else(|| self.place())?, ends))
    }

    /// What was noted there has ended, well or not.
    pub(super) fn end(&mut self, slot: Slot) {
        if let Some(used) = self.used.get_mut(slot) {
            *used = false;
        }
        self.alone_until = None;
    }

    /// This message was handled without ending the process. Places of notes that mean nothing any more.
    pub(super) fn survived(&mut self, source: &Source, id: MessageId) -> Vec<Slot> {
        if self.is_calm() {
            return Vec::new();
        }
        let is_over = |note: &Note| note.source == *source && note.last <= id;
        let over: Vec<Slot> =
            self.left.iter().filter(|(_, note)| is_over(note)).map(|(slot, _)| *slot).collect();
        for slot in &over {
            self.left.remove(slot);
            self.end(*slot);
        }
        over
    }

    /// Whether this message ended the process. Where its note is.
    pub(super) fn blamed(&self, source: &Source, id: MessageId) -> Option<Slot> {
        if self.is_calm() {
            return None;
        }
        let is_it = |note: &Note| note.standing == Standing::Blamed && note.covers(source, id);
        self.left.iter().find(|(_, note)| is_it(note)).map(|(slot, _)| *slot)
    }

    /// It is answered so, and that is all that is held against it.
    pub(super) fn answered(&mut self, slot: Slot) {
        self.left.remove(&slot);
        self.end(slot);
    }

    pub(super) fn is_suspect(&self, source: &Source, id: MessageId) -> bool {
        !self.is_calm()
            && self.left.values().any(|n| n.standing == Standing::Suspect && n.covers(source, id))
    }

    /// When a suspect is not alone any more, or waits no longer.
    pub(super) fn look_at(&mut self, now: Instant) -> Option<Instant> {
        self.alone_until.take_if(|until| *until <= now);
        self.waits_until.take_if(|until| *until <= now);
        self.alone_until.into_iter().chain(self.waits_until).min()
    }

    fn alone(&self) -> Duration {
        let ends = self.left.values().map(|note| note.ends).max().unwrap_or(0);
        ALONE * 2_u32.pow(ends.saturating_sub(1).min(DOUBLED))
    }

    /// Whether a message may be handed out now, where so many others are in work; else, when to look again.
    pub(super) fn may_begin(
        &mut self,
        now: Instant,
        is_suspect: bool,
        running: usize,
    ) -> Result<(), Instant> {
        if let Some(until) = self.alone_until.filter(|until| running > 0 && *until > now) {
            return Err(until);
        }
        self.alone_until = None;
        let alone = self.alone();
        if !is_suspect {
            return Ok(());
        }
        if running > 0 {
            let until = *self.waits_until.get_or_insert(now + alone);
            if until > now {
                return Err(until);
            }
        } else {
            self.alone_until = Some(now + alone);
        }
        self.waits_until = None;
        Ok(())
    }
}
