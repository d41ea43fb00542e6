//! The file's clock, running: what [`life`](crate::protocol::life) decides, with the machine's clocks and the rows that keep it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::life::{
    Gap, Life, Machine, NOTE_ALONE_MS, Reading, Record, Segment, Shown, Trust,
};

mod machine;
pub(super) mod rows;

pub(crate) use machine::SystemTime;

/// A wall clock that moved by more than this against the machine's own is told of.
const JUMP_MS: u64 = 60_000;
/// A wall clock that is further from what is known to have passed is told of as long as it is: an hour.
pub(crate) const APART_MS: i64 = 3_600_000;
/// Half of the 366 days by which an id may be ahead of file time before it is not believed.
const ID_AHEAD_MS: u64 = 183 * 86_400_000;
/// One that moved by more than this is looked at more closely.
const STEP_MS: u64 = 2_000;
/// With a commit, the clock is noted once it was noted so long ago.
const NOTE_WITH_OTHERS_MS: u64 = 30_000;

/// Where time comes from; tests move it by hand.
pub(crate) trait TimeSource: Send + Sync + 'static {
    /// Milliseconds since 1970 by the wall clock.
    fn wall_ms(&self) -> u64;
    /// Milliseconds since the machine was started, suspended ones included.
    fn up_ms(&self) -> u64;
    /// Which machine it is, in which boot.
    fn machine(&self) -> Machine;
    /// Whether that wall time is right. May look into files.
    fn trust(&self, wall_ms: u64) -> Trust;
}

/// All that a source says now.
pub(crate) fn reading(source: &dyn TimeSource) -> Reading {
    let wall_ms = source.wall_ms();
    Reading {
        machine: source.machine(),
        wall_ms,
        trust: source.trust(wall_ms),
        up_ms: source.up_ms(),
    }
}

/// What a file remembers of its clock.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) record: Option<Record>,
    pub(crate) shown: Shown,
    /// There is a row, and it is not as it was written.
    pub(crate) damaged: bool,
}

pub(crate) struct Clock {
    source: Box<dyn TimeSource>,
    base_ms: AtomicU64,
    base_up_ms: u64,
    /// From here on times are shown with this difference.
    line_from_ms: AtomicU64,
    line_offset_ms: AtomicI64,
    noted_ms: AtomicU64,
    /// Something other than the time is to be noted.
    news: AtomicBool,
    state: Mutex<State>,
}

struct State {
    life: Life,
    machine: Machine,
    trust: Trust,
    /// Since the boot, when the signs of it were looked at.
    trust_up_ms: u64,
    /// By how much the wall clock was off when it was looked at, and when that was last told.
    off_ms: i64,
    told_ms: i64,
    /// By how much it would be off if all that it says had passed were counted.
    agreed_ms: i64,
}

impl Clock {
    /// The clock of a file that is opened now; `youngest_ms` is the time of its youngest message. And how the time since it was used last
    /// was counted.
    pub(crate) fn start(source: Box<dyn TimeSource>, kept: Kept, youngest_ms: u64) -> (Self, Gap) {
        let now = reading(&*source);
        let noted_ms = kept.record.map(|record| record.seen_ms);
        let before = kept.shown.segments().last().copied();
        let (life, gap) = Life::open(kept.record, kept.shown, youngest_ms, &now);
        let file_ms = life.at(now.up_ms);
        let line = last(&life);
        let off_ms = off(now.wall_ms, file_ms);
        let clock = Self {
            base_ms: AtomicU64::new(file_ms),
            base_up_ms: now.up_ms,
            line_from_ms: AtomicU64::new(line.from_ms),
            line_offset_ms: AtomicI64::new(line.offset_ms),
            noted_ms: AtomicU64::new(noted_ms.unwrap_or(0)),
            news: AtomicBool::new(gap != Gap::Exact || before != Some(line)),
            state: Mutex::new(State {
                life,
                machine: now.machine,
                trust: now.trust,
                trust_up_ms: now.up_ms,
                off_ms,
                told_ms: off_ms,
                agreed_ms: off_ms.saturating_sub(gap.apart_ms()),
            }),
            source,
        };
        (clock, gap)
    }

    /// The file's time in milliseconds. Never goes back, whatever the wall clock does.
    pub(crate) fn now_ms(&self) -> u64 {
        self.at(self.source.up_ms())
    }

    /// As [`Life::at`]; what is counted in one process is the same from any moment of the boot.
    fn at(&self, up_ms: u64) -> u64 {
        let base_ms = self.base_ms.load(Ordering::Relaxed);
        base_ms.saturating_add(up_ms.saturating_sub(self.base_up_ms))
    }

    /// A file time as the wall clock's, for people.
    pub(crate) fn wall_ms(&self, file_ms: u64) -> u64 {
        if file_ms >= self.line_from_ms.load(Ordering::Relaxed) {
            return file_ms.saturating_add_signed(self.line_offset_ms.load(Ordering::Relaxed));
        }
        self.state().life.shown().wall_ms(file_ms)
    }

