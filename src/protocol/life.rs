//! What time a stored message lives by.
//!
//! File time counts the life of a file's messages, in milliseconds. It starts at the wall clock's time when the file is made, never goes
//! back, and from then on follows clocks that nobody sets: within one boot of the machine the time since that boot, suspended time
//! included. Between two boots the wall clock counts if it could be trusted at both ends; what nobody can know is not counted. The wall
//! clock is for showing times to people: [`Shown`] knows how far it was off in each boot.

/// Two clocks that moved apart by no more than this have not been set: 2 s.
const STEADY_MS: u64 = 2_000;
/// A new difference between both clocks is noted from here on.
const NOTED_MS: u64 = 1_000;
/// 2026-01-01T00:00:00Z. A wall clock that shows an earlier time is wrong: this program is younger.
pub const EARLIEST_MS: u64 = 1_767_225_600_000;
/// Longest time without power that a wall clock is believed: 400 days.
pub const LONGEST_GAP_MS: u64 = 400 * 86_400_000;
/// What a boot has lasted counts up to here without a wall clock that agrees: two machines can have the same identity.
pub const POWERED_MS: u64 = 10 * 60_000;
/// A clock is noted by itself only after this: an idle node must not wear out a memory card.
pub const NOTE_ALONE_MS: u64 = 10 * 60_000;
/// A row is at most so much younger than the record, which is written with every commit once it is 30 s old. More is a damaged row.
const YOUNGEST_MS: u64 = 60_000;
/// Boots whose wall clocks are remembered.
const MAX_SEGMENTS: usize = 1_000;

/// Whether a wall clock is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nothing says so.
    Unknown,
    /// It agrees with the battery-backed clock, which may be wrong itself.
    Battery,
    /// It was synchronised in this boot.
    Synchronised,
    /// It was set to another time after it had been synchronised: nobody knows which of both was right.
    Doubted,
    /// The settings say so.
    Told,
}

impl Trust {
    const ALL: [Self; 5] =
        [Self::Unknown, Self::Battery, Self::Synchronised, Self::Doubted, Self::Told];

    /// Its number in the file.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// From the number in the file.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    const fn is_full(self) -> bool {
        matches!(self, Self::Synchronised | Self::Told)
    }
}

/// Which machine it is, in which of its boots. The numbers are hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// `None`: the system does not tell.
    pub host: Option<u64>,
    /// `None`: the system does not tell.
    pub boot: Option<u64>,
    /// Times since the boot are comparable within one of these only.
    pub time_namespace: u64,
}

impl Machine {
    fn is_same_host(&self, other: &Self) -> bool {
        self.host.is_some() && self.host == other.host
    }

    fn is_same_boot(&self, other: &Self) -> bool {
        self.boot.is_some()
            && self.boot == other.boot
            && self.time_namespace == other.time_namespace
    }

    fn is_unknown_boot(&self, other: &Self) -> bool {
        self.boot.is_none() || other.boot.is_none()
    }

    /// The same machine was started since.
    fn is_rebooted(&self, before: &Self) -> bool {
        self.is_same_host(before) && !self.is_unknown_boot(before) && self.boot != before.boot
    }
}

/// What a machine's clocks say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub machine: Machine,
    /// Milliseconds since 1970 by the wall clock.
    pub wall_ms: u64,
    pub trust: Trust,
    /// Milliseconds since the boot, suspended ones included.
    pub up_ms: u64,
}

/// What the file remembers of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// File time and time since the boot, at one moment of that boot. The time between two moments is never summed up from parts.
    pub base_ms: u64,
    pub base_up_ms: u64,
    /// The last moment that was noted: file time, and the clocks.
    pub seen_ms: u64,
    pub seen: Reading,
    /// The latest time that a synchronised wall clock of this machine has shown; 0 for none.
    pub synchronised_ms: u64,
}

/// What file time was by the wall clock, from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// From this file time on.
    pub from_ms: u64,
    /// Wall time less file time.
    pub offset_ms: i64,
    pub trust: Trust,
}

/// File times as wall times, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown(Vec<Segment>);

/// How the time since the file was last used was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The file has no clock yet.
    None,
    /// Exactly: the machine has been running.
    Exact,
    /// By the wall clock.
    Wall { ms: u64 },
    /// Only as far as the machine is known to have run; `wall_ms` is what the wall clock says.
    Uncounted { counted_ms: u64, wall_ms: i64 },
}

impl Gap {
    /// How much more has passed by the wall clock than was counted; less where that is below zero.
    pub fn apart_ms(&self) -> i64 {
        match *self {
            Self::None | Self::Exact | Self::Wall { .. } => 0,
            Self::Uncounted { counted_ms, wall_ms } => wall_ms.saturating_sub_unsigned(counted_ms),
        }
    }

