//! The file's times as people read them: by the wall clock, as far as it was right.

use rusqlite::Connection;

use super::{
    AuditEntry, DeadLetter, Failure, InboxSpan, InspectError, Inspector, Oldest, QueueRow,
    ReceiverState, ReceiverStory, Story, Summary,
};
use crate::protocol::life::{Life, Shown};
use crate::store::clock::{self, TimeSource as _};
use crate::store::meta::last_created_ms;
use crate::store::migrate::user_version;

/// The first schema with a clock.
const WITH_CLOCK: i64 = 4;

/// What the file's clock would show if a node were started on it now.
struct Times {
    shown: Shown,
    now_ms: u64,
}

impl Times {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let source = clock::SystemTime::default();
        let unknown = Self { shown: Shown::default(), now_ms: source.wall_ms() };
        if user_version(connection)? < WITH_CLOCK {
            return Ok(unknown);
        }
        let kept = clock::rows::read(connection)?;
        if kept.record.is_none() {
            return Ok(unknown);
        }
        let youngest_ms = last_created_ms(connection).unwrap_or(0);
        let now = clock::reading(&source);
        let (life, _) = Life::open(kept.record, kept.shown, youngest_ms, &now);
        Ok(Self { now_ms: life.at(now.up_ms), shown: life.shown().clone() })
    }

    fn wall_ms(&self, file_ms: u64) -> u64 {
        self.shown.wall_ms(file_ms)
    }
}

impl Inspector {
    /// The present, in milliseconds since 1970, on the scale of all times that this shows: what happened at such a time is this much
    /// less old, also where the machine's wall clock is wrong.
    ///
    /// # Errors
    /// An [`OpenError`](crate::store::open::OpenError) where the file cannot be read.
    pub fn now_ms(&self) -> Result<u64, InspectError> {
        let times = self.read("reading its clock", Times::read)?;
        Ok(times.wall_ms(times.now_ms))
    }

    /// As [`Inspector::read`], with all times in what was read as wall times.
    pub(super) fn read_timed<R: Timed>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<R>,
    ) -> Result<R, InspectError> {
        self.read(operation, |connection| {
            let mut found = read(connection)?;
            let times = Times::read(connection)?;
            found.each(&|time| *time = times.wall_ms(*time));
            Ok(found)
        })
    }
}

/// Something with times in it.
pub(super) trait Timed {
    fn each(&mut self, change: &dyn Fn(&mut u64));
}

impl<T: Timed> Timed for Vec<T> {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        self.iter_mut().for_each(|it| it.each(change));
    }
}

impl<T: Timed> Timed for Option<T> {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        self.iter_mut().for_each(|it| it.each(change));
    }
}

impl Timed for u64 {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        change(self);
    }
}

impl Timed for AuditEntry {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        self.at_ms.each(change);
    }
}

impl Timed for Failure {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        self.at_ms.each(change);
    }
}

impl Timed for InboxSpan {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        self.at_ms.each(change);
    }
}

impl Timed for Oldest {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        self.created_ms.each(change);
    }
}

impl Timed for Summary {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        self.created_ms.each(change);
    }
}

impl Timed for DeadLetter {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        self.created_ms.each(change);
        self.died_ms.each(change);
    }
}

impl Timed for QueueRow {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        self.oldest.each(change);
        self.last_failure.each(change);
    }
}

impl Timed for ReceiverStory {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        if let ReceiverState::Settled { at_ms, .. } = &mut self.state {
            at_ms.each(change);
        }
        self.failures.each(change);
        self.dead_letter.each(change);
    }
}

impl Timed for Story {
    fn each(&mut self, change: &dyn Fn(&mut u64)) {
        if let Some(accepted) = &mut self.accepted {
            accepted.created_ms.each(change);
            accepted.expires_ms.each(change);
        }
        self.receivers.each(change);
        self.received.each(change);
    }
}