    /// The time for a message's id. That is the wall clock's where that is ahead, within what anybody believes of an id: after a
    /// backup was restored, file time may be behind ids that the lost part of the file gave out.
    pub(crate) fn id_ms(&self, file_ms: u64) -> u64 {
        let ahead = u64::try_from(self.line_offset_ms.load(Ordering::Relaxed)).unwrap_or(0);
        if ahead <= ID_AHEAD_MS { file_ms.saturating_add(ahead) } else { file_ms }
    }

    /// How far the wall clock is ahead of what is known to have passed, as it was looked at last: since this file was used before, and by what
    /// it was set since. None where that is little, and where it shows what cannot be.
    pub(crate) fn apart_ms(&self) -> Option<i64> {
        let state = self.state();
        let by_ms = state.off_ms.saturating_sub(state.agreed_ms);
        (by_ms.unsigned_abs() > APART_MS.unsigned_abs()).then_some(by_ms)
    }

    /// Looks at the wall clock. Returns how far it has jumped since that was last told, if that is worth telling.
    pub(crate) fn look(&self) -> Option<i64> {
        let mut state = self.state();
        self.look_at(&mut state, false);
        let by = state.off_ms.saturating_sub(state.told_ms);
        (by.unsigned_abs() > JUMP_MS).then(|| {
            state.told_ms = state.off_ms;
            by
        })
    }

    /// As [`Life::believe`]. To be noted with the next commit.
    pub(crate) fn believe(&self) -> Result<u64, u64> {
        let mut state = self.state();
        let now = self.look_at(&mut state, true);
        let ahead_ms = state.life.believe(&now)?;
        let line = last(&state.life);
        self.base_ms.fetch_add(ahead_ms, Ordering::Relaxed);
        self.line_from_ms.store(line.from_ms, Ordering::Relaxed);
        self.line_offset_ms.store(line.offset_ms, Ordering::Relaxed);
        state.off_ms = off(now.wall_ms, self.at(now.up_ms));
        (state.told_ms, state.agreed_ms) = (state.off_ms, state.off_ms);
        self.news.store(true, Ordering::SeqCst);
        Ok(ahead_ms)
    }

    fn look_at(&self, state: &mut State, closely: bool) -> Reading {
        let (wall_ms, up_ms) = (self.source.wall_ms(), self.source.up_ms());
        let off_ms = off(wall_ms, self.at(up_ms));
        let stepped = off_ms.abs_diff(state.off_ms) > STEP_MS;
        if closely || stepped || up_ms.saturating_sub(state.trust_up_ms) >= NOTE_ALONE_MS {
            (state.trust, state.trust_up_ms) = (self.source.trust(wall_ms), up_ms);
        }
        state.off_ms = off_ms;
        let now = Reading { machine: state.machine, wall_ms, trust: state.trust, up_ms };
        if state.life.look(&now) {
            self.line_offset_ms.store(last(&state.life).offset_ms, Ordering::Relaxed);
            self.news.store(true, Ordering::SeqCst);
        }
        now
    }

    /// Whether to note the clock now: with what is `committed` anyway, or alone.
    pub(crate) fn is_due(&self, now_ms: u64, committed: bool) -> bool {
        let since = now_ms.saturating_sub(self.noted_ms.load(Ordering::Relaxed));
        let pause = if committed { NOTE_WITH_OTHERS_MS } else { NOTE_ALONE_MS };
        since >= pause || self.news.load(Ordering::SeqCst)
    }

    /// What to write into the file. `closely`: with another look whether the wall clock is right.
    pub(crate) fn note(&self, closely: bool) -> Note {
        let mut state = self.state();
        let now = self.look_at(&mut state, closely);
        Note { record: state.life.record(&now), segment: last(&state.life) }
    }

    /// All that is remembered of the wall clock.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        self.state().life.shown().segments().to_vec()
    }

    /// This stands in the file.
    pub(crate) fn noted(&self, note: &Note) {
        self.noted_ms.store(note.record.seen_ms, Ordering::Relaxed);
        // What came up since is noted with the next.
        self.news.store(last(&self.state().life) != note.segment, Ordering::SeqCst);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is written of a clock that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Note {
    pub(crate) record: Record,
    /// The last one, which may be corrected.
    pub(crate) segment: Segment,
}

fn last(life: &Life) -> Segment {
    let none = Segment { from_ms: 0, offset_ms: 0, trust: Trust::Unknown };
    life.shown().segments().last().copied().unwrap_or(none)
}

fn off(wall_ms: u64, file_ms: u64) -> i64 {
    let signed = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(wall_ms).saturating_sub(signed(file_ms))
}

#[cfg(test)]
pub(crate) mod hand;