    /// How much more may have passed than was counted. What is told to others as an age, so that they keep messages for it, must not be
    /// too short.
    pub fn missing_ms(&self) -> u64 {
        match *self {
            Self::None | Self::Exact | Self::Wall { .. } => 0,
            Self::Uncounted { counted_ms, wall_ms } => match u64::try_from(wall_ms) {
                Ok(ms @ 0..=LONGEST_GAP_MS) => ms.saturating_sub(counted_ms),
                _ => LONGEST_GAP_MS,
            },
        }
    }
}

/// A file's clock.
#[derive(Debug, Clone)]
pub struct Life {
    base_ms: u64,
    base_up_ms: u64,
    machine: Machine,
    synchronised_ms: u64,
    shown: Shown,
}

impl Life {
    /// The clock of a file that is opened now. `kept`: what it remembers; `youngest_ms`: the file time of its youngest message.
    pub fn open(
        kept: Option<Record>,
        shown: Shown,
        youngest_ms: u64,
        now: &Reading,
    ) -> (Self, Gap) {
        let (base_ms, base_up_ms, gap) = match kept {
            None => (first(youngest_ms, now.wall_ms), now.up_ms, Gap::None),
            Some(kept) => resume(&kept, youngest_ms, now),
        };
        let same_host = kept.is_none_or(|kept| kept.seen.machine.is_same_host(&now.machine));
        let mut life = Self {
            base_ms,
            base_up_ms,
            machine: now.machine,
            synchronised_ms: kept.filter(|_| same_host).map_or(0, |kept| kept.synchronised_ms),
            shown,
        };
        if gap != Gap::Exact || life.shown.0.is_empty() {
            let file_ms = life.at(now.up_ms);
            // What was written at the last moment of the boot before is of that boot.
            let from_ms = file_ms + u64::from(kept.is_some());
            life.shown.begin(from_ms, offset(now.wall_ms, file_ms), now.trust);
        }
        life.look(now);
        (life, gap)
    }

    /// File time at this time since the boot.
    pub fn at(&self, up_ms: u64) -> u64 {
        self.base_ms.saturating_add(up_ms.saturating_sub(self.base_up_ms))
    }

    /// Looks at the wall clock. Returns whether something is to be noted. File time goes on, whatever it shows.
    pub fn look(&mut self, now: &Reading) -> bool {
        let off = offset(now.wall_ms, self.at(now.up_ms));
        let Some(line) = self.shown.0.last_mut() else { return false };
        let trust = judge(line, now.trust, off);
        if trust.is_full() {
            self.synchronised_ms = self.synchronised_ms.max(now.wall_ms);
        }
        // A clock of which nothing is known does not overrule one that was right.
        let follows = now.trust != Trust::Unknown || line.trust == Trust::Unknown;
        let changed = trust != line.trust || line.offset_ms.abs_diff(off) >= NOTED_MS;
        if follows && changed {
            (line.offset_ms, line.trust) = (off, trust);
        }
        follows && changed
    }

    /// Takes the wall clock's word, as somebody says who knows: file time goes ahead to it. Returns by how much.
    ///
    /// # Errors
    /// By how much the wall clock is behind file time, which never goes back: nothing has changed.
    pub fn believe(&mut self, now: &Reading) -> Result<u64, u64> {
        let file_ms = self.at(now.up_ms);
        let ahead_ms = now.wall_ms.checked_sub(file_ms).ok_or_else(|| file_ms - now.wall_ms)?;
        if ahead_ms > 0 {
            self.base_ms = self.base_ms.saturating_add(ahead_ms);
            // What was written before is shown as it was.
            self.shown.begin(now.wall_ms, 0, now.trust);
        }
        Ok(ahead_ms)
    }

    /// What to write into the file.
    pub fn record(&self, now: &Reading) -> Record {
        let seen_ms = self.at(now.up_ms);
        let off = offset(now.wall_ms, seen_ms);
        let trust = self.shown.0.last().map_or(now.trust, |line| judge(line, now.trust, off));
        Record {
            base_ms: self.base_ms,
            base_up_ms: self.base_up_ms,
            seen_ms,
            seen: Reading { machine: self.machine, trust, ..*now },
            synchronised_ms: self.synchronised_ms,
        }
    }

    pub fn shown(&self) -> &Shown {
        &self.shown
    }
}

impl Shown {
    /// From the file, in their order.
    pub fn new(segments: Vec<Segment>) -> Self {
        Self(segments)
    }

    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The wall clock's time at this file time, in milliseconds since 1970. What is older than all that is known is taken for a wall time.
    pub fn wall_ms(&self, file_ms: u64) -> u64 {
        let after = self.0.partition_point(|segment| segment.from_ms <= file_ms);
        let segment = after.checked_sub(1).and_then(|last| self.0.get(last));
        segment.map_or(file_ms, |segment| file_ms.saturating_add_signed(segment.offset_ms))
    }

