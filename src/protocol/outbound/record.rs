//! Bringing into the file what has been settled and which attempts failed: at once where somebody waits for it, all else in a while.

use std::time::{Duration, Instant};

use super::{Around, Effect, Event, Outbound};
use crate::protocol::settling::{Attempt, Run, Settled, Settling};

/// By when much that is settled is on record, or what somebody waits for.
const SOON: Duration = Duration::from_millis(50);
/// By when little is: after a crash it would be sent again, to receivers that know it. Fewer commits spare the disk.
const LATER: Duration = Duration::from_secs(2);
/// When to try again what the file refused.
const AGAIN: Duration = Duration::from_millis(500);
/// Attempts that may wait to be written. What is beyond that on a full disk is missing in the file: who looks why a message is late, or how often
/// it was tried before a restart, sees fewer.
const MAX_ATTEMPTS: usize = 10_000;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    #[default]
    Nothing,
    Later,
    Now,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    attempts: Vec<Attempt>,
    /// What the file was given with the runs, while it has not answered.
    writing: Option<Vec<Attempt>>,
    /// What the decision that is being made wants.
    wish: Wish,
    /// All that waits is wanted at once, if not with what is being written then after it.
    asked: bool,
    due: Option<Instant>,
    /// The file did not take it the last time.
    refused: bool,
}

impl<B: Clone> Outbound<B> {
    /// A run was added to what is to be written.
    pub(super) fn settled(&mut self, around: &Around<'_>, run: &Run) {
        let is_last = !self.is_busy_with(&run.receiver);
        let now = around.settling.is_urgent() || (is_last && around.awaited);
        self.wish(if now { Wish::Now } else { Wish::Later });
    }

    /// An attempt that failed counts, also if this process is ended by the next message that it handles itself: it is written at once.
    pub(super) fn attempted(&mut self, attempt: Attempt) {
        self.note(attempt);
        self.record.asked = true;
        self.wish(Wish::Now);
    }

    pub(super) fn unanswered(&mut self, attempt: Attempt) {
        self.note(attempt);
        self.wish(Wish::Later);
    }

    fn note(&mut self, attempt: Attempt) {
        if self.record.attempts.len() < MAX_ATTEMPTS {
            self.record.attempts.push(attempt);
        }
    }

    fn wish(&mut self, wish: Wish) {
        self.record.wish = self.record.wish.max(wish);
    }

    /// At the end of every decision.
    pub fn finish(&mut self, around: &mut Around<'_>) {
        match std::mem::take(&mut self.record.wish) {
            // The answer looks at what came meanwhile.
            _ if self.record.writing.is_some() => {}
            Wish::Nothing => {}
            Wish::Later => self.record_later(around),
            Wish::Now => self.write(around),
        }
    }

    /// Somebody asks for all of it to be on record, or its time has come: at once, or with what is asked for when the file has answered.
    pub fn record(&mut self, around: &mut Around<'_>) {
        match self.record.writing {
            Some(_) => self.record.asked = true,
            None => self.write(around),
        }
    }

    fn write(&mut self, around: &mut Around<'_>) {
        let record = &mut self.record;
        let (runs, attempts) = (around.settling.take(), std::mem::take(&mut record.attempts));
        record.writing = Some(attempts.clone());
        (record.asked, record.refused) = (false, false);
        if record.due.take().is_some() {
            around.out.push(Effect::RecordAt { at: None });
        }
        around.out.push(Effect::Record { runs, attempts });
    }

    fn record_later(&mut self, around: &mut Around<'_>) {
        let (record, many) = (&mut self.record, around.settling.is_many());
        if record.due.is_some() && (!many || record.refused) {
            return;
        }
        let pause = if many || around.awaited || around.tight { SOON } else { LATER };
        let at = around.now.mono + pause;
        if record.due.is_none_or(|due| at < due) {
            record.due = Some(at);
            around.out.push(Effect::RecordAt { at: Some(at) });
        }
    }

    /// What was to be written is in the file, and what waited for it goes on; or the file did not take it.
    pub fn recorded(&mut self, around: &mut Around<'_>, taken: bool) {
        let attempts = self.record.writing.take().unwrap_or_default();
        if !taken {
            around.settling.failed();
            self.record.attempts.splice(0..0, attempts);
            let at = around.now.mono + AGAIN;
            (self.record.refused, self.record.due) = (true, Some(at));
            return around.out.push(Effect::RecordAt { at: Some(at) });
        }
        for Run { receiver, topic, last_seq: up_to_seq, how, .. } in around.settling.written() {
            if how != Settled::Acknowledged {
                self.deliver(around, &receiver, Event::Recorded { topic, up_to_seq });
            }
        }
        let waits = !around.settling.is_empty() || !self.record.attempts.is_empty();
        let awaited = waits && around.awaited && !self.is_busy();
        if self.record.asked || around.settling.is_urgent() || awaited {
            self.wish(Wish::Now);
        } else if waits {
            self.wish(Wish::Later);
        }
    }

    /// All that is not on record, at the end of the process.
    pub fn unrecorded(&mut self, around: &mut Around<'_>) -> (Vec<Run>, Vec<Attempt>) {
        let mut attempts = self.record.writing.take().unwrap_or_default();
        attempts.append(&mut self.record.attempts);
        (around.settling.take(), attempts)
    }

    /// Whether the file knows all there is to know, and has answered.
    pub fn is_recorded(&self, settling: &Settling) -> bool {
        let record = &self.record;
        record.writing.is_none() && record.attempts.is_empty() && settling.is_empty()
    }
}
