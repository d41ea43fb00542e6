//! Whether the link lives: what we publish to ourselves has to come back.
//!
//! What comes in proves nothing about the way out, and the client's own pings begin anew with each thing that comes in. So a token
//! goes to ourselves through the server where nothing of ours has come back for a while, and its silence counts. Bytes that move while
//! it waits are life, since a slow link works through what lies before the token.

use std::time::{Duration, Instant};

/// Without a proof for this long, a token is sent.
const PROOF_EVERY: Duration = Duration::from_secs(5);
/// A token that is unanswered for this long, while no bytes move, shows that the link is dead.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Two looks are a quarter of a second apart. If it was longer than this, the process itself stood still.
const STANDSTILL: Duration = Duration::from_secs(2);
/// So many bytes between two looks that complete no frame are part of a large one.
const PART: u64 = 256;

/// What is seen of a link at a look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) in_bytes: u64,
    pub(super) in_messages: u64,
    /// Bytes that the client has, and those that it has put into the socket.
    pub(super) unwritten: i64,
    pub(super) written: i64,
}

/// One connection's life.
pub(super) struct Life {
    /// When the newest thing left that came back.
    proven: Instant,
    /// When bytes were last seen to move, beside frames that end.
    moved: Instant,
    looked: Instant,
    seen: Seen,
}

impl Life {
    /// A connection that has just been proven.
    pub(super) fn new(now: Instant) -> Self {
        Self { proven: now, moved: now, looked: now, seen: Seen::default() }
    }

    /// What left at this time has come back.
    pub(super) fn proven(&mut self, sent: Instant) {
        self.proven = self.proven.max(sent);
    }

    /// Something else shows that silence means nothing: frames that came were dropped, the token perhaps among them.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.moved = now;
    }

    /// `oldest`: when the oldest token without an answer left.
    pub(super) fn look(&mut self, now: Instant, seen: Seen, oldest: Option<Instant>) {
        let before = std::mem::replace(&mut self.seen, seen);
        let drains = before.unwritten > 0 && seen.written > before.written;
        let fills = seen.in_messages == before.in_messages
            && seen.in_bytes.saturating_sub(before.in_bytes) >= PART;
        let since = now.duration_since(self.looked);
        if drains || fills {
            self.moved = now;
        } else if since >= STANDSTILL {
            // That time is no silence of the link's; what it was silent before still is, or a busy machine would never find it dead.
            let silent_from = oldest.map_or(self.moved, |sent| sent.max(self.moved));
            self.moved = now.min(silent_from + since);
        }
        self.looked = now;
    }

    /// Whether it is time for a token, the newest of which left at this time.
    pub(super) fn is_due(&self, now: Instant, newest: Option<Instant>) -> bool {
        let last = newest.map_or(self.proven, |sent| sent.max(self.proven));
        now.duration_since(last) >= PROOF_EVERY
    }

    /// Whether the link is dead, when the oldest token without an answer left at this time.
    pub(super) fn is_over(&self, now: Instant, oldest: Option<Instant>) -> bool {
        oldest.is_some_and(|sent| now.duration_since(sent.max(self.moved)) >= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(250);

    /// Looks for so long, with what is seen each time; whether the link is over then.
    fn watch(
        life: &mut Life,
        from: Instant,
        time: Duration,
        mut seen: impl FnMut() -> Seen,
    ) -> bool {
        let mut now = from;
        while now < from + time {
            now += LOOK;
            life.look(now, seen(), Some(from));
            if life.is_over(now, Some(from)) {
                return true;
            }
        }
        false
    }

    #[test]
    fn what_comes_in_is_no_answer() {
        let now = Instant::now();
        let mut life = Life::new(now);
        assert!(!life.is_due(now, None) && life.is_due(now + PROOF_EVERY, None));
        assert!(!life.is_due(now + PROOF_EVERY, Some(now + LOOK)));
        life.proven(now + LOOK);
        assert!(!life.is_due(now + PROOF_EVERY, None));
        let mut seen = Seen::default();
        let over = watch(&mut life, now, PATIENCE + LOOK, || {
            seen.in_bytes += 4_000;
            seen.in_messages += 10;
            seen
        });
        assert!(over);
    }

    #[test]
    fn bytes_that_move_are_life() {
        let now = Instant::now();
        let mut seen = Seen { unwritten: 50_000, ..Seen::default() };
        let over = watch(&mut Life::new(now), now, 10 * PATIENCE, || {
            seen.written += 100;
            seen
        });
        assert!(!over, "what is unwritten is written little by little");
        let mut seen = Seen::default();
        let over = watch(&mut Life::new(now), now, 10 * PATIENCE, || {
            seen.in_bytes += 500;
            seen
        });
        assert!(!over, "a large frame comes in");
        let stuck = Seen { unwritten: 50_000, ..Seen::default() };
        assert!(watch(&mut Life::new(now), now, PATIENCE + 2 * LOOK, || stuck));
    }

    #[test]
    fn a_process_that_stood_still_does_not_blame_the_link() {
        let now = Instant::now();
        let mut life = Life::new(now);
        life.look(now + 10 * PATIENCE, Seen::default(), Some(now));
        assert!(!life.is_over(now + 10 * PATIENCE, Some(now)));
        assert!(life.is_over(now + 11 * PATIENCE, Some(now)));
        // One that stands still again and again finds out all the same.
        let (mut now, mut life, sent) = (now, Life::new(now), now);
        let mut looks = 0;
        while !life.is_over(now, Some(sent)) {
            now += if looks % 4 == 0 { 2 * STANDSTILL } else { LOOK };
            life.look(now, Seen::default(), Some(sent));
            looks += 1;
            assert!(looks < 100, "never");
        }
        assert!(looks >= 40, "{looks}");
    }
}