    /// A boot begins.
    fn begin(&mut self, from_ms: u64, offset_ms: i64, trust: Trust) {
        let before = self.0.last().map(|segment| segment.offset_ms);
        let same = |before: &i64| before.abs_diff(offset_ms) < NOTED_MS;
        let offset_ms = before.filter(same).unwrap_or(offset_ms);
        if let [.., before, last] = &*self.0
            && before.offset_ms.abs_diff(last.offset_ms) <= STEADY_MS
        {
            self.0.pop();
        }
        self.0.retain(|segment| segment.from_ms < from_ms);
        self.0.push(Segment { from_ms, offset_ms, trust });
        let too_many = self.0.len().saturating_sub(MAX_SEGMENTS);
        self.0.drain(..too_many);
    }
}

fn offset(wall_ms: u64, file_ms: u64) -> i64 {
    let signed = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(wall_ms).saturating_sub(signed(file_ms))
}

/// How far a wall clock can be trusted that is off by this much in a boot of which that line is known.
fn judge(line: &Segment, reading: Trust, off: i64) -> Trust {
    let steady = line.offset_ms.abs_diff(off) <= STEADY_MS;
    match (line.trust, reading) {
        (_, Trust::Told) => Trust::Told,
        // The settings say so no more.
        (Trust::Told, other) => other,
        (Trust::Doubted, _) => Trust::Doubted,
        (known @ (Trust::Synchronised | Trust::Battery), Trust::Unknown) if steady => known,
        (Trust::Synchronised, _) if steady => Trust::Synchronised,
        // A program under a clock of its own; it says nothing of the machine's.
        (Trust::Synchronised, Trust::Unknown) => Trust::Unknown,
        (Trust::Synchronised, _) => Trust::Doubted,
        (_, other) => other,
    }
}

/// File time of a file that has no clock yet: one that is new, or that an earlier version has written, where it was the wall clock's. That of a new
/// one does not begin before this program was made, so that there is room for ages that reach back before the file.
fn first(youngest_ms: u64, wall_ms: u64) -> u64 {
    match wall_ms.checked_sub(youngest_ms) {
        Some(_) if youngest_ms == 0 => wall_ms.max(EARLIEST_MS),
        Some(since) if since <= LONGEST_GAP_MS => wall_ms,
        _ => youngest_ms,
    }
}

/// Base and gap of a file that has a clock.
fn resume(kept: &Record, youngest_ms: u64, now: &Reading) -> (u64, u64, Gap) {
    let Record { base_ms, base_up_ms, seen_ms, seen, .. } = kept;
    let floor = youngest_ms.min(seen_ms.saturating_add(YOUNGEST_MS)).max(*seen_ms);
    let wall = offset(now.wall_ms, seen.wall_ms);
    if goes_on(seen, now, wall) {
        let file_ms = base_ms.saturating_add(now.up_ms.saturating_sub(*base_up_ms));
        // It does where the file is as it was written.
        if file_ms >= floor {
            return (*base_ms, *base_up_ms, Gap::Exact);
        }
        return (floor, now.up_ms, Gap::Exact);
    }
    let believed = is_believed(kept, now);
    if let Ok(ms @ 0..=LONGEST_GAP_MS) = u64::try_from(wall)
        && believed
    {
        return (floor.max(seen_ms.saturating_add(ms)), now.up_ms, Gap::Wall { ms });
    }
    let counted_ms = match now.machine.is_rebooted(&seen.machine) {
        true => now.up_ms.min(u64::try_from(wall).unwrap_or(0).max(POWERED_MS)),
        false => 0,
    };
    let gap = Gap::Uncounted { counted_ms, wall_ms: wall };
    (floor.saturating_add(counted_ms), now.up_ms, gap)
}

/// Whether the machine has been running since.
fn goes_on(seen: &Reading, now: &Reading, wall: i64) -> bool {
    let Some(up) = now.up_ms.checked_sub(seen.up_ms) else { return false };
    if now.machine.is_same_boot(&seen.machine) {
        return true;
    }
    let up = i64::try_from(up).unwrap_or(i64::MAX);
    now.machine.is_unknown_boot(&seen.machine) && wall.abs_diff(up) <= STEADY_MS
}

/// Whether the time between two readings of the wall clock is the time that passed.
fn is_believed(kept: &Record, now: &Reading) -> bool {
    let (seen, same_host) = (&kept.seen, kept.seen.machine.is_same_host(&now.machine));
    let is_right = |reading: &Reading| {
        // Of two synchronised times, an earlier one that came later was set by a server that was wrong, or the later one was.
        let goes_on = reading.wall_ms.saturating_add(STEADY_MS) >= kept.synchronised_ms;
        // A battery-backed clock may have been set between two readings. Once synchronised, it was set before both, and has gone on since.
        let was_set = kept.synchronised_ms > 0 && same_host;
        match reading.trust {
            Trust::Told => true,
            Trust::Synchronised => goes_on,
            Trust::Battery => goes_on && was_set,
            Trust::Unknown | Trust::Doubted => false,
        }
    };
    is_right(seen) && is_right(now)
}

#[cfg(test)]
mod tests;
