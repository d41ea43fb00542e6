//! Two live nodes with one name: the younger stands back.

use std::time::{Duration, Instant};

use super::{Action, Membership};
use crate::protocol::frame::Keepalive;

/// How long after first coming up an older node of our name is believed to be the rightful one.
pub const PROBE: Duration = Duration::from_secs(2);
/// Ages that differ by less are taken for equal: more than a frame is under way. Shorter than `PROBE`, so that of two that are
/// about as old both still probe.
pub(super) const SAME_AGE: Duration = Duration::from_secs(1);

impl Membership {
    /// A keepalive under our own name: our own, come back, or that of another node.
    pub(super) fn own_name(&mut self, now: Instant, keepalive: &Keepalive, out: &mut Vec<Action>) {
        if keepalive.incarnation == self.incarnation || keepalive.goodbye {
            return;
        }
        // Only a node that speaks of us is surely alive: a keepalive can come late, from a run of ours that has ended.
        if keepalive.rival == Some(self.incarnation) {
            let older = self.is_older_than(now, keepalive);
            let probing = self.first_up.is_some_and(|up| now < up + PROBE);
            out.push(Action::Conflict {
                host: keepalive.host.clone(),
                incarnation: keepalive.incarnation,
                stop: probing && !older,
            });
            if older {
                // It heard of us before we heard of it, and stands back only for one that speaks of it.
                self.rival = Some(keepalive.incarnation);
                self.beat_soon(now);
            }
        } else {
            self.rival = Some(keepalive.incarnation);
            self.beat_soon(now);
        }
    }

    /// Which of two nodes with one name came first. Both must come to the same answer, so ages that a slow network could have mixed up
    /// do not decide.
    fn is_older_than(&self, now: Instant, other: &Keepalive) -> bool {
        let mine = now.saturating_duration_since(self.started);
        let theirs = Duration::from_millis(other.uptime_ms);
        if mine.abs_diff(theirs) < SAME_AGE {
            self.incarnation < other.incarnation
        } else {
            mine > theirs
        }
    }
}
